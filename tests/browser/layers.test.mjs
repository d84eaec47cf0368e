// A native endpoint sends a browser its picture in the size that the browser shows.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { ask, join, slotOf } from './lib/room.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const ROOM = 'standup';

/** Notes every size that the picture has, when it first has it, and the longest time without a new picture. */
function watch() {
  const video = document.querySelector('video.remote-picture');
  const seen = { sizes: [], changed: 0, pictures: 0, gap: 0 };
  window.seen = seen;
  let last = performance.now();
  const look = (now, { height }) => {
    seen.gap = Math.max(seen.gap, now - last);
    last = now;
    seen.pictures += 1;
    if (seen.sizes.at(-1) !== height) {
      seen.sizes.push(height);
      seen.changed = now;
    }
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
}

test('a native publisher is received small where it is shown small, and large where large', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const [audio, video] = [path.join(folder, 'anna.wav'), path.join(folder, 'anna.y4m')];
  await writeVoice(audio, 8, 1);
  await writePictures(video, { width: 320, height: 180, frames: 60 });
  const { page, problems } = await launch(t, { folder, name: 'anna', audio, video });
  await page.goto(server.url);
  await join(page, { name: 'anna', room: ROOM });
  halloo(t, [
    ...['join', '--as', 'robot', '--server', server.url, '--room', ROOM, '--json', '--audio-in', 'silence', '--audio-out', 'none'],
    ...['--video-in', 'pattern', '--pattern-size', '1280x720', '--duration', '100s'],
  ]);
  const { value: robot } = await page
    .waitForFunction(() => {
      const [number] = [...window.participant.participants.keys()].filter((each) => each !== window.participant.you);
      return number === undefined ? null : { value: number };
    })
    .then((found) => found.jsonValue());
  const tile = (width, height) =>
    ask(page, 'subscribe', { show: [{ source: { participant: robot, kind: 'camera' }, size: { width, height }, pinned: true }] });
  const shown = async (height) => {
    const start = Date.now();
    await page.waitForFunction((height) => document.querySelector('video.remote-picture').videoHeight === height, height);
    return Date.now() - start;
  };
  await tile(1280, 720);
  await slotOf(page, robot, 'camera');
  await shown(720);
  await page.evaluate(watch);
  // What the path carries is found out first; until then the size may change by itself.
  await page.waitForFunction(() => window.seen.sizes.at(-1) === 720 && performance.now() - window.seen.changed > 3_000);
  await page.evaluate(() => Object.assign(window.seen, { sizes: [720], gap: 0 }));
  const figures = {};
  for (const [width, height, name] of [[160, 90, 'down'], [1280, 720, 'up'], [640, 360, 'middle'], [1280, 720, 'again']]) {
    await tile(width, height);
    figures[name] = await shown(Math.max(height, 180));
    // Long enough for the publisher to be told that nobody receives the large layers any more.
    await page.waitForTimeout(3_000);
  }
  const seen = await page.evaluate(() => window.seen);
  t.diagnostic(JSON.stringify({ ...figures, ...seen }));
  for (const [name, ms] of Object.entries(figures)) assert.ok(ms < 2_000, `${name} after ${ms} ms`);
  assert.deepEqual(seen.sizes, [720, 180, 720, 360, 720]);
  assert.ok(seen.gap < 1_000, `no picture for ${seen.gap} ms`);
  assert.deepEqual(problems, []);
});

// A room of twelve of all kinds: two browsers with the page, two native endpoints, and eight by the protocol alone.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeard, assertHeardInRoom, assertSaw } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { gather, joinCrowd } from './lib/crowd.mjs';
import { joinRoom, observe, pictureOf, signIn, tile } from './lib/page.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 150_000 };
const ROOM = 'standup';
const LOOP = 240;
const SIZE = { width: 320, height: 180, frames: LOOP };
const PAGES = ['alice', 'bob'];
const NATIVES = ['robot', 'dalek'];
const CROWD = ['c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8'];

test('a room of twelve: everybody is seen, who speaks is heard, and the page has them on one screen', options, async (t) => {
  const folder = await scratch(t);
  const people = {};
  for (const [index, name] of [...PAGES, ...NATIVES].entries()) {
    const [says, shows] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    const first = 1_000 * (index + 1);
    // Three voices, as many as are heard at once.
    const voice = name === 'bob' ? await writeVoice(says, 0.05, 9) : await writeVoice(says, 8, index + 1);
    await writePictures(shows, { ...SIZE, first, hue: 30 * index });
    people[name] = { says, shows, voice, first, got: path.join(folder, `${name}-got`) };
  }
  const { alice, robot, dalek } = people;
  const server = await serve(t, { folder });
  const crowd = await launch(t, { folder, name: 'crowd', devices: false });
  await crowd.page.goto(server.url);
  await gather(crowd.page, { size: [320, 180], fps: 8 });
  for (const name of CROWD) await joinCrowd(crowd.page, { name, room: ROOM, pictures: 1 });
  const pages = {};
  for (const name of PAGES) {
    const { page, problems } = await launch(t, { folder, name, audio: people[name].says, video: people[name].shows });
    await signIn(page, server.url, name);
    await joinRoom(page, ROOM);
    pages[name] = { page, problems };
  }
  const natives = NATIVES.map((name) => {
    const { says, shows, got } = people[name];
    const flags = ['--server', server.url.replace(/^http/, 'ws'), '--as', name, '--room', ROOM, '--record', got];
    return halloo(t, ['join', ...flags, '--audio-in', says, '--video-in', shows, '--audio-out', 'none', '--slots', '12', '--duration', '22s', '--json']);
  });

  const { page } = pages.alice;
  await page.getByText('12 people').waitFor();
  // Nine at first, and then all on one page: more slots by a further offer.
  await page.getByText('1 of 2').waitFor();
  await page.getByRole('button', { name: 'Smaller pictures, more on a page' }).click();
  await page.getByText('1 of 2').waitFor({ state: 'detached' });
  for (const name of ['bob', ...NATIVES, ...CROWD]) {
    await pictureOf(page, name).catch((cause) => {
      throw new Error(`no picture of ${name}`, { cause });
    });
  }
  for (const [name, other] of [['robot', 'dalek'], ['dalek', 'robot']]) {
    const { pictures, sounds } = await observe(page, 3_000, { picture: await pictureOf(page, name) });
    const figures = {
      ...assertSaw(pictures, { seconds: 3, loop: LOOP, first: people[name].first, minFps: 5 }),
      ...assertHeardInRoom(sounds, people[name].voice, people[other].voice),
    };
    t.diagnostic(`alice of ${name}: ${JSON.stringify(figures)}`);
  }
  await tile(pages.bob.page, 'alice').locator('video.tile-picture').waitFor();

  for (const [index, name] of NATIVES.entries()) {
    const { code } = await natives[index].exited;
    assert.equal(code, 0, natives[index].stderr());
    const report = natives[index].lines.at(-1);
    const met = report.participants.map((each) => each.user);
    assert.deepEqual(met.toSorted(), [...PAGES, ...NATIVES.filter((each) => each !== name), ...CROWD].toSorted());
    const seen = report.participants.map((each) => each.stats.camera.frames_decoded);
    t.diagnostic(`${name} decoded of each: ${seen.join(', ')}`);
    assert.ok(Math.min(...seen) > 20, `${name} saw of the others ${seen.join(', ')} pictures`);
    const folder = path.join(people[name].got, report.participants.find((each) => each.user === 'alice').folder);
    assertHeard(await readWav(path.join(folder, 'received.wav')), alice.voice, (name === 'robot' ? dalek : robot).voice);
    const { numbers } = await framesOf(path.join(folder, 'received.y4m'));
    const distinct = new Set(numbers.filter((number) => number >= alice.first && number < alice.first + LOOP));
    assert.ok(distinct.size > 40, `${distinct.size} of alice's pictures`);
  }
  assert.deepEqual([crowd, ...Object.values(pages)].flatMap(({ problems }) => problems), []);
});

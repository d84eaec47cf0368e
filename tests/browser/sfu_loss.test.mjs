// Pictures over a way that loses packets, by the protocol alone.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';
import { random } from './lib/random.mjs';
import { mediaAddress, relay } from './lib/relay.mjs';
import { ask, join, slotOf } from './lib/room.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 180_000 };
const ROOM = 'standup';
const LOSS_MS = 60_000;
/** Tiles of each of the three layers' heights. */
const TILES = [[160, 90], [320, 180], [640, 360]];

test('a tenth of the packets is lost for a minute while layers change: no picture stands for a second', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const pages = {};
  for (const [index, name] of ['alice', 'bob'].entries()) {
    const [audio, video] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    await writeVoice(audio, 8, index + 1);
    await writePictures(video, { width: 640, height: 360, frames: 240, first: 1_000, hue: 40 * index });
    pages[name] = await launch(t, { folder, name, audio, video });
    await pages[name].page.goto(server.url);
  }
  const { alice, bob } = pages;
  const encodings = [{ scalabilityMode: 'L3T3_KEY', maxBitrate: 1_200_000 }];
  const { you, answer } = await join(alice.page, { name: 'alice', room: ROOM, encodings, size: [640, 360] });
  const way = await relay(t, { to: mediaAddress(answer), down: { delayMs: 20 }, seed: 5 });
  await join(bob.page, { name: 'bob', room: ROOM, via: way.port });
  const mid = await slotOf(bob.page, you, 'camera');
  const tile = ([width, height]) =>
    ask(bob.page, 'subscribe', {
      show: [{ source: { participant: you, kind: 'camera' }, size: { width, height }, pinned: true }],
    });
  await tile(TILES[2]);
  await bob.page.waitForFunction(() => document.querySelector('video').videoHeight === 360);

  way.down.set({ loss: 0.1 });
  const before = await figures(bob.page, mid);
  await watch(bob.page);
  const next = random(3);
  const over = performance.now() + LOSS_MS;
  let at = 2;
  let changes = 0;
  while (performance.now() < over) {
    await bob.page.waitForTimeout(1_500 + 2_500 * next());
    at = (at + 1 + Math.floor(2 * next())) % TILES.length;
    await tile(TILES[at]);
    changes += 1;
  }
  const { gaps, heights, switches } = await bob.page.evaluate(() => window.watched());
  const after = await figures(bob.page, mid);
  const { packets, lost } = way.down.counts;
  const spent = {
    changes,
    heights,
    switches,
    longest: gaps.toSorted((a, b) => b - a).slice(0, 5).map(Math.round),
    pictures: gaps.length,
    lost: `${((100 * lost) / packets).toFixed(1)} %`,
    freezes: after.freezeCount - before.freezeCount,
    key_frames: after.keyFramesDecoded - before.keyFramesDecoded,
    retransmitted: after.retransmittedPacketsReceived - (before.retransmittedPacketsReceived ?? 0),
    pli: after.pliCount - before.pliCount,
    nack: after.nackCount - before.nackCount,
  };
  t.diagnostic(JSON.stringify(spent));
  assert.ok(lost / packets > 0.08, 'the way loses packets');
  assert.deepEqual(heights, [90, 180, 360], 'all layers were shown');
  assert.ok(gaps.length > (LOSS_MS / 1_000) * 5, `${gaps.length} pictures`);
  assert.ok(Math.max(...gaps) < 1_000, `a picture stood for ${Math.max(...gaps)} ms`);
  assert.equal(await bob.page.evaluate(() => window.participant.descriptions), 1);
});

/** From now on notes when each picture is presented. `window.watched()` gives the time each stood, and their heights. */
function watch(page) {
  return page.evaluate(() => {
    const video = document.querySelector('video');
    const times = [performance.now()];
    const heights = new Set();
    let over = false;
    let [last, switches] = [0, 0];
    const look = (now, { height }) => {
      if (over) return;
      times.push(performance.now());
      heights.add(height);
      if (height !== last) switches += 1;
      last = height;
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    window.watched = () => {
      over = true;
      times.push(performance.now());
      return {
        gaps: times.slice(1).map((time, index) => time - times[index]),
        switches,
        heights: [...heights].toSorted((a, b) => a - b),
      };
    };
  });
}

function figures(page, mid) {
  return page.evaluate(async (mid) => {
    const stats = [...(await window.participant.pc.getStats()).values()];
    return stats.find((stat) => stat.type === 'inbound-rtp' && stat.kind === 'video' && stat.mid === mid);
  }, mid);
}

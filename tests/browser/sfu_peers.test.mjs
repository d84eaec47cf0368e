// Browsers in a room with other kinds of participants: libwebrtc (npm's @roamhq/wrtc), and native endpoints (`halloo join`).

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeard, assertHeardInRoom, assertSaw } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { libwebrtc } from './lib/libwebrtc_process.mjs';
import { joinRoom, observe, pictureOf, signIn, tile } from './lib/page.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { join, slotOf } from './lib/room.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const LOOP = 240;
const ROOM = 'standup';
const SIZE = { width: 320, height: 180, frames: LOOP };

/** A server, and clips for these. */
async function prepare(t, names) {
  const folder = await scratch(t);
  const people = {};
  for (const [index, name] of names.entries()) {
    const [says, shows] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    const first = 1_000 * (index + 1);
    const voice = await writeVoice(says, 8, index + 1);
    await writePictures(shows, { ...SIZE, first, hue: 30 * index });
    people[name] = { name, says, shows, voice, first, got: path.join(folder, `${name}-got`) };
  }
  return { folder, people, server: await serve(t, { folder }) };
}

/** What a program's command line says of who it is and what it sends. */
function flags(server, { name, says, shows, got }) {
  const where = ['--server', server.url.replace(/^http/, 'ws'), '--as', name, '--room', ROOM, '--record', got];
  return [...where, '--audio-in', says, '--video-in', shows];
}

/** Fails unless a folder's recordings are what this one said and showed. */
async function assertRecorded(folder, from, other, least) {
  const heard = assertHeard(await readWav(path.join(folder, 'received.wav')), from.voice, other.voice);
  const { numbers } = await framesOf(path.join(folder, 'received.y4m'));
  const seen = new Set(numbers.filter((number) => number !== null));
  for (const number of seen) {
    assert.ok(number >= from.first && number < from.first + LOOP, `frame ${number} is not of ${from.name}'s clip`);
  }
  // How many a second depends on the machine.
  assert.ok(seen.size >= least, `${seen.size} distinct pictures of ${from.name}`);
  return { ...heard, seen: seen.size };
}

test('libwebrtc and a browser in a room hear and see each other', options, async (t) => {
  const { folder, server, people } = await prepare(t, ['anna', 'lib']);
  const { anna, lib } = people;
  const { page, problems } = await launch(t, { folder, name: 'anna', audio: anna.says, video: anna.shows });
  await page.goto(server.url);
  await join(page, { name: 'anna', room: ROOM });
  const program = libwebrtc(t, ['join', ...flags(server, lib), '--duration', '8']);
  const number = await page.waitForFunction(
    () => [...window.participant.participants.values()].find((each) => each.user === 'lib')?.participant,
  );
  await slotOf(page, await number.jsonValue(), 'camera');
  await page.waitForTimeout(1_500);
  const observed = await observe(page, 3_000);
  const atAnna = {
    ...assertHeard(observed, lib.voice, anna.voice),
    ...assertSaw(observed.pictures, { seconds: 3, loop: LOOP, first: lib.first, minFps: 6 }),
  };
  const report = await program.report();
  assert.equal(report.error, undefined);
  t.diagnostic(JSON.stringify({ atAnna, offered: report.offered, stats: report.stats.codecs, sizes: report.sizes }));
  assert.deepEqual(report.stats.codecs, { received: ['audio/opus', 'video/AV1'], sent: ['audio/opus', 'video/AV1'] });
  t.diagnostic(JSON.stringify({ atLib: await assertRecorded(lib.got, anna, lib, 30) }));
  assert.deepEqual(problems, []);
});

test('a browser and two native endpoints meet in a room: each sees and hears each', options, async (t) => {
  const { folder, server, people } = await prepare(t, ['anna', 'robot', 'dalek']);
  const { anna, robot, dalek } = people;
  const { page, problems } = await launch(t, { folder, name: 'anna', audio: anna.says, video: anna.shows });
  await signIn(page, server.url, 'anna');
  await joinRoom(page, ROOM);
  const natives = [robot, dalek].map((each) =>
    halloo(t, ['join', ...flags(server, each), '--audio-out', 'none', '--duration', '14s', '--json']),
  );
  for (const { name } of [robot, dalek]) await tile(page, name).waitFor();
  for (const [each, other] of [[robot, dalek], [dalek, robot]]) {
    const picture = await pictureOf(page, each.name);
    await page.waitForTimeout(1_000);
    const { pictures, sounds } = await observe(page, 3_000, { picture });
    const seen = assertSaw(pictures, { seconds: 3, loop: LOOP, first: each.first, minFps: 6 });
    t.diagnostic(`anna of ${each.name}: ${JSON.stringify({ ...seen, ...assertHeardInRoom(sounds, each.voice, other.voice) })}`);
  }
  for (const [index, me] of [robot, dalek].entries()) {
    const { code } = await natives[index].exited;
    assert.equal(code, 0, natives[index].stderr());
    const report = natives[index].lines.at(-1);
    assert.equal(report.connected, true);
    const [, other] = index === 0 ? [robot, dalek] : [dalek, robot];
    for (const [from, wrong] of [[anna, other], [other, anna]]) {
      const met = report.participants.find((each) => each.user === from.name);
      assert.ok(met, `${me.name} met ${from.name}`);
      const got = await assertRecorded(path.join(me.got, met.folder), from, wrong, 40);
      t.diagnostic(`${me.name} of ${from.name}: ${JSON.stringify(got)}`);
    }
  }
  assert.deepEqual(problems, []);
});

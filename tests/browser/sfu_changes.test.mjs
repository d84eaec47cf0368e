// A room in which people come, go and speak in turn, by the protocol alone: nobody negotiates a second time.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { gather, joinCrowd, leaveCrowd, speak } from './lib/crowd.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';
import { random } from './lib/random.mjs';
import { contributors, join, slotOf } from './lib/room.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 180_000 };
const ROOM = 'standup';
const NAMES = ['bob', 'carol', 'dave', 'erin', 'frank'];
const TURNS = 50;

test('fifty joins, leaves and speaker switches, and one description', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const [audio, video] = [path.join(folder, 'alice.wav'), path.join(folder, 'alice.y4m')];
  // Silence: alice listens.
  await writeVoice(audio, 0.05, 1);
  await writePictures(video, { width: 320, height: 180, frames: 60, first: 1_000 });
  const alice = await launch(t, { folder, name: 'alice', audio, video });
  const others = await launch(t, { folder, name: 'others', devices: false });
  await alice.page.goto(server.url);
  await others.page.goto(server.url);
  await gather(others.page);
  await join(alice.page, { name: 'alice', room: ROOM });

  const next = random(11);
  const below = (limit) => Math.floor(next() * limit);
  /** The number of each who is inside. */
  const inside = new Map();
  let speaking = null;
  const done = { join: 0, leave: 0, switch: 0 };
  const shutUp = async () => {
    if (speaking !== null) await speak(others.page, speaking, false);
    speaking = null;
  };
  for (let turn = 0; turn < TURNS; turn++) {
    const name = NAMES[below(NAMES.length)];
    const number = inside.get(name);
    if (number === undefined) {
      const { you } = await joinCrowd(others.page, { name, room: ROOM, pictures: 3 });
      inside.set(name, you);
      await slotOf(alice.page, you, 'camera');
      done.join += 1;
    } else if (speaking === name || below(3) === 0) {
      if (speaking === name) await shutUp();
      assert.equal(await leaveCrowd(others.page, name), 1, `descriptions of ${name}`);
      inside.delete(name);
      await alice.page.waitForFunction(
        (gone) => {
          const { participants, slots } = window.participant;
          return !participants.has(gone) && [...slots.values()].every((source) => source?.participant !== gone);
        },
        number,
      );
      done.leave += 1;
    } else {
      await shutUp();
      await speak(others.page, name, true);
      speaking = name;
      await alice.page.waitForFunction((who) => window.participant.speaker === who, number);
      await slotOf(alice.page, number, 'microphone');
      done.switch += 1;
    }
  }
  t.diagnostic(JSON.stringify({ ...done, inside: inside.size }));
  assert.ok(Math.min(...Object.values(done)) >= 5, 'each kind of change occurs often');

  // Those who are left are all received, each in the slot that says so.
  const before = await framesBySlot(alice.page);
  await alice.page.waitForTimeout(2_000);
  const after = await framesBySlot(alice.page);
  for (const [name, number] of inside) {
    const mid = await slotOf(alice.page, number, 'camera');
    assert.equal((await contributors(alice.page, mid))[0], 4 * number + 1, `whose packets ${name}'s slot gets`);
    assert.ok((after[mid] ?? 0) - (before[mid] ?? 0) >= 10, `pictures of ${name}: ${before[mid]} and then ${after[mid]}`);
  }
  assert.equal(await alice.page.evaluate(() => window.participant.descriptions), 1);
  const theirs = await others.page.evaluate(() => [...window.crowd.values()].map((each) => each.descriptions));
  assert.ok(theirs.every((count) => count === 1));
  assert.deepEqual([...alice.problems, ...others.problems], []);
});

/** How many pictures each slot has decoded. */
function framesBySlot(page) {
  return page.evaluate(async () => {
    const stats = [...(await window.participant.pc.getStats()).values()];
    const pictures = stats.filter((stat) => stat.type === 'inbound-rtp' && stat.kind === 'video');
    return Object.fromEntries(pictures.map((stat) => [stat.mid, stat.framesDecoded]));
  });
}

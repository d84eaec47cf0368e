// Two browsers call each other through the page that `halloo serve` serves.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeard, assertSaw, assertSilent } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { answer, call, connect, control, inCall, isIdle, observe, signIn } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';
import { atEnd } from './lib/cleanup.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const LOOP = 240;
const PICTURE = { width: 320, height: 180, frames: LOOP };

/** A server, and alice and bob signed in on it, each with a clip of their own. */
async function twoPeople(t) {
  const folder = await scratch(t);
  const file = (name) => path.join(folder, name);
  const [aliceVoice, bobVoice] = await Promise.all([
    writeVoice(file('alice.wav'), 8, 1),
    writeVoice(file('bob.wav'), 8, 2),
    writePictures(file('alice.y4m'), { ...PICTURE, first: 1_000 }),
    writePictures(file('bob.y4m'), { ...PICTURE, first: 2_000, hue: 40 }),
  ]);
  const server = await serve(t, { folder });
  const [alice, bob] = await Promise.all(
    ['alice', 'bob'].map((name) =>
      launch(t, { folder, name, audio: file(`${name}.wav`), video: file(`${name}.y4m`) }),
    ),
  );
  await signIn(alice.page, server.url, 'alice');
  await signIn(bob.page, server.url, 'bob');
  atEnd(t, () => assert.deepEqual([...alice.problems, ...bob.problems], [], 'errors on the page'));
  return { folder, server, alice: alice.page, bob: bob.page, aliceVoice, bobVoice };
}

/** Both sides at once: the sound and the pictures of `ms`. */
async function bothObserve(people, ms) {
  const [atAlice, atBob] = await Promise.all([observe(people.alice, ms), observe(people.bob, ms)]);
  return { atAlice, atBob };
}

function assertBothWays(people, { atAlice, atBob }, seconds) {
  const figures = {
    alice: {
      ...assertHeard(atAlice, people.bobVoice, people.aliceVoice),
      ...assertSaw(atAlice.pictures, { seconds, loop: LOOP, first: 2_000 }),
    },
    bob: {
      ...assertHeard(atBob, people.aliceVoice, people.bobVoice),
      ...assertSaw(atBob.pictures, { seconds, loop: LOOP, first: 1_000 }),
    },
  };
  return figures;
}

test('two browsers hear and see each other, mute, turn the camera off, and hang up', options, async (t) => {
  const people = await twoPeople(t);
  const { alice, bob } = people;
  await connect(alice, bob, 'bob');
  // The first second belongs to the bandwidth estimate.
  await bob.waitForTimeout(1_500);

  const figures = assertBothWays(people, await bothObserve(people, 4_000), 4);
  t.diagnostic(JSON.stringify(figures));

  await control(alice, 'Mute');
  await bob.getByText('Muted', { exact: true }).waitFor();
  await bob.waitForTimeout(500);
  assertSilent(await observe(bob, 1_000));
  await control(alice, 'Unmute');
  await bob.getByText('Muted', { exact: true }).waitFor({ state: 'detached' });
  await bob.waitForTimeout(300);
  assertHeard(await observe(bob, 3_000), people.aliceVoice, people.bobVoice);

  await control(alice, 'Turn camera off');
  await bob.getByText('alice’s camera is off').waitFor();
  await control(alice, 'Turn camera on');
  await bob.getByText('alice’s camera is off').waitFor({ state: 'detached' });
  await bob.getByLabel('alice’s picture').waitFor();
  assertSaw((await observe(bob, 2_000)).pictures, { seconds: 2, loop: LOOP, first: 1_000 });

  await bob.keyboard.press('i');
  const panel = bob.getByRole('dialog', { name: 'Connection' });
  await panel.getByText('AV1', { exact: true }).waitFor();
  await panel.getByText('opus', { exact: true }).waitFor();
  await bob.keyboard.press('Escape');

  await control(alice, 'Hang up');
  await isIdle(alice);
  await bob.getByRole('heading', { name: 'alice hung up' }).waitFor();
  await bob.getByRole('button', { name: 'Back to the list' }).click();
  await isIdle(bob);
});

test('a call with keys alone, answered without a camera', options, async (t) => {
  const people = await twoPeople(t);
  const { alice, bob } = people;
  await bob.getByRole('button', { name: 'Call alice without camera' }).focus();
  await bob.keyboard.press('Enter');
  await alice.getByRole('heading', { name: 'bob' }).waitFor();
  await alice.keyboard.press('a');
  await Promise.all([inCall(alice), inCall(bob)]);
  await alice.getByText('bob’s camera is off').waitFor();
  await bob.getByText('alice’s camera is off').waitFor();
  await alice.waitForTimeout(1_000);
  const { atAlice, atBob } = await bothObserve(people, 3_000);
  assertHeard(atAlice, people.bobVoice, people.aliceVoice);
  assertHeard(atBob, people.aliceVoice, people.bobVoice);
  // A camera turned on later needs no renegotiation.
  await bob.keyboard.press('v');
  await alice.getByText('bob’s camera is off').waitFor({ state: 'detached' });
  await alice.getByLabel('bob’s picture').waitFor();
  assertSaw((await observe(alice, 2_000)).pictures, { seconds: 2, loop: LOOP, first: 2_000 });
  await alice.keyboard.press('Control+h');
  await isIdle(alice);
  await bob.getByRole('heading', { name: 'alice hung up' }).waitFor();
});

test('declined, cancelled, offline: each ends in words', options, async (t) => {
  const { alice, bob } = await twoPeople(t);
  await call(alice, 'bob');
  await bob.getByRole('button', { name: 'Decline' }).click();
  await alice.getByRole('heading', { name: 'bob declined the call' }).waitFor();
  await alice.getByRole('button', { name: 'Back to the list' }).click();

  await call(alice, 'bob');
  await bob.getByRole('button', { name: 'Decline' }).waitFor();
  await alice.getByText('Ringing…').waitFor();
  await alice.keyboard.press('Escape');
  await isIdle(alice);
  await bob.getByRole('heading', { name: 'Missed call from alice' }).waitFor();
  await bob.getByRole('button', { name: 'Back to the list' }).click();

  // Gone between the list and the call.
  await bob.getByRole('button', { name: 'Sign out' }).click();
  await bob.getByLabel('Your name').waitFor();
  await alice.getByRole('heading', { name: 'Nobody else is here yet' }).waitFor();
});

test('both call each other at the same moment: one call comes of it', options, async (t) => {
  const people = await twoPeople(t);
  const { alice, bob } = people;
  await Promise.all([call(alice, 'bob'), call(bob, 'alice')]);
  await Promise.all([inCall(alice), inCall(bob)]);
  await alice.waitForTimeout(1_500);
  assertBothWays(people, await bothObserve(people, 3_000), 3);
});

test('the server restarts in mid-call: media goes on, and the call is whole again', options, async (t) => {
  const people = await twoPeople(t);
  const { alice, bob, server, folder } = people;
  await connect(alice, bob, 'bob');
  await alice.waitForTimeout(1_000);
  await server.stop('SIGKILL');
  await alice.getByText('The server cannot be reached; the call goes on.').waitFor();
  assertBothWays(people, await bothObserve(people, 3_000), 3);

  await serve(t, { folder, port: server.port });
  await alice.getByText('The server cannot be reached; the call goes on.').waitFor({ state: 'detached' });
  await bob.getByText('The server cannot be reached; the call goes on.').waitFor({ state: 'detached' });
  await control(alice, 'Mute');
  await bob.getByText('Muted', { exact: true }).waitFor();
  await control(bob, 'Hang up');
  await alice.getByRole('heading', { name: 'bob hung up' }).waitFor();
});

test('no microphone and no camera: the call goes on, and says so', options, async (t) => {
  const folder = await scratch(t);
  const bobVoice = await writeVoice(path.join(folder, 'bob.wav'), 8, 2);
  const server = await serve(t, { folder });
  const alice = await launch(t, { folder, name: 'alice', devices: false });
  const bob = await launch(t, { folder, name: 'bob', audio: path.join(folder, 'bob.wav') });
  await signIn(alice.page, server.url, 'alice');
  await signIn(bob.page, server.url, 'bob');
  await call(alice.page, 'bob');
  await alice.page.getByText('No microphone was found').waitFor();
  await alice.page.getByText('No camera was found').waitFor();
  await answer(bob.page);
  await Promise.all([inCall(alice.page), inCall(bob.page)]);
  await bob.page.getByText('Muted', { exact: true }).waitFor();
  await alice.page.waitForTimeout(1_000);
  assertHeard(await observe(alice.page, 3_000), bobVoice, bobVoice.toReversed());
});

test('a blocked permission is named, with what to do', options, async (t) => {
  const { bob, server, folder } = await twoPeople(t);
  const carol = await launch(t, { folder, name: 'carol', permission: false });
  await carol.context.clearPermissions();
  await carol.page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('denied', 'NotAllowedError'));
  });
  await signIn(carol.page, server.url, 'carol');
  await call(carol.page, 'bob');
  await carol.page.getByText('The browser blocks the microphone for this page.').waitFor();
  await bob.getByRole('button', { name: 'Decline' }).click();
});

// Browsers meet in a room through the page that `halloo serve` serves.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeardInRoom, assertSaw, assertSilent } from './lib/checks.mjs';
import { atEnd } from './lib/cleanup.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { control, isIdle, joinRoom, observe, passDoor, pictureOf, signIn, tile } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 240_000 };
const LOOP = 240;
const ROOM = 'standup';
const FIRST = { alice: 1_000, bob: 2_000, carol: 3_000 };

/** Counts the page's descriptions, one entry a connection, and gives it a drawn screen to share. */
function instrument() {
  window.described = [];
  const connections = new Map();
  const original = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (...args) {
    if (!connections.has(this)) connections.set(this, window.described.push(0) - 1);
    window.described[connections.get(this)] += 1;
    return original.apply(this, args);
  };
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const paint = canvas.getContext('2d');
    let turn = 0;
    setInterval(() => {
      // Four fields whose colours say that this is the screen.
      for (const [index, colour] of ['#c00', '#0a0', '#00c', '#cc0'].entries()) {
        paint.fillStyle = colour;
        paint.fillRect((index % 2) * 640, Math.floor(index / 2) * 360, 640, 360);
      }
      paint.fillStyle = '#fff';
      paint.fillRect((turn++ * 7) % 1240, 340, 40, 40);
    }, 66);
    return canvas.captureStream(15);
  };
}

/** A browser that knows no AV1. */
function forgetAv1() {
  for (const each of [RTCRtpSender, RTCRtpReceiver]) {
    const original = each.getCapabilities;
    each.getCapabilities = (kind) => {
      const { codecs, ...rest } = original.call(each, kind);
      return { ...rest, codecs: codecs.filter(({ mimeType }) => mimeType !== 'video/AV1') };
    };
  }
}

/** A server, and people signed in on it, each with a clip of their own. */
async function people(t, names, { withoutAv1 = null } = {}) {
  const folder = await scratch(t);
  const file = (name) => path.join(folder, name);
  const voices = {};
  await Promise.all(
    names.flatMap((name, index) => [
      writeVoice(file(`${name}.wav`), 8, index + 1).then((voice) => {
        voices[name] = voice;
      }),
      writePictures(file(`${name}.y4m`), { width: 320, height: 180, frames: LOOP, first: FIRST[name], hue: index * 20 }),
    ]),
  );
  const server = await serve(t, { folder });
  const pages = {};
  const problems = [];
  for (const name of names) {
    const browser = await launch(t, { folder, name, audio: file(`${name}.wav`), video: file(`${name}.y4m`) });
    await browser.page.addInitScript(instrument);
    if (name === withoutAv1) await browser.page.addInitScript(forgetAv1);
    problems.push(browser.problems);
    pages[name] = browser.page;
    await signIn(browser.page, server.url, name);
  }
  atEnd(t, () => assert.deepEqual(problems.flat(), [], 'errors on the page'));
  return { folder, server, voices, pages };
}

/** Fails unless `at` sees and hears `whom`, and not somebody else in their place. */
async function assertReceives({ pages, voices }, at, whom, other, seconds = 3) {
  const picture = await pictureOf(pages[at], whom);
  const seen = await observe(pages[at], seconds * 1_000, { picture });
  return {
    ...assertSaw(seen.pictures, { seconds, loop: LOOP, first: FIRST[whom], minFps: 8 }),
    ...assertHeardInRoom(seen.sounds, voices[whom], voices[other]),
  };
}

const described = (page) => page.evaluate(() => window.described);

test('three browsers in a room see and hear each other, and one negotiation serves for all of it', options, async (t) => {
  const all = await people(t, ['alice', 'bob', 'carol']);
  const { alice, bob, carol } = all.pages;
  for (const page of [alice, bob, carol]) await joinRoom(page, ROOM);
  await alice.getByText('3 people').waitFor();
  await alice.waitForTimeout(2_000);
  for (const [at, whom, other] of [
    ['alice', 'bob', 'carol'],
    ['alice', 'carol', 'bob'],
    ['bob', 'alice', 'carol'],
    ['carol', 'bob', 'alice'],
  ]) {
    t.diagnostic(`${at} of ${whom}: ${JSON.stringify(await assertReceives(all, at, whom, other))}`);
  }

  await control(bob, 'Mute');
  await tile(alice, 'bob').getByRole('img', { name: 'Muted' }).waitFor();
  await control(carol, 'Mute');
  await tile(alice, 'carol').getByRole('img', { name: 'Muted' }).waitFor();
  await alice.waitForTimeout(1_000);
  for (const sound of (await observe(alice, 1_500)).sounds) if (sound.samples.length > 0) assertSilent(sound);
  await control(bob, 'Unmute');
  await tile(alice, 'bob').getByRole('img', { name: 'Muted' }).waitFor({ state: 'detached' });
  await assertReceives(all, 'alice', 'bob', 'carol');

  await control(carol, 'Turn camera off');
  await tile(alice, 'carol').locator('video').waitFor({ state: 'detached' });
  await control(carol, 'Turn camera on');
  await pictureOf(alice, 'carol');

  await control(carol, 'Leave');
  await isIdle(carol);
  await tile(alice, 'carol').waitFor({ state: 'detached' });
  for (const page of [alice, bob]) assert.deepEqual(await described(page), [1]);
});

test('a screen is shared beside the camera, and shown large', options, async (t) => {
  const all = await people(t, ['alice', 'bob']);
  const { alice, bob } = all.pages;
  for (const page of [alice, bob]) await joinRoom(page, ROOM);
  await pictureOf(alice, 'bob');
  await control(bob, 'Share the screen');
  const picture = await pictureOf(alice, 'bob’s screen');
  await alice.locator('.tile-main', { has: alice.getByText('bob’s screen') }).waitFor();
  const colours = await alice.evaluate((selector) => {
    const video = document.querySelector(selector);
    const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 36 });
    const paint = canvas.getContext('2d');
    paint.drawImage(video, 0, 0, 64, 36);
    const strongest = (x, y) => {
      const [red, green, blue] = paint.getImageData(x, y, 1, 1).data;
      return [red > 100, green > 100, blue > 100].map(Number).join('');
    };
    return [strongest(16, 6), strongest(48, 6), strongest(16, 30), strongest(48, 30)];
  }, picture);
  assert.deepEqual(colours, ['100', '010', '001', '110']);
  await assertReceives(all, 'alice', 'bob', 'alice');
  await control(bob, 'Stop sharing the screen');
  await tile(alice, 'bob’s screen').waitFor({ state: 'detached' });
  for (const page of [alice, bob]) assert.deepEqual(await described(page), [1]);
});

test('fifty joins, leaves and switches, and setRemoteDescription is called once', options, async (t) => {
  const all = await people(t, ['alice', 'bob', 'carol']);
  const { alice, bob, carol } = all.pages;
  await joinRoom(alice, ROOM);
  let seed = 7;
  const random = (below) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const inside = new Set();
  for (let turn = 0; turn < 50; turn++) {
    const [name, page] = random(2) === 0 ? ['bob', bob] : ['carol', carol];
    if (!inside.has(name)) {
      await joinRoom(page, ROOM);
      inside.add(name);
    } else {
      switch (random(6)) {
        case 0:
        case 1:
          await control(page, 'Leave');
          await isIdle(page);
          inside.delete(name);
          break;
        case 2:
          await page.keyboard.press('m');
          break;
        case 3:
          await page.keyboard.press('v');
          break;
        case 4:
          await alice.keyboard.press('g');
          break;
        default:
          await tile(alice, name).hover();
          await tile(alice, name).getByRole('button', { name: /^(P|Unp)in / }).click();
      }
    }
    await alice.waitForTimeout(100 + random(300));
  }
  for (const [name, page] of [['bob', bob], ['carol', carol]]) {
    if (inside.has(name)) {
      await control(page, 'Leave');
      await isIdle(page);
    }
    await joinRoom(page, ROOM);
  }
  await alice.waitForTimeout(1_500);
  await assertReceives(all, 'alice', 'bob', 'carol');
  await assertReceives(all, 'alice', 'carol', 'bob');
  assert.deepEqual(await described(alice), [1]);
  assert.ok((await described(bob)).every((count) => count === 1));
});

test('a moderator mutes, locks and removes; each is said in words', options, async (t) => {
  const { pages } = await people(t, ['alice', 'bob', 'carol']);
  const { alice, bob, carol } = pages;
  for (const page of [alice, bob]) await joinRoom(page, ROOM);
  await tile(alice, 'bob').waitFor();
  await alice.keyboard.press('p');
  const panel = alice.getByRole('dialog', { name: /^In the room/ });
  await panel.getByRole('button', { name: 'Mute bob' }).click();
  await bob.getByText('A moderator muted you').waitFor();
  await bob.getByRole('button', { name: 'Unmute' }).waitFor();
  await tile(alice, 'bob').getByRole('img', { name: 'Muted' }).waitFor();

  await panel.getByRole('button', { name: 'Lock' }).click();
  await alice.getByText('Locked', { exact: true }).waitFor();
  await carol.getByLabel('Room name').fill(ROOM);
  await carol.keyboard.press('Enter');
  await carol.getByRole('button', { name: `Join ${ROOM}`, exact: true }).waitFor();

  await panel.getByRole('button', { name: 'Remove bob' }).click();
  await panel.getByRole('button', { name: 'Sure? Remove bob' }).click();
  await bob.getByRole('heading', { name: 'A moderator removed you from the room' }).waitFor();
  await tile(alice, 'bob').waitFor({ state: 'detached' });
  await panel.getByRole('button', { name: 'Unlock' }).click();
  await passDoor(carol, ROOM);
  await tile(alice, 'carol').waitFor();
});

test('an invitation leads to its room, past the sign-in', options, async (t) => {
  const all = await people(t, ['alice', 'bob']);
  const { alice, bob } = all.pages;
  await joinRoom(alice, ROOM);
  const invitation = await alice.evaluate(() => location.href);
  assert.ok(invitation.endsWith(`#/room/${ROOM}`), invitation);
  await bob.getByRole('button', { name: 'Sign out' }).click();
  await bob.goto(invitation);
  await bob.getByText(`You are invited to the room ${ROOM}.`).waitFor();
  await bob.getByLabel('Your name').fill('bob');
  await bob.getByRole('button', { name: 'Continue' }).click();
  await passDoor(bob, ROOM);
  await pictureOf(alice, 'bob');
  await bob.waitForTimeout(1_500);
  await assertReceives(all, 'bob', 'alice', 'bob');
});

test('a browser without AV1 hears and is heard, and says why there are no pictures', options, async (t) => {
  const all = await people(t, ['alice', 'bob'], { withoutAv1: 'bob' });
  const { alice, bob } = all.pages;
  for (const page of [alice, bob]) await joinRoom(page, ROOM);
  await tile(bob, 'alice').getByText('This browser cannot show AV1 pictures').waitFor();
  await tile(bob, 'You').getByText('This browser cannot send AV1 pictures').waitFor();
  await bob.getByRole('button', { name: 'This browser cannot send AV1 pictures' }).waitFor();
  await tile(alice, 'bob').waitFor();
  assert.equal(await tile(alice, 'bob').getByText('Waiting for picture…').count(), 0, 'nobody waits for what cannot come');
  await alice.waitForTimeout(1_500);
  for (const [at, whom, other] of [['alice', 'bob', 'alice'], ['bob', 'alice', 'bob']]) {
    const { sounds } = await observe(all.pages[at], 3_000);
    assertHeardInRoom(sounds, all.voices[whom], all.voices[other]);
  }
});

test('the server is killed and restarted: everybody is back in the room by themselves', options, async (t) => {
  const all = await people(t, ['alice', 'bob']);
  const { alice, bob } = all.pages;
  const { server, folder } = all;
  for (const page of [alice, bob]) await joinRoom(page, ROOM);
  await pictureOf(alice, 'bob');
  await server.stop('SIGKILL');
  await alice.getByText('The server cannot be reached').waitFor();
  await serve(t, { folder, port: server.port });
  const up = performance.now();
  const seesAgain = async (page, whom) => {
    await page.locator('.banner').waitFor({ state: 'detached' });
    await pictureOf(page, whom);
    return Math.round(performance.now() - up);
  };
  const took = await Promise.all([seesAgain(alice, 'bob'), seesAgain(bob, 'alice')]);
  t.diagnostic(`pictures are back ${took.join(' and ')} ms after the server`);
  assert.ok(Math.max(...took) <= 3_000, `pictures were back after ${took.join(' and ')} ms`);
  await alice.waitForTimeout(1_500);
  await assertReceives(all, 'alice', 'bob', 'alice');
  await assertReceives(all, 'bob', 'alice', 'bob');
});

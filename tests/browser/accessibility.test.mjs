// axe-core's rules on every screen, light and dark: names, roles, contrast, landmarks.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { answer, call, inCall, passDoor, signIn, tile } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PHONE = { viewport: { width: 360, height: 740 }, reducedMotion: 'reduce' };

/** Fails unless what the page shows now keeps to axe-core's rules, and fits. */
async function check(page, screen) {
  await page.waitForTimeout(400);
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' | ')}`);
  assert.deepEqual(found, [], screen);
  // What an element with hidden overflow loses is seen by no scroll bar.
  const outside = await page.evaluate(() => {
    const controls = [...document.querySelectorAll('button, a, input, select, li, [role="status"]')];
    return controls
      .filter((each) => each.checkVisibility() && !each.closest('.unseen'))
      .filter((each) => each.getBoundingClientRect().right > innerWidth + 1 || each.getBoundingClientRect().left < -1)
      .map((each) => each.outerHTML.slice(0, 200));
  });
  assert.deepEqual(outside, [], `${screen} is wider than a phone`);
}

for (const colorScheme of ['light', 'dark']) {
  test(`every screen is accessible (${colorScheme})`, options, async (t) => {
    const folder = await scratch(t);
    const server = await serve(t, { folder });
    const common = { folder, colorScheme, ...PHONE };
    const { page } = await launch(t, { ...common, name: 'anna' });
    const other = await launch(t, { ...common, name: 'bob' });
    await page.goto(server.url);
    await page.getByLabel('Your name').waitFor();
    await check(page, 'sign in');
    await signIn(page, server.url, 'anna');
    await check(page, 'nobody');
    await signIn(other.page, server.url, 'bob');
    await page.getByRole('button', { name: 'Call bob with camera' }).waitFor();
    await check(page, 'people');
    await page.getByRole('button', { name: 'Microphone, camera and speaker' }).click();
    await check(page, 'devices');
    await page.keyboard.press('Escape');
    await call(page, 'bob');
    await page.getByText('Ringing…').waitFor();
    await check(page, 'outgoing');
    await answer(other.page, { camera: false });
    await Promise.all([inCall(page), inCall(other.page)]);
    await page.getByText('bob’s camera is off').waitFor();
    await check(page, 'call');
    await page.keyboard.press('i');
    await page.getByRole('dialog', { name: 'Connection' }).waitFor();
    await check(page, 'statistics');
    await page.keyboard.press('Escape');
    await page.keyboard.press('s');
    await page.getByRole('dialog', { name: 'Devices' }).waitFor();
    await check(page, 'devices in the call');
    await page.keyboard.press('Escape');
    await other.page.keyboard.press('Control+h');
    await page.getByRole('button', { name: 'Back to the list' }).waitFor();
    await check(page, 'ended');
    await page.keyboard.press('Escape');
    await call(other.page, 'anna');
    await page.getByRole('button', { name: 'Decline' }).waitFor();
    await check(page, 'incoming');
    await page.getByRole('button', { name: 'Decline' }).click();
  });
}

for (const colorScheme of ['light', 'dark']) {
  test(`every screen of a room is accessible (${colorScheme})`, options, async (t) => {
    const folder = await scratch(t);
    const server = await serve(t, { folder });
    const common = { folder, colorScheme, ...PHONE };
    const { page } = await launch(t, { ...common, name: 'anna' });
    const { page: other } = await launch(t, { ...common, name: 'bob' });
    await other.addInitScript(drawnScreen);
    const room = 'a-room-with-a-name-of-some-length';
    for (const [each, name] of [[page, 'anna'], [other, 'bob']]) {
      await each.goto(`${server.url}#/room/${room}`);
      await each.getByLabel('Your name').waitFor();
      if (each === page) await check(page, 'invited');
      await each.getByLabel('Your name').fill(name);
      await each.getByRole('button', { name: 'Continue' }).click();
      await each.getByRole('button', { name: `Join ${room}` }).waitFor();
    }
    await check(page, 'door');
    await passDoor(page, room);
    await page.getByRole('button', { name: 'Copy invite link' }).waitFor();
    await check(page, 'alone');
    await passDoor(other, room);
    await tile(page, 'bob').locator('video.tile-picture').waitFor();
    await check(page, 'grid');
    await page.keyboard.press('g');
    await page.locator('.tile-main').waitFor();
    await check(page, 'speaker view');
    await page.keyboard.press('p');
    await page.getByRole('dialog', { name: /^In the room/ }).waitFor();
    await check(page, 'participants');
    await page.getByRole('button', { name: 'Remove bob' }).click();
    await page.getByRole('button', { name: 'Lock', exact: true }).click();
    await page.getByText('Locked', { exact: true }).waitFor({ state: 'attached' });
    await check(page, 'a locked room, and somebody about to be removed');
    await page.keyboard.press('Escape');
    await other.keyboard.press('v');
    await other.keyboard.press('m');
    await tile(page, 'bob').locator('video').waitFor({ state: 'detached' });
    await check(page, 'camera off');
    await other.keyboard.press('d');
    await tile(page, 'bob’s screen').waitFor();
    await check(page, 'screen');
    await other.keyboard.press('p');
    await other.getByRole('button', { name: 'Remove anna' }).click();
    await other.getByRole('button', { name: 'Sure? Remove anna' }).click();
    await page.getByRole('heading', { name: 'A moderator removed you from the room' }).waitFor();
    await check(page, 'removed');
  });
}

test('a room by keyboard alone', options, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const { page, problems } = await launch(t, { folder, name: 'anna' });
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent);
  await page.goto(server.url);
  // The name has the focus as soon as the page is there.
  await page.locator('input:focus').waitFor();
  await page.keyboard.type('anna');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
  await page.getByLabel('Room name').focus();
  await page.keyboard.type('standup');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Join standup' }).waitFor();
  assert.equal(await focused(), 'Join standup', 'the door’s first choice has the focus');
  await page.keyboard.press('Enter');
  await page.getByRole('main', { name: 'Room standup' }).waitFor();
  // The controls say what they do once the devices are open.
  await page.getByRole('button', { name: 'Mute', exact: true }).waitFor();
  await page.getByRole('button', { name: 'Turn camera off' }).waitFor();

  // Each control is reached by tabbing, once, and in the order in which they are seen.
  const names = [];
  for (let press = 0; press < 30; press++) {
    await page.keyboard.press('Tab');
    const name = await focused();
    if (names.includes(name)) break;
    names.push(name);
  }
  const expected = ['Copy invite link', 'Show the speaker large', 'Participants', 'Pin You', 'Mute', 'Turn camera off'];
  expected.push('Share the screen', 'Devices', 'Full screen', 'Leave');
  assert.deepEqual(names.filter((name) => expected.includes(name)), expected);

  await page.keyboard.press('m');
  await page.getByRole('button', { name: 'Unmute' }).waitFor();
  await page.keyboard.press('v');
  await page.getByRole('button', { name: 'Turn camera on' }).waitFor();
  await page.getByRole('button', { name: 'Participants' }).focus();
  await page.keyboard.press('Enter');
  const panel = page.getByRole('dialog', { name: /^In the room/ });
  await panel.waitFor();
  assert.ok(await panel.evaluate((element) => element.contains(document.activeElement)), 'the panel has the focus');
  await page.keyboard.press('Escape');
  await panel.waitFor({ state: 'detached' });
  assert.equal(await focused(), 'Participants', 'the focus is back where it was');
  await page.keyboard.press('Control+h');
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
  assert.deepEqual(problems, []);
});

/** A screen to share where nobody can choose one. */
function drawnScreen() {
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const paint = canvas.getContext('2d');
    let turn = 0;
    setInterval(() => {
      paint.fillStyle = '#fff';
      paint.fillRect(0, 0, 1280, 720);
      paint.fillStyle = '#046';
      paint.fillRect((turn++ * 9) % 1200, 300, 80, 80);
    }, 100);
    return canvas.captureStream(10);
  };
}

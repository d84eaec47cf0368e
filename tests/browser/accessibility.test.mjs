// axe-core's rules on every screen, light and dark: names, roles, contrast, landmarks.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { answer, call, inCall, signIn } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

for (const colorScheme of ['light', 'dark']) {
  test(`every screen is accessible (${colorScheme})`, options, async (t) => {
    const folder = await scratch(t);
    const axe = await readFile(AXE, 'utf8');
    const server = await serve(t, { folder });
    const common = { folder, colorScheme, viewport: { width: 360, height: 740 }, reducedMotion: 'reduce' };
    const { page } = await launch(t, { ...common, name: 'anna' });
    const other = await launch(t, { ...common, name: 'bob' });
    const check = async (screen) => {
      await page.waitForTimeout(400);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document));
      const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' | ')}`);
      assert.deepEqual(found, [], screen);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      assert.equal(wide, false, `${screen} is wider than a phone`);
    };
    await page.goto(server.url);
    await page.getByLabel('Your name').waitFor();
    await check('sign in');
    await signIn(page, server.url, 'anna');
    await check('nobody');
    await signIn(other.page, server.url, 'bob');
    await page.getByRole('button', { name: 'Call bob with camera' }).waitFor();
    await check('people');
    await page.getByRole('button', { name: 'Microphone, camera and speaker' }).click();
    await check('devices');
    await page.keyboard.press('Escape');
    await call(page, 'bob');
    await page.getByText('Ringing…').waitFor();
    await check('outgoing');
    await answer(other.page, { camera: false });
    await Promise.all([inCall(page), inCall(other.page)]);
    await page.getByText('bob’s camera is off').waitFor();
    await check('call');
    await page.keyboard.press('i');
    await page.getByRole('dialog', { name: 'Connection' }).waitFor();
    await check('statistics');
    await page.keyboard.press('Escape');
    await page.keyboard.press('s');
    await page.getByRole('dialog', { name: 'Devices' }).waitFor();
    await check('devices in the call');
    await page.keyboard.press('Escape');
    await other.page.keyboard.press('Control+h');
    await page.getByRole('button', { name: 'Back to the list' }).waitFor();
    await check('ended');
    await page.keyboard.press('Escape');
    await call(other.page, 'anna');
    await page.getByRole('button', { name: 'Decline' }).waitFor();
    await check('incoming');
    await page.getByRole('button', { name: 'Decline' }).click();
  });
}

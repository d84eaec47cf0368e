// Pictures of every screen, at desk and phone width, light and dark: `npm run screens`, then look into artifacts/.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './lib/browser.mjs';
import { drawnCamera } from './lib/drawn.mjs';
import { answer, call, inCall, signIn } from './lib/page.mjs';
import { serve } from './lib/process.mjs';

const OUT = fileURLToPath(new URL('./artifacts/', import.meta.url));
const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };

async function walk({ viewport, scheme, label, server, folder, test }) {
  const at = async (name, person, hue) => {
    const options = { folder, name: `${label}-${name}`, viewport: person === 'me' ? viewport : DESK };
    const browser = await launch(test, { ...options, colorScheme: scheme });
    const phone = viewport.width < 500;
    await browser.page.addInitScript(drawnCamera, {
      hue,
      width: phone && person !== 'me' ? 720 : 1280,
      height: phone && person !== 'me' ? 1280 : 720,
    });
    return browser.page;
  };
  const me = await at('Anna', 'me', 200);
  const other = await at('Miriam', 'other', 25);
  const shot = async (name) => {
    await me.waitForTimeout(600);
    await me.screenshot({ path: path.join(OUT, `${label}-${name}.png`) });
  };
  await me.goto(server.url);
  await shot('1-sign-in');
  await signIn(me, server.url, `Anna ${label}`);
  await shot('2-nobody');
  const theirs = `Miriam.Okafor-${label}`;
  await signIn(other, server.url, theirs);
  await me.getByRole('button', { name: `Call ${theirs} with camera` }).waitFor();
  await shot('3-people');
  await me.getByRole('button', { name: 'Microphone, camera and speaker' }).click();
  await shot('4-devices');
  await me.keyboard.press('Escape');
  await call(me, theirs);
  await me.getByText('Ringing…').waitFor();
  await shot('5-outgoing');
  await answer(other);
  await Promise.all([inCall(me), inCall(other)]);
  await me.waitForTimeout(4_000);
  await me.mouse.move(200, 300);
  await me.mouse.move(210, 310);
  await shot('6-call');
  await me.keyboard.press('i');
  await shot('7-statistics');
  await me.keyboard.press('i');
  await me.keyboard.press('s');
  await shot('8-devices-in-call');
  await me.keyboard.press('Escape');
  await me.keyboard.press('m');
  await other.keyboard.press('v');
  await other.keyboard.press('m');
  await me.getByText('camera is off').waitFor();
  await shot('9-camera-off');
  await other.keyboard.press('Control+h');
  await me.getByRole('button', { name: 'Back to the list' }).waitFor();
  await shot('10-ended');
  await me.keyboard.press('Escape');
  await call(other, `Anna.${label}`);
  await me.getByRole('button', { name: 'Decline' }).waitFor();
  await shot('11-incoming');
  await me.keyboard.press('d');
  await me.getByRole('button', { name: 'Sign out' }).waitFor();
  await shot('12-notice');
}

const folder = await mkdtemp(path.join(tmpdir(), 'halloo-screens-'));
const ends = [];
const test = { after: (end) => ends.push(end) };
try {
  await mkdir(OUT, { recursive: true });
  const server = await serve(test, { folder });
  const only = process.argv[2];
  for (const [viewport, scheme, label] of [
    [DESK, 'light', 'desk'],
    [PHONE, 'light', 'phone'],
    [DESK, 'dark', 'desk-dark'],
    [PHONE, 'dark', 'phone-dark'],
  ]) {
    if (only === undefined || only === label) await walk({ viewport, scheme, label, server, folder, test });
  }
} finally {
  for (const end of ends.reverse()) await end();
  await rm(folder, { recursive: true, force: true });
}

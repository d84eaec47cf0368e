// A Chromium of its own per participant, with clips for microphone and camera.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { atEnd } from './cleanup.mjs';

/** A folder whose page is tried in the place of the binary's: `WEB=../../web/dist` saves building that anew. */
const { WEB } = process.env;
const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

/** Why the tests that need the browser cannot run, or `false`. */
export const missingBrowser = existsSync(CHROMIUM)
  ? false
  : `${CHROMIUM} is not installed (Debian: apt-get install chromium)`;

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
  // Two participants share one machine: neither is "in the background".
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
];

/**
 * Starts a browser with an empty profile. `audio` and `video` are clips for the devices; `devices: false` is a machine
 * with neither microphone nor camera; `permission: false` refuses them.
 */
export async function launch(
  test,
  { folder, name, audio, video, devices = true, permission = true, viewport = { width: 1280, height: 800 }, ...options },
) {
  const args = [...FLAGS];
  if (devices) args.push('--use-fake-device-for-media-stream');
  if (permission) args.push('--use-fake-ui-for-media-stream');
  if (audio) args.push(`--use-file-for-fake-audio-capture=${audio}`);
  if (video) args.push(`--use-file-for-fake-video-capture=${video}`);
  // What the test puts in comes from no address, and may not speak to one of this machine.
  if (WEB) args.push('--disable-features=LocalNetworkAccessChecks');
  const context = await chromium.launchPersistentContext(path.join(folder, `profile-${name}`), {
    executablePath: CHROMIUM,
    headless: true,
    args,
    ignoreDefaultArgs: ['--mute-audio'],
    viewport,
    ...options,
  });
  atEnd(test, async () => {
    // A page in a call asks whether to leave, which would hold up the browser's own end.
    await Promise.all(context.pages().map((each) => each.close({ runBeforeUnload: false })));
    await context.close();
  });
  if (WEB) {
    await context.route(/^[^?]*\/(assets\/[^?]*)?(\?.*)?$/, (route) => {
      const { pathname } = new URL(route.request().url());
      return route.fulfill({ path: path.join(WEB, pathname === '/' ? 'index.html' : pathname) });
    });
  }
  // Two clips at once are double talk throughout, which an echo canceller rightly takes for echo: leave the clips alone.
  await context.addInitScript(() => {
    const devices = navigator.mediaDevices;
    const original = devices?.getUserMedia.bind(devices);
    if (original === undefined) return;
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    devices.getUserMedia = (wanted) =>
      original(wanted.audio ? { ...wanted, audio: { ...(wanted.audio === true ? {} : wanted.audio), ...plain } } : wanted);
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    // The content security policy must fit the page.
    if (message.type() === 'error' && /Content Security Policy/.test(message.text())) problems.push(message.text());
  });
  page.setDefaultTimeout(15_000);
  return { context, page, problems };
}

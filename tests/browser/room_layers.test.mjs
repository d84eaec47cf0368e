// The page asks for what it shows, and sends what somebody shows.

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeardInRoom } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { joinRoom, observe, pictureOf, signIn } from './lib/page.mjs';
import { missingBinary, scratch, serve } from './lib/process.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const ROOM = 'standup';
const DESK = { width: 1280, height: 800 };
/** Its tiles need no more than the middle one of three layers. */
const SMALL = { width: 360, height: 420 };
const FULL = 360;
/** What never comes is no figure. */
const LATE_MS = 15_000;

for (const form of ['layers', 'encodings']) {
  test(`${form} follow the size of tiles, and a hidden page is sent sound alone`, options, (t) => follow(t, form));
}

async function follow(t, form) {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const pages = {};
  const voices = {};
  for (const [index, name] of ['alice', 'bob'].entries()) {
    const [audio, video] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    voices[name] = await writeVoice(audio, 8, index + 1);
    await writePictures(video, { width: 640, height: FULL, frames: 120, first: 1_000 * (index + 1) });
    const { page } = await launch(t, { folder, name, audio, video, viewport: DESK });
    await page.addInitScript(keepConnections);
    if (form === 'encodings') await page.addInitScript(withoutLayers);
    await signIn(page, server.url, name);
    await joinRoom(page, ROOM);
    pages[name] = page;
  }
  const { alice, bob } = pages;
  const picture = await pictureOf(alice, 'bob');
  await shows(alice, picture, FULL);

  let at = Date.now();
  await alice.setViewportSize(SMALL);
  const smaller = (await sendsBelow(bob, FULL)) - at;
  at = Date.now();
  await alice.setViewportSize(DESK);
  const larger = (await shows(alice, picture, FULL)) - at;

  at = await hide(alice, true);
  const silent = (await sendsBelow(bob, 0)) - at;
  const { sounds, pictures } = await observe(alice, 3_000, { picture });
  const heard = assertHeardInRoom(sounds, voices.bob, voices.alice);
  assert.ok(pictures.length <= 1, `${pictures.length} pictures while nobody looks`);
  at = await hide(alice, false);
  const back = (await shows(alice, await pictureOf(alice, 'bob'), FULL)) - at;
  t.diagnostic(JSON.stringify({ smaller, larger, silent, back, heard }));
  assert.ok(smaller <= 2_000 && silent <= 2_000, `less was sent after ${smaller} and ${silent} ms`);
  // The page waits 400 ms for the window to have its size.
  assert.ok(larger <= 1_400 && back <= 1_400, `more was shown after ${larger} and ${back} ms`);
}

/** A browser that sends no spatial layers: it sends encodings of several sizes. */
function withoutLayers() {
  const original = navigator.mediaCapabilities.encodingInfo.bind(navigator.mediaCapabilities);
  navigator.mediaCapabilities.encodingInfo = async (wanted) => {
    const info = await original(wanted);
    return wanted.video?.scalabilityMode?.startsWith('L3') ? { ...info, supported: false } : info;
  };
}

/** Keeps the page's connections where the test finds them. */
function keepConnections() {
  window.connections = [];
  const Original = RTCPeerConnection;
  window.RTCPeerConnection = class extends Original {
    constructor(...args) {
      super(...args);
      window.connections.push(this);
    }
  };
}

/** When the camera's pictures, as sent, are first lower than this, or are not sent at all where it is 0. */
function sendsBelow(page, height) {
  return page.evaluate(async ({ height, late }) => {
    const end = Date.now() + late;
    for (;;) {
      if (Date.now() > end) throw new Error(`the camera's pictures are not below ${height}`);
      const stats = [...(await window.connections.at(-1).getStats()).values()];
      const camera = stats.filter((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video' && stat.mid === '1');
      const sent = camera.filter((stat) => stat.active).map((stat) => stat.frameHeight ?? 0);
      if (camera.length > 0 && Math.max(0, ...sent) <= Math.max(0, height - 1)) return Date.now();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }, { height, late: LATE_MS });
}

/** When the element first shows a new picture of this height. */
function shows(page, selector, height) {
  return page.evaluate(
    ({ selector, height, late }) =>
      new Promise((resolve, reject) => {
        setTimeout(() => reject(new Error(`no picture of ${height} lines`)), late);
        const video = document.querySelector(selector);
        const look = (_now, picture) => {
          if (picture.height === height) resolve(Date.now());
          else video.requestVideoFrameCallback(look);
        };
        video.requestVideoFrameCallback(look);
      }),
    { selector, height, late: LATE_MS },
  );
}

/** As if the page went behind another one, or came back. Gives the time. */
function hide(page, hidden) {
  return page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
    return Date.now();
  }, hidden);
}

// Pictures of rooms, at desk and phone width: `npm run screens:rooms`, then look into artifacts/.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './lib/browser.mjs';
import { gather, joinCrowd, leaveCrowd, speak } from './lib/crowd.mjs';
import { drawnCamera } from './lib/drawn.mjs';
import { passDoor, signIn, tile } from './lib/page.mjs';
import { serve } from './lib/process.mjs';

const OUT = fileURLToPath(new URL('./artifacts/', import.meta.url));
const SIZES = [
  ['desk', { width: 1280, height: 800 }],
  ['phone', { width: 360, height: 740 }],
];
const NAMES = `Miriam Okafor|Jon|Aiko Tanaka|Lars|Priya Raghunathan|Tomás|Wei|Zoë|Maximilian von Hohenstein|Ada|Bo|Chidi|Dana|Emre|
Farid|Greta|Hana|Ivo|Jun|Kofi|Lena|Mo|Nina|Oskar`.split(/\|\n?/);

const user = (name) => name.normalize('NFD').replace(/[^\w. ]/g, '').replaceAll(' ', '.');

/** Somebody of the crowd with a face of their own. */
async function come(page, index, room) {
  const name = user(NAMES[index]);
  await page.evaluate(drawnCamera, { hue: index * 47, width: 640, height: index % 5 === 1 ? 800 : 360 });
  await page.evaluate(async (name) => {
    window.faces ??= new Map();
    window.faces.set(name, (await navigator.mediaDevices.getUserMedia({ video: true })).getVideoTracks()[0]);
  }, name);
  const { you } = await joinCrowd(page, { name, room, pictures: 0 });
  if (index % 4 === 3) {
    await media(page, name, { microphone: 'muted', camera: 'off', screen: 'off' });
  }
  return you;
}

function media(page, name, media) {
  return page.evaluate(
    ({ name, media }) => {
      const me = window.crowd.get(name);
      return me.request({ type: 'room_media', room: me.room, media });
    },
    { name, media },
  );
}

/** Somebody shares a drawn document. */
async function share(page, name) {
  await page.evaluate(async (name) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1280, height: 720 });
    const paint = canvas.getContext('2d');
    setInterval(() => {
      paint.fillStyle = '#fbfbf8';
      paint.fillRect(0, 0, 1280, 720);
      paint.fillStyle = '#223';
      paint.font = '600 44px sans-serif';
      paint.fillText('Quarterly plan', 80, 110);
      paint.font = '26px sans-serif';
      for (let line = 0; line < 9; line++) paint.fillText(`${line + 1}. Something that was agreed on in detail`, 80, 190 + 52 * line);
    }, 200);
    const me = window.crowd.get(name);
    const screen = me.pc.getTransceivers()[2];
    await screen.sender.replaceTrack(canvas.captureStream(5).getVideoTracks()[0]);
  }, name);
  await media(page, name, { microphone: 'on', camera: 'on', screen: 'on' });
}

async function walk({ label, viewport, server, folder, test }) {
  const open = async (name, options) => {
    const { page } = await launch(test, { folder, name: `${label}-${name}`, ...options });
    return page;
  };
  const me = await open('me', { viewport, colorScheme: 'light' });
  await me.addInitScript(drawnCamera, { hue: 200, width: 1280, height: 720 });
  const crowd = await open('crowd', {});
  await crowd.goto(server.url);
  await gather(crowd, { size: [320, 180], fps: 5 });
  const room = `weekly-${label}`;
  let taken = 0;
  const shot = async (name, wait = 1_200) => {
    await me.mouse.move(1, 1);
    await me.waitForTimeout(wait);
    taken += 1;
    await me.screenshot({ path: path.join(OUT, `room-${label}-${String(taken).padStart(2, '0')}-${name}.png`) });
  };
  await signIn(me, server.url, `Anna ${label}`);
  await me.getByLabel('Room name').fill(room);
  await me.getByRole('button', { name: 'Open room' }).click();
  await me.getByRole('button', { name: `Join ${room}`, exact: true }).waitFor();
  await shot('door');
  await passDoor(me, room);
  await shot('alone');
  let inside = 0;
  const fill = async (count) => {
    while (inside < count) await come(crowd, inside++, room);
    await me.waitForTimeout(1_500);
  };
  for (const count of [2, 4]) {
    await fill(count - 1);
    await shot(`grid-${count}`);
  }
  await me.keyboard.press('p');
  await shot('participants');
  await me.getByRole('button', { name: /^Remove / }).first().click();
  await shot('participants-sure', 300);
  await me.keyboard.press('Escape');
  await fill(8);
  await shot('grid-9');
  await speak(crowd, user(NAMES[2]), true);
  await me.keyboard.press('g');
  await shot('speaker', 2_500);
  await speak(crowd, user(NAMES[2]), false);
  await me.keyboard.press('g');
  await fill(24);
  await shot('grid-25-first-page');
  await me.keyboard.press('PageDown');
  await shot('grid-25-second-page');
  const more = me.getByRole('button', { name: /more on a page/ });
  if (await more.isVisible()) {
    await more.click();
    await shot('grid-25-all', 4_000);
  }
  await me.keyboard.press('p');
  await shot('participants-25');
  await me.keyboard.press('Escape');
  while (inside > 3) await leaveCrowd(crowd, user(NAMES[--inside]));
  await share(crowd, user(NAMES[0]));
  await tile(me, `${user(NAMES[0])}’s screen`).waitFor();
  await shot('screen', 3_000);
  await me.keyboard.press('g');
  await shot('screen-grid', 2_500);
  await me.keyboard.press('g');

  const old = await open('old', { viewport });
  await old.addInitScript(drawnCamera, { hue: 90, width: 640, height: 360 });
  await old.addInitScript(() => {
    for (const each of [RTCRtpSender, RTCRtpReceiver]) {
      const original = each.getCapabilities;
      each.getCapabilities = (kind) => {
        const all = original.call(each, kind);
        return { ...all, codecs: all.codecs.filter(({ mimeType }) => mimeType !== 'video/AV1') };
      };
    }
  });
  await signIn(old, server.url, `Old browser ${label}`);
  await old.getByLabel('Room name').fill(room);
  await old.getByRole('button', { name: 'Open room' }).click();
  await passDoor(old, room);
  await old.waitForTimeout(1_500);
  await old.screenshot({ path: path.join(OUT, `room-${label}-90-without-av1.png`) });
  await shot('with-one-who-has-no-av1');
  const number = await crowd.evaluate(
    (label) => [...[...window.crowd.values()][0].participants.values()].find((each) => each.user.includes(`Anna`) && each.user.includes(label)).participant,
    label,
  );
  await crowd.evaluate((participant) => {
    const me = [...window.crowd.values()][0];
    return me.request({ type: 'moderate', room: me.room, action: { type: 'remove', participant } });
  }, number);
  await me.getByRole('heading', { name: /removed you/ }).waitFor();
  await shot('removed');
  await me.getByRole('button', { name: /again/ }).click();
  await passDoor(me, room);
  await me.waitForTimeout(1_000);
  return { me, shot };
}

const folder = await mkdtemp(path.join(tmpdir(), 'halloo-screens-'));
const ends = [];
const test = { after: (end) => ends.push(end) };
try {
  await mkdir(OUT, { recursive: true });
  const only = process.argv[2];
  for (const [label, viewport] of SIZES) {
    if (only !== undefined && only !== label) continue;
    const server = await serve(test, { folder });
    const { me, shot } = await walk({ label, viewport, server, folder, test });
    await server.stop('SIGKILL');
    await me.getByText('The server cannot be reached').waitFor();
    await shot('server-gone');
  }
} finally {
  for (const end of ends.reverse()) await end();
  await rm(folder, { recursive: true, force: true });
}

// Pictures of every screen, at desk and phone width, light and dark: `npm run screens`, then look into artifacts/.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './lib/browser.mjs';
import { answer, call, inCall, signIn } from './lib/page.mjs';
import { serve } from './lib/process.mjs';

const OUT = fileURLToPath(new URL('./artifacts/', import.meta.url));
const DESK = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };

/** Instead of the camera: a drawn person, so that the pictures look like calls. */
function drawnCamera({ hue, width, height }) {
  navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
    const stream = new MediaStream();
    if (video) {
      const canvas = Object.assign(document.createElement('canvas'), { width, height });
      const paint = canvas.getContext('2d');
      const draw = () => {
        const t = performance.now() / 1000;
        const wall = paint.createLinearGradient(0, 0, width, height);
        wall.addColorStop(0, `hsl(${hue} 30% 72%)`);
        wall.addColorStop(1, `hsl(${hue + 40} 28% 42%)`);
        paint.fillStyle = wall;
        paint.fillRect(0, 0, width, height);
        paint.fillStyle = `hsl(${hue + 20} 30% 82% / 0.6)`;
        paint.fillRect(width * 0.08, height * 0.1, width * 0.22, height * 0.45);
        const x = width * (0.5 + 0.01 * Math.sin(t));
        const y = height * 0.44;
        const r = height * 0.19;
        paint.fillStyle = `hsl(${hue + 180} 35% 32%)`;
        paint.beginPath();
        paint.ellipse(x, height * 1.05, r * 2.1, r * 2.1, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#c98f6c';
        paint.fillRect(x - r * 0.35, y + r * 0.6, r * 0.7, r * 0.9);
        paint.fillStyle = '#3a2a22';
        paint.beginPath();
        paint.ellipse(x, y - r * 0.25, r * 0.98, r * 1.02, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#d9a07a';
        paint.beginPath();
        paint.ellipse(x, y + r * 0.08, r * 0.78, r * 0.95, 0, 0, 7);
        paint.fill();
        paint.fillStyle = '#2b1d18';
        for (const side of [-1, 1]) {
          paint.beginPath();
          paint.ellipse(x + side * r * 0.3, y, r * 0.07, r * 0.09, 0, 0, 7);
          paint.fill();
        }
        paint.lineWidth = r * 0.06;
        paint.strokeStyle = '#8f4a3c';
        paint.beginPath();
        paint.arc(x, y + r * 0.3, r * 0.3, 0.3, Math.PI - 0.3);
        paint.stroke();
      };
      draw();
      setInterval(draw, 50);
      stream.addTrack(canvas.captureStream(20).getVideoTracks()[0]);
    }
    if (audio) {
      const context = new AudioContext();
      const tone = context.createOscillator();
      const gain = context.createGain();
      gain.gain.value = 0.15;
      tone.frequency.value = 180;
      const out = context.createMediaStreamDestination();
      tone.connect(gain).connect(out);
      tone.start();
      stream.addTrack(out.stream.getAudioTracks()[0]);
    }
    return stream;
  };
}

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

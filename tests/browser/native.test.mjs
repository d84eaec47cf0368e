// A native endpoint (`halloo answer`, `halloo call`) and a browser, in both directions.

import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { assertHeard, assertSaw } from './lib/checks.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { heard } from './lib/correlate.mjs';
import { answer, call, control, inCall, isIdle, observe, signIn } from './lib/page.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';

const options = { skip: missingBinary || missingBrowser, timeout: 120_000 };
const LOOP = 240;
const PICTURE = { width: 640, height: 360, frames: LOOP };

/** A server, clips for a native endpoint ("robot") and a browser ("anna"), and anna signed in. */
async function prepare(t) {
  const folder = await scratch(t);
  const file = (name) => path.join(folder, name);
  const [robotVoice, annaVoice] = await Promise.all([
    writeVoice(file('robot.wav'), 8, 3),
    writeVoice(file('anna.wav'), 8, 4),
    writePictures(file('robot.y4m'), { ...PICTURE, first: 3_000 }),
    writePictures(file('anna.y4m'), { ...PICTURE, first: 4_000, hue: 40 }),
  ]);
  const server = await serve(t, { folder });
  const anna = await launch(t, { folder, name: 'anna', audio: file('anna.wav'), video: file('anna.y4m') });
  await signIn(anna.page, server.url, 'anna');
  const media = ['--audio-in', file('robot.wav'), '--video-in', file('robot.y4m'), '--audio-out', 'none'];
  const signals = ['--server', server.url.replace(/^http/, 'ws'), '--as', 'robot'];
  return { folder, file, robotVoice, annaVoice, page: anna.page, problems: anna.problems, flags: [...signals, ...media] };
}

/** What the browser received. */
async function assertBrowserReceived(t, { page, robotVoice, annaVoice }, seconds) {
  const taken = await observe(page, seconds * 1_000);
  const figures = {
    ...assertHeard(taken, robotVoice, annaVoice),
    ...assertSaw(taken.pictures, { seconds, loop: LOOP, first: 3_000 }),
  };
  t.diagnostic(`browser: ${JSON.stringify(figures)}`);
}

/** What the native endpoint recorded. */
async function assertNativeReceived(t, { robotVoice, annaVoice }, folder, report) {
  assert.equal(report.connected, true, JSON.stringify(report));
  const { samples, rate } = await readWav(path.join(folder, 'received.wav'));
  const right = heard(annaVoice, 48_000, samples, rate);
  const wrong = heard(robotVoice, 48_000, samples, rate);
  const { numbers, pictures } = await framesOf(path.join(folder, 'received.y4m'));
  const distinct = new Set(numbers.filter((number) => number !== null));
  const figures = { right: right.median, wrong: wrong.median, pictures, distinct: distinct.size, seconds: report.duration_s };
  t.diagnostic(`native: ${JSON.stringify(figures)}`);
  assert.ok(right.median > 0.8 && right.median > 2 * wrong.median, 'the recorded voice is the browser’s');
  for (const number of distinct) assert.ok(number >= 4_000 && number < 4_000 + LOOP, `frame ${number} is not the browser’s`);
  assert.ok(distinct.size > Math.min(LOOP * 0.6, report.duration_s * 10), `${distinct.size} distinct pictures`);
}

/** The folder that holds a call's recording: the one given, or the call's own within it. */
async function recordingOf(report, folder) {
  const own = report.recordings?.audio;
  if (own) return path.dirname(own);
  await stat(path.join(folder, 'received.wav'));
  return folder;
}

test('a browser calls a native endpoint', options, async (t) => {
  const scene = await prepare(t);
  const got = scene.file('got');
  const robot = halloo(t, ['answer', ...scene.flags, '--record', got, '--once', '--json']);
  await call(scene.page, 'robot');
  await inCall(scene.page);
  await scene.page.waitForTimeout(1_500);
  await assertBrowserReceived(t, scene, 4);
  await control(scene.page, 'Hang up');
  await isIdle(scene.page);
  const { code } = await robot.exited;
  assert.equal(code, 0, robot.stderr());
  const report = robot.lines.at(-1);
  assert.equal(report.direction, 'incoming');
  await assertNativeReceived(t, scene, await recordingOf(report, got), report);
  assert.deepEqual(scene.problems, []);
});

test('a native endpoint calls a browser', options, async (t) => {
  const scene = await prepare(t);
  const got = scene.file('got');
  const robot = halloo(t, ['call', ...scene.flags, '--to', 'anna', '--record', got, '--duration', '9s', '--json']);
  await answer(scene.page);
  await inCall(scene.page);
  await scene.page.waitForTimeout(1_500);
  await assertBrowserReceived(t, scene, 4);
  await scene.page.getByRole('heading', { name: 'robot hung up' }).waitFor({ timeout: 20_000 });
  const { code } = await robot.exited;
  assert.equal(code, 0, robot.stderr());
  const report = robot.lines.at(-1);
  assert.ok(Math.abs(report.duration_s - 9) < 0.5, `the call lasted ${report.duration_s} s`);
  await assertNativeReceived(t, scene, await recordingOf(report, got), report);
  assert.deepEqual(scene.problems, []);
});

test('a native caller is told in its exit code that a browser declined', options, async (t) => {
  const scene = await prepare(t);
  const robot = halloo(t, ['call', ...scene.flags, '--to', 'anna', '--json']);
  await scene.page.getByRole('button', { name: 'Decline' }).click();
  const { code } = await robot.exited;
  assert.notEqual(code, 0);
  assert.equal(robot.lines.at(-1).reason, 'declined');
});

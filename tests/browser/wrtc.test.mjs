// A native endpoint and libwebrtc (npm's @roamhq/wrtc), each calling the other: AV1 and Opus.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { assertHeard } from './lib/checks.mjs';
import { atEnd } from './lib/cleanup.mjs';
import { writePictures, writeVoice } from './lib/clips.mjs';
import { libwebrtc } from './lib/libwebrtc_process.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { Signaling } from './lib/signaling.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';

const SECONDS = 5;
const LOOP = 150;
const SIZE = { width: 640, height: 360 };

/** What each side says and shows. */
const clips = { native: { seed: 5, first: 5_000 }, lib: { seed: 6, first: 6_000 } };
let folder;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'halloo-libwebrtc-'));
  for (const [name, clip] of Object.entries(clips)) {
    [clip.says, clip.shows] = [path.join(folder, `${name}.wav`), path.join(folder, `${name}.y4m`)];
    clip.voice = await writeVoice(clip.says, 7, clip.seed);
    await writePictures(clip.shows, { ...SIZE, frames: LOOP, first: clip.first });
  }
});
after(() => rm(folder, { recursive: true, force: true }));

test('libwebrtc calls a native endpoint: they hear and see each other', { skip: missingBinary, timeout: 60_000 }, async (t) => {
  const { native, lib, online } = await parties(t);
  const callee = halloo(t, ['answer', '--once', '--json', ...native.flags]);
  await online('native');
  const caller = libwebrtc(t, ['call', '--to', 'native', '--duration', String(SECONDS), ...lib.flags]);
  await assertTalked(t, native, lib, callee, await caller.report());
});

test('a native endpoint calls libwebrtc: they hear and see each other', { skip: missingBinary, timeout: 60_000 }, async (t) => {
  const { native, lib, online } = await parties(t);
  const callee = libwebrtc(t, ['answer', ...lib.flags]);
  await online('lib');
  const caller = halloo(t, ['call', '--to', 'lib', '--duration', `${SECONDS}s`, '--json', ...native.flags]);
  await assertTalked(t, native, lib, caller, await callee.report());
});

/** A server, and both sides with their flags; `online` waits until one of them can be called. */
async function parties(t) {
  const got = await scratch(t);
  const server = await serve(t, { folder: got });
  const party = (name, more = []) => {
    const clip = clips[name];
    const flags = ['--as', name, '--server', server.url.replace(/^http/, 'ws'), '--record', path.join(got, name), ...more];
    return { ...clip, got: path.join(got, name), flags: [...flags, '--audio-in', clip.says, '--video-in', clip.shows] };
  };
  const watcher = await Signaling.signIn(server.url, 'watcher');
  atEnd(t, () => watcher.close());
  return { native: party('native', ['--audio-out', 'none']), lib: party('lib'), online: (name) => online(watcher, name) };
}

/** Fails unless each side's recordings are the other's clips, by the codecs agreed on. */
async function assertTalked(t, native, lib, process, report) {
  const { code } = await process.exited;
  assert.equal(code, 0, process.stderr());
  assert.equal(report.error, undefined);
  const expected = ['audio/opus', 'video/AV1'];
  assert.deepEqual(report.stats.codecs, { received: expected, sent: expected });
  t.diagnostic(JSON.stringify({ atLib: await assertGot(lib, native), atNative: await assertGot(native, lib) }));
}

/** Fails unless `listener` recorded what `speaker` said and showed. */
async function assertGot(listener, speaker) {
  const sound = await readWav(path.join(listener.got, 'received.wav'));
  const heard = assertHeard(sound, speaker.voice, listener.voice);
  const { numbers } = await framesOf(path.join(listener.got, 'received.y4m'));
  const seen = new Set(numbers.filter((number) => number !== null));
  for (const number of seen) {
    assert.ok(number >= speaker.first && number < speaker.first + LOOP, `frame ${number} is not of the other side's clip`);
  }
  // Two encoders and two decoders on a busy machine: what is seen counts here, and its rate in benches/call_720p.rs.
  assert.ok(seen.size >= 6 * SECONDS, `${seen.size} distinct pictures`);
  return { ...heard, seen: seen.size };
}

/** Waits until a user can be called. */
async function online(signaling, user) {
  const { users } = await signaling.request({ type: 'watch_presence' });
  let there = users.some((each) => each.user === user && each.online);
  while (!there) {
    const event = await signaling.event('presence');
    there = event.user === user && event.online;
  }
}

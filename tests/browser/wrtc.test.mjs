// A native endpoint and libwebrtc (npm's @roamhq/wrtc), which speaks the signaling protocol from here: AV1 and Opus.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';
import { assertHeard } from './lib/checks.mjs';
import { voice, writePictures, writeVoice } from './lib/clips.mjs';
import { heard } from './lib/correlate.mjs';
import { LibWebrtc } from './lib/libwebrtc.mjs';
import { halloo, missingBinary, scratch, serve } from './lib/process.mjs';
import { Signaling } from './lib/signaling.mjs';
import { readWav } from './lib/wav.mjs';
import { framesOf } from './lib/y4m.mjs';
import { atEnd } from './lib/cleanup.mjs';

const LOOP = 240;
const SIZE = { width: 640, height: 360 };

test('a native endpoint and libwebrtc hear and see each other', { skip: missingBinary, timeout: 120_000 }, async (t) => {
  const folder = await scratch(t);
  const file = (name) => path.join(folder, name);
  const nativeVoice = await writeVoice(file('native.wav'), 8, 5);
  await writePictures(file('native.y4m'), { ...SIZE, frames: LOOP, first: 5_000 });
  const libVoice = voice(8, 6);
  const server = await serve(t, { folder });
  const lib = new LibWebrtc({ voice: libVoice, ...SIZE, first: 6_000, loop: LOOP });
  atEnd(t, () => lib.close());
  const signaling = await Signaling.signIn(server.url, 'lib');
  atEnd(t, () => signaling.close());

  const got = file('got');
  const native = halloo(t, [
    ...['answer', '--server', server.url.replace(/^http/, 'ws'), '--as', 'native', '--once', '--json'],
    ...['--audio-in', file('native.wav'), '--video-in', file('native.y4m'), '--audio-out', 'none', '--record', got],
  ]);
  await online(signaling, 'native');

  const call = randomBytes(16).toString('hex');
  const own = [];
  lib.onCandidate((candidate) => own.push(candidate));
  const sdp = await lib.offer();
  await signaling.request({ type: 'invite', call, to: 'native', media: { audio_muted: false, video: 'camera' }, sdp });
  const send = (candidate) => void signaling.request({ type: 'candidate', call, candidate }).catch(() => {});
  for (const candidate of own) send(candidate);
  lib.onCandidate(send);
  const answered = await signaling.event('answered');
  await lib.describe('answer', answered.sdp);
  signaling.on('candidate', ({ candidate }) => void lib.addCandidate(candidate).catch(() => {}));
  await lib.connected();
  await new Promise((resolve) => setTimeout(resolve, 8_000));
  const codecs = await lib.codecsInUse();
  await signaling.request({ type: 'hang_up', call, reason: 'hung_up' });
  const { code } = await native.exited;
  assert.equal(code, 0, native.stderr());
  const report = native.lines.at(-1);

  assert.deepEqual(codecs, ['audio/opus', 'video/AV1']);
  const atLib = assertHeard({ samples: lib.sound(), rate: lib.rate }, nativeVoice, libVoice);
  const seen = new Set(lib.numbers.filter((number) => number !== null));
  for (const number of seen) assert.ok(number >= 5_000 && number < 5_000 + LOOP, `frame ${number} is not the native one’s`);
  assert.ok(seen.size > 100, `libwebrtc saw ${seen.size} distinct pictures`);

  const recording = report.recordings?.audio ? path.dirname(report.recordings.audio) : got;
  const { samples, rate } = await readWav(path.join(recording, 'received.wav'));
  const right = heard(libVoice, 48_000, samples, rate);
  const wrong = heard(nativeVoice, 48_000, samples, rate);
  const { numbers } = await framesOf(path.join(recording, 'received.y4m'));
  const recorded = new Set(numbers.filter((number) => number !== null));
  t.diagnostic(JSON.stringify({ atLib, seen: seen.size, atNative: { right, wrong }, recorded: recorded.size }));
  assert.ok(right.median > 0.8 && right.median > 2 * wrong.median, 'the native endpoint heard libwebrtc');
  for (const number of recorded) assert.ok(number >= 6_000 && number < 6_000 + LOOP, `frame ${number} is not libwebrtc’s`);
  assert.ok(recorded.size > 100, `the native endpoint saw ${recorded.size} distinct pictures`);
});

/** Waits until a user can be called. */
async function online(signaling, user) {
  const { users } = await signaling.request({ type: 'watch_presence' });
  let there = users.some((each) => each.user === user && each.online);
  while (!there) {
    const event = await signaling.event('presence');
    there = event.user === user && event.online;
  }
}

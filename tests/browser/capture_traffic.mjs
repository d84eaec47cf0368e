// Records what a Chromium with camera and microphone sends to a room: when each packet leaves, how long it is, and the AV1
// dependency descriptor that it carries. Benchmarks of the forwarding unit replay it.
//
//   CLIP=$(scripts/bench-clip.sh) node --test tests/browser/capture_traffic.mjs
//
// Writes sfu/benches/sfu_forwarding/traffic.csv. Needs tcpdump and the right to use it. Of the packets only lengths, times and
// descriptors are kept: no picture and no sound.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { launch, missingBrowser } from './lib/browser.mjs';
import { writeVoice } from './lib/clips.mjs';
import { missingBinary, ROOT, scratch, serve } from './lib/process.mjs';
import { join } from './lib/room.mjs';

const SECONDS = 5;
/** Until the sender trusts its bandwidth. */
const WARM_UP_MS = 15_000;
const BITRATE = 2_500_000;
const FILE = path.join(ROOT, 'sfu/benches/sfu_forwarding/traffic.csv');
const OPUS = 111;
const AV1 = 45;
/** What AES-GCM adds to each packet. */
const TAG = 16;

/** UDP payloads of a capture of the loopback device, with their times in microseconds. */
function* datagrams(pcap) {
  assert.equal(pcap.readUInt32LE(0), 0xa1b23c4d, 'a capture with nanoseconds');
  for (let at = 24; at + 16 <= pcap.length; ) {
    const micros = pcap.readUInt32LE(at) * 1e6 + pcap.readUInt32LE(at + 4) / 1e3;
    const length = pcap.readUInt32LE(at + 8);
    const frame = pcap.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    const ip = frame.subarray(14);
    assert.equal(ip[0] >> 4, 4, 'IPv4');
    yield { micros, bytes: ip.subarray(4 * (ip[0] & 15) + 8) };
  }
}

/** An RTP packet's fields; `null` for anything else. */
function rtp(bytes, descriptorId) {
  if (bytes[0] >> 6 !== 2 || (bytes[1] >= 192 && bytes[1] < 224)) return null;
  let header = 12 + 4 * (bytes[0] & 15);
  let descriptor = '';
  if (bytes[0] & 0x10) {
    const profile = bytes.readUInt16BE(header);
    const end = header + 4 + 4 * bytes.readUInt16BE(header + 2);
    for (let at = header + 4; at < end; ) {
      if (bytes[at] === 0) {
        at += 1;
        continue;
      }
      const [id, length, value] =
        profile === 0xbede ? [bytes[at] >> 4, (bytes[at] & 15) + 1, at + 1] : [bytes[at], bytes[at + 1], at + 2];
      if (id === descriptorId) descriptor = bytes.toString('hex', value, value + length);
      at = value + length;
    }
    header = end;
  }
  return { type: bytes[1] & 0x7f, marker: bytes[1] >> 7, payload: bytes.length - header - TAG, descriptor };
}

test('a publisher is recorded', { skip: missingBinary || missingBrowser, timeout: 120_000 }, async (t) => {
  const folder = await scratch(t);
  const server = await serve(t, { folder });
  const audio = path.join(folder, 'voice.wav');
  await writeVoice(audio, 20, 1);
  const { page } = await launch(t, { folder, name: 'publisher', audio, video: process.env.CLIP });
  await page.goto(server.url);
  const encodings = [{ scalabilityMode: 'L1T3', maxBitrate: BITRATE }];
  const { answer } = await join(page, { name: 'publisher', room: 'capture', encodings, size: [1280, 720] });
  const port = Number(/a=candidate:\S+ 1 udp \d+ \S+ (\d+)/i.exec(answer)[1]);
  const descriptorId = Number(/a=extmap:(\d+)\S* \S*dependency-descriptor/.exec(answer)[1]);

  // A room with one person in it: nobody asks for its pictures, and it sends them all the same.
  await page.waitForTimeout(WARM_UP_MS);
  const connection = await page.evaluate(async () => {
    const stats = [...(await window.participant.pc.getStats()).values()];
    const { srtpCipher, tlsVersion } = stats.find((each) => each.type === 'transport');
    const sender = stats.find((each) => each.type === 'outbound-rtp' && each.kind === 'video' && each.framesPerSecond > 0);
    return { srtpCipher, tlsVersion, frames: sender?.framesPerSecond, height: sender?.frameHeight };
  });
  t.diagnostic(JSON.stringify(connection));
  assert.match(connection.srtpCipher, /GCM/, 'AES-GCM is negotiated');

  const file = path.join(folder, 'packets.pcap');
  const filter = `udp and dst port ${port}`;
  const capture = spawn('tcpdump', ['-i', 'lo', '--time-stamp-precision=nano', '-U', '-w', file, ...filter.split(' ')]);
  let said = '';
  capture.stderr.on('data', (data) => (said += data));
  const began = Date.now();
  while (!/listening on/.test(said)) {
    assert.ok(Date.now() - began < 5_000, said);
    await once(capture.stderr, 'data');
  }
  await page.evaluate(async () => {
    const sender = window.participant.pc.getSenders().find((each) => each.track?.kind === 'video');
    const parameters = sender.getParameters();
    await sender.setParameters(parameters, { encodingOptions: parameters.encodings.map(() => ({ keyFrame: true })) });
  });
  await page.waitForTimeout(1_000 * SECONDS + 1_500);
  capture.kill('SIGINT');
  await once(capture, 'close');

  const packets = [];
  let others = 0;
  for (const { micros, bytes } of datagrams(await readFile(file))) {
    const packet = rtp(bytes, descriptorId);
    if (packet !== null && (packet.type === OPUS || packet.type === AV1)) packets.push({ micros, ...packet });
    else others += 1;
  }
  // It begins with the key frame, whose descriptor carries the structure, and ends with the last whole frame in time.
  const first = packets.findIndex((each) => each.descriptor.length > 6 && each.type === AV1);
  assert.ok(first >= 0, 'a key frame');
  const start = packets[first].micros;
  const inTime = packets.slice(first).filter((each) => each.micros - start < 1e6 * SECONDS);
  const last = inTime.findLastIndex((each) => each.type === AV1 && each.marker === 1);
  const kept = inTime.filter((each, index) => index <= last || each.type === OPUS);
  assert.ok(kept.slice(1).every((each) => each.descriptor.length <= 6), 'one key frame');

  const bits = kept.reduce((sum, each) => sum + 8 * each.payload, 0);
  const frames = kept.filter((each) => each.type === AV1 && each.marker === 1).length;
  const summary = `${kept.length} packets, ${frames} pictures, ${Math.round(bits / SECONDS / 1e3)} kbit/s of payload in ${SECONDS} s`;
  t.diagnostic(`${summary}; ${others} other datagrams left out`);
  const lines = kept.map(({ micros, type, payload, marker, descriptor }) =>
    [Math.round(micros - start), type === OPUS ? 'audio' : 'video', payload, marker, descriptor].join(','),
  );
  const head = [
    `# ${summary}: Chromium, AV1 L1T3 at 1280x720, Opus. Made by tests/browser/capture_traffic.mjs.`,
    '# microseconds,stream,bytes of payload,marker,dependency descriptor',
  ];
  await writeFile(FILE, `${[...head, ...lines].join('\n')}\n`);
});

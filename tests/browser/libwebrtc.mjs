#!/usr/bin/env node
// An endpoint like the `halloo` command whose engine is libwebrtc: same flags, same signaling, and a JSON report of the same
// names. It is a program of its own since the addon takes its whole process down (see `end`).

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { LibWebrtc } from './lib/libwebrtc.mjs';
import { Signaling } from './lib/signaling.mjs';

const USAGE = `usage: libwebrtc.mjs call|answer|join --server URL --as NAME [--to NAME | --room NAME] --audio-in F.wav
                    --video-in F.y4m [--video-kbps N] [--record DIR] [--duration S]`;
/** What \`call\` and \`join\` need beside the others. */
const WHERE = { call: ['to'], answer: [], join: ['room'] };
/** Places to receive in, of a room. */
const SLOTS = { sounds: 2, pictures: 3 };
/** How often figures are taken, as in \`halloo\`. */
const SAMPLE_EVERY = 500;
const MEDIA = { audio_muted: false, video: 'camera' };

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: Object.fromEntries(
      ['server', 'as', 'to', 'room', 'audio-in', 'video-in', 'video-kbps', 'record', 'duration'].map((name) => [name, { type: 'string' }]),
    ),
  });
  const [command] = positionals;
  const needed = ['server', 'as', 'audio-in', 'video-in', ...(WHERE[command] ?? [])];
  if (WHERE[command] === undefined || needed.some((name) => values[name] === undefined)) throw new Error(USAGE);
  if (values.record !== undefined) mkdirSync(values.record, { recursive: true });

  const signaling = await Signaling.signIn(values.server.replace(/^ws/, 'http'), values.as);
  const leave = new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => resolve('hung_up'));
  });
  const open = () =>
    LibWebrtc.open({
      voice: values['audio-in'],
      clip: values['video-in'],
      kbps: values['video-kbps'] && Number(values['video-kbps']),
      record: values.record,
      slots: command === 'join',
    });
  const started = readings();
  if (command === 'join') return join(signaling, values, open, { leave, started });
  const { call, peer, lib } = command === 'call' ? await dial(signaling, values.to, open) : await take(signaling, open, started);
  const ended = new Promise((resolve) => signaling.on('ended', (event) => event.call === call && resolve(event.reason)));
  signaling.on('candidate', (event) => event.call === call && void lib.addCandidate(event.candidate).catch(() => {}));
  await lib.connected();
  say(`connected with ${peer}`);

  const connected = performance.now();
  const sampler = new Sampler(lib, connected);
  const over = after(values.duration === undefined ? null : Number.parseFloat(values.duration) * 1000);
  const reason = await Promise.race([ended, leave, over]);
  const stats = await sampler.stop();
  const cpu = process.cpuUsage(started.cpu);
  const javascript = javascriptSeconds() - started.javascript;
  const duration = (performance.now() - connected) / 1000;
  await signaling.request({ type: 'hang_up', call, reason: 'hung_up' }).catch(() => {});
  const { sizes, ...recordings } = await lib.close();
  return {
    user: values.as,
    peer,
    direction: command === 'call' ? 'outgoing' : 'incoming',
    connected: true,
    connect_ms: connected - started.at,
    duration_s: duration,
    reason,
    recordings,
    samples: sampler.samples,
    stats,
    sizes,
    cpu_seconds: (cpu.user + cpu.system) / 1e6,
    javascript_seconds: javascript,
  };
}

/** Stays in a room, and records whoever else is there: one at a time. */
async function join(signaling, { room, duration }, open, { leave, started }) {
  const lib = await open();
  const sdp = await lib.offerToRoom(SLOTS);
  const media = { microphone: 'on', camera: 'on', screen: 'off' };
  const recorded = new Set();
  const joined = await signaling.request({ type: 'join_room', room, media, sdp });
  await lib.answered(joined.sdp);
  await lib.connected();
  signaling.on('slots_changed', ({ slots }) => {
    for (const { mid, source } of slots) {
      if (source == null || recorded.has(mid)) continue;
      recorded.add(mid);
      lib.record(mid);
    }
  });
  say(`connected in ${room}`);
  const connected = performance.now();
  await Promise.race([leave, after(duration === undefined ? null : Number.parseFloat(duration) * 1000)]);
  const stats = await lib.stats();
  await signaling.request({ type: 'leave_room', room }).catch(() => {});
  const { sizes, ...recordings } = await lib.close();
  return { connected: true, connect_ms: connected - started.at, offered: sdp.length, recordings, stats, sizes };
}

async function dial(signaling, peer, open) {
  const lib = await open();
  const call = randomBytes(16).toString('hex');
  const candidates = trickle(signaling, call, lib);
  const sdp = await lib.offer();
  await signaling.request({ type: 'invite', call, to: peer, media: MEDIA, sdp });
  candidates.release();
  const answered = await signaling.event('answered');
  await lib.answered(answered.sdp);
  return { call, peer, lib };
}

async function take(signaling, open, started) {
  say('waiting for calls');
  const { call, from, sdp } = await signaling.event('incoming_call', 3_600_000);
  Object.assign(started, readings());
  const lib = await open();
  const candidates = trickle(signaling, call, lib);
  const answer = await lib.answer(sdp);
  await signaling.request({ type: 'answer', call, media: MEDIA, sdp: answer });
  candidates.release();
  return { call, peer: from, lib };
}

/** Sends own candidates, but none before the server knows what they belong to. */
function trickle(signaling, call, lib) {
  const waiting = [];
  const send = (candidate) => void signaling.request({ type: 'candidate', call, candidate }).catch(() => {});
  lib.onCandidate((candidate) => waiting.push(candidate));
  return {
    release() {
      lib.onCandidate(send);
      waiting.forEach(send);
    },
  };
}

/** Figures twice a second. */
class Sampler {
  samples = [];
  #lib;
  #connected;
  #timer;
  #last = null;

  constructor(lib, connected) {
    this.#lib = lib;
    this.#connected = connected;
    const take = () => void this.#take().catch(() => {});
    this.#timer = setInterval(take, SAMPLE_EVERY);
    take();
  }

  /** The figures at the end. */
  async stop() {
    clearInterval(this.#timer);
    return this.#lib.stats();
  }

  async #take() {
    const stats = await this.#lib.stats();
    const now = performance.now();
    if (this.#last !== null) {
      const { stats: before, at } = this.#last;
      const rate = (stream, field) => ((stats[stream][field] - before[stream][field]) * 1000) / (now - at);
      this.samples.push({
        t: (now - this.#connected) / 1000,
        audio_in_kbps: rate('inbound_audio', 'bytes_received') * 8e-3,
        audio_out_kbps: rate('outbound_audio', 'bytes_sent') * 8e-3,
        video_in_kbps: rate('inbound_video', 'bytes_received') * 8e-3,
        video_out_kbps: rate('outbound_video', 'bytes_sent') * 8e-3,
        fps_in: rate('inbound_video', 'frames_decoded'),
        fps_out: rate('outbound_video', 'frames_encoded'),
      });
    }
    this.#last = { stats, at: now };
    return stats;
  }
}

function readings() {
  return { at: performance.now(), cpu: process.cpuUsage(), javascript: javascriptSeconds() };
}

/** CPU time of the thread that runs this script: what `cpu_seconds` holds beside libwebrtc. NaN where the system does not say it. */
function javascriptSeconds() {
  try {
    const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'latin1');
    const [user, system] = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11);
    // In ticks of 10 ms.
    return (Number(user) + Number(system)) / 100;
  } catch {
    return Number.NaN;
  }
}

function after(ms) {
  return new Promise((resolve) => {
    if (ms !== null) setTimeout(() => resolve('hung_up'), ms);
  });
}

function say(text) {
  writeSync(2, `${text}\n`);
}

/**
 * Prints the report and leaves at once. Once an RTCAudioSource was used, the addon crashes while its process unwinds, and
 * before that its threads keep the process alive: so there must be no unwinding.
 */
function end(report) {
  writeSync(1, `${JSON.stringify(report)}\n`);
  process.kill(process.pid, 'SIGKILL');
}

main().then(end, (error) => {
  say(String(error.stack ?? error));
  end({ connected: false, error: String(error.message ?? error) });
});

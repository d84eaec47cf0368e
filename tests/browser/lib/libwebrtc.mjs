// libwebrtc outside a browser, through @roamhq/wrtc: a participant whose microphone, camera, ear and eye are arrays.

import wrtc from '@roamhq/wrtc';
import { read, ROW_FRACTION, ROWS, stamp } from './frame_number.mjs';

const { RTCPeerConnection, RTCSessionDescription, RTCIceCandidate, nonstandard } = wrtc;
const { RTCAudioSource, RTCAudioSink, RTCVideoSource, RTCVideoSink } = nonstandard;
const RATE = 48_000;
const BLOCK = RATE / 100;

/** Sends a voice and numbered pictures, and keeps what it receives. */
export class LibWebrtc {
  samples = [];
  rate = RATE;
  numbers = [];
  sizes = new Set();
  codecs = [];
  connection;
  #timers = [];
  #sinks = [];

  constructor({ voice, width, height, fps = 30, first, loop, iceServers = [] }) {
    this.connection = new RTCPeerConnection({ iceServers });
    this.connection.ontrack = ({ track }) => this.#receive(track);
    this.#speak(voice);
    this.#show({ width, height, fps, first, loop });
  }

  /** Resolves when media may flow. */
  connected(timeoutMs = 20_000) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not connected: ${this.connection.connectionState}`)), timeoutMs);
      const look = () => {
        if (this.connection.connectionState !== 'connected') return;
        clearTimeout(timer);
        resolve();
      };
      this.connection.addEventListener('connectionstatechange', look);
      look();
    });
  }

  async offer() {
    await this.connection.setLocalDescription(withAv1First(await this.connection.createOffer()));
    return this.connection.localDescription.sdp;
  }

  async answer(sdp) {
    await this.describe('offer', sdp);
    await this.connection.setLocalDescription(await this.connection.createAnswer());
    return this.connection.localDescription.sdp;
  }

  describe(type, sdp) {
    return this.connection.setRemoteDescription(new RTCSessionDescription({ type, sdp }));
  }

  addCandidate({ candidate, sdp_mid: sdpMid, sdp_m_line_index: sdpMLineIndex }) {
    if (candidate === '') return Promise.resolve();
    return this.connection.addIceCandidate(
      new RTCIceCandidate({ candidate, sdpMid: sdpMid ?? null, sdpMLineIndex: sdpMLineIndex ?? (sdpMid == null ? 0 : null) }),
    );
  }

  /** Calls `send` with each own candidate, as the protocol writes it. */
  onCandidate(send) {
    this.connection.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      send({ candidate: candidate.candidate, sdp_mid: candidate.sdpMid, sdp_m_line_index: candidate.sdpMLineIndex });
    };
  }

  /** The MIME types that are being received. */
  async codecsInUse() {
    const stats = [...(await this.connection.getStats()).values()];
    const byId = new Map(stats.map((stat) => [stat.id, stat]));
    return stats
      .filter((stat) => stat.type === 'inbound-rtp' && stat.codecId)
      .map((stat) => byId.get(stat.codecId)?.mimeType)
      .sort();
  }

  /** Everything received so far, as one signal. */
  sound() {
    const all = new Float32Array(this.samples.reduce((sum, block) => sum + block.length, 0));
    let at = 0;
    for (const block of this.samples) {
      all.set(block, at);
      at += block.length;
    }
    return all;
  }

  close() {
    for (const timer of this.#timers) clearInterval(timer);
    for (const sink of this.#sinks) sink.stop();
    this.connection.close();
  }

  #speak(voice) {
    const source = new RTCAudioSource();
    this.connection.addTrack(source.createTrack());
    const started = performance.now();
    let sent = 0;
    this.#timers.push(
      setInterval(() => {
        // As many blocks as are due: timers are late, microphones are not.
        for (const due = (performance.now() - started) / 10; sent < due; sent++) {
          const samples = new Int16Array(BLOCK);
          for (let i = 0; i < BLOCK; i++) samples[i] = 32_767 * voice[(sent * BLOCK + i) % voice.length];
          source.onData({ samples, sampleRate: RATE, bitsPerSample: 16, channelCount: 1, numberOfFrames: BLOCK });
        }
      }, 5),
    );
  }

  #show({ width, height, fps, first, loop }) {
    const source = new RTCVideoSource();
    this.connection.addTrack(source.createTrack());
    const data = new Uint8Array((width * height * 3) / 2).fill(128);
    const luma = data.subarray(0, width * height);
    const started = performance.now();
    let frame = 0;
    this.#timers.push(
      setInterval(() => {
        const due = Math.floor(((performance.now() - started) * fps) / 1000);
        if (due <= frame) return;
        frame = due;
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) luma[y * width + x] = 60 + (((x + y + frame * 2) >> 2) % 90);
        }
        stamp(luma, width, height, first + (frame % loop));
        source.onFrame({ width, height, data });
      }, 5),
    );
  }

  #receive(track) {
    if (track.kind === 'audio') {
      const sink = new RTCAudioSink(track);
      sink.ondata = ({ samples, sampleRate, channelCount }) => {
        this.rate = sampleRate;
        const mono = new Float32Array(samples.length / channelCount);
        for (let i = 0; i < mono.length; i++) mono[i] = samples[i * channelCount] / 32_768;
        this.samples.push(mono);
      };
      this.#sinks.push(sink);
    } else {
      const sink = new RTCVideoSink(track);
      sink.onframe = ({ frame: { width, height, data } }) => {
        this.sizes.add(`${width}x${height}`);
        const rows = Math.ceil((ROWS * height) / ROW_FRACTION);
        this.numbers.push(read(data.subarray(0, width * rows), width, height));
      };
      this.#sinks.push(sink);
    }
  }
}

/** This build has no setCodecPreferences: the order of payload types in the SDP does the same (RFC 3264, section 5.1). */
function withAv1First(description) {
  const lines = description.sdp.split('\r\n');
  const at = lines.findIndex((line) => line.startsWith('m=video'));
  const av1 = lines.flatMap((line) => /^a=rtpmap:(\d+) AV1\//i.exec(line)?.[1] ?? []);
  if (at >= 0) {
    const [media, port, protocol, ...types] = lines[at].split(' ');
    lines[at] = [media, port, protocol, ...av1, ...types.filter((type) => !av1.includes(type))].join(' ');
  }
  return { type: description.type, sdp: lines.join('\r\n') };
}

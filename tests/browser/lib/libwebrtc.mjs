// libwebrtc outside a browser, through @roamhq/wrtc: a peer connection whose microphone, camera, ear and eye are files.

import wrtc from '@roamhq/wrtc';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import path from 'node:path';
import { letterbox } from './libwebrtc_scale.mjs';
import { hold, preferAv1 } from './libwebrtc_sdp.mjs';
import { readWav, writeWav } from './wav.mjs';
import { openY4m } from './y4m.mjs';

const { RTCPeerConnection, RTCSessionDescription, RTCIceCandidate, nonstandard } = wrtc;
const { RTCAudioSource, RTCAudioSink, RTCVideoSource, RTCVideoSink } = nonstandard;

/** Blocks of sound in a second, as libwebrtc wants them. */
const BLOCKS = 100;

/** Sends a voice and a clip of pictures again and again, and records what it receives. */
export class LibWebrtc {
  #connection = new RTCPeerConnection({ iceServers: [] });
  #kbps;
  #timers = new Set();
  #recorder = null;

  /** Opens what is to be sent; `record` is a folder, or undefined for no recording. */
  static async open({ voice, clip, ...options }) {
    const [sound, pictures] = await Promise.all([readWav(voice), openY4m(clip)]);
    return new LibWebrtc(sound, pictures, options);
  }

  /** `slots`: what to record is said by `record(mid)`; else it is all that comes. */
  constructor(sound, pictures, { kbps, record, slots = false }) {
    this.#kbps = kbps;
    if (record !== undefined) this.#recorder = new Recorder(record, pictures);
    // Without a sink nothing is copied into JavaScript; libwebrtc decodes all the same.
    if (!slots) this.#connection.ontrack = ({ track }) => this.#recorder?.attach(track);
    this.#speak(sound);
    this.#show(pictures);
  }

  /** Resolves when media may flow. */
  connected(timeoutMs = 20_000) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not connected: ${this.#connection.connectionState}`)), timeoutMs);
      const look = () => {
        if (this.#connection.connectionState !== 'connected') return;
        clearTimeout(timer);
        resolve();
      };
      this.#connection.addEventListener('connectionstatechange', look);
      look();
    });
  }

  async offer() {
    const { type, sdp } = await this.#connection.createOffer();
    await this.#connection.setLocalDescription({ type, sdp: preferAv1(sdp) });
    return this.#connection.localDescription.sdp;
  }

  /** The one offer to a forwarding unit: what is sent, and then places to receive in. */
  async offerToRoom({ sounds, pictures }) {
    for (const transceiver of this.#connection.getTransceivers()) transceiver.direction = 'sendonly';
    for (let i = 0; i < sounds; i++) this.#connection.addTransceiver('audio', { direction: 'recvonly' });
    for (let i = 0; i < pictures; i++) this.#connection.addTransceiver('video', { direction: 'recvonly' });
    return this.offer();
  }

  /** Records what comes in the section with this mid as well. */
  record(mid) {
    this.#recorder?.attach(this.#connection.getTransceivers().find((each) => each.mid === mid).receiver.track);
  }

  async answer(sdp) {
    await this.#describe('offer', sdp);
    await this.#connection.setLocalDescription(await this.#connection.createAnswer());
    return this.#connection.localDescription.sdp;
  }

  answered(sdp) {
    return this.#describe('answer', sdp);
  }

  addCandidate({ candidate, sdp_mid: sdpMid, sdp_m_line_index: sdpMLineIndex }) {
    if (candidate === '') return Promise.resolve();
    return this.#connection.addIceCandidate(
      new RTCIceCandidate({ candidate, sdpMid: sdpMid ?? null, sdpMLineIndex: sdpMLineIndex ?? (sdpMid == null ? 0 : null) }),
    );
  }

  /** Calls `send` with each own candidate, as the protocol writes it. */
  onCandidate(send) {
    this.#connection.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      send({ candidate: candidate.candidate, sdp_mid: candidate.sdpMid, sdp_m_line_index: candidate.sdpMLineIndex });
    };
  }

  /** The cumulative figures that `halloo --json` has too, by the same names, and the codecs in use. */
  async stats() {
    const all = [...(await this.#connection.getStats()).values()];
    const byId = new Map(all.map((stat) => [stat.id, stat]));
    const codec = (stat) => byId.get(stat?.codecId)?.mimeType ?? null;
    // Of several, as in a room: the one that carries most.
    const bytes = (stat) => stat.bytesReceived ?? stat.bytesSent ?? 0;
    const stream = (type, kind) =>
      all
        .filter((stat) => stat.type === type && (stat.kind ?? stat.mediaType) === kind)
        .reduce((most, stat) => (most === undefined || bytes(stat) > bytes(most) ? stat : most), undefined);
    const [heard, seen] = [stream('inbound-rtp', 'audio'), stream('inbound-rtp', 'video')];
    const [said, shown] = [stream('outbound-rtp', 'audio'), stream('outbound-rtp', 'video')];
    return {
      codecs: {
        received: [codec(heard), codec(seen)].filter(Boolean),
        sent: [codec(said), codec(shown)].filter(Boolean),
      },
      inbound_audio: { bytes_received: heard?.bytesReceived ?? 0, packets_lost: heard?.packetsLost ?? 0 },
      outbound_audio: { bytes_sent: said?.bytesSent ?? 0 },
      inbound_video: {
        bytes_received: seen?.bytesReceived ?? 0,
        packets_lost: seen?.packetsLost ?? 0,
        frames_received: seen?.framesReceived ?? 0,
        frames_decoded: seen?.framesDecoded ?? 0,
        key_frames_decoded: seen?.keyFramesDecoded ?? 0,
        total_decode_time: seen?.totalDecodeTime ?? 0,
        frame_width: seen?.frameWidth ?? 0,
        frame_height: seen?.frameHeight ?? 0,
        decoder: seen?.decoderImplementation ?? null,
      },
      outbound_video: {
        bytes_sent: shown?.bytesSent ?? 0,
        frames_encoded: shown?.framesEncoded ?? 0,
        key_frames_encoded: shown?.keyFramesEncoded ?? 0,
        total_encode_time: shown?.totalEncodeTime ?? 0,
        frame_width: shown?.frameWidth ?? 0,
        frame_height: shown?.frameHeight ?? 0,
        target_bitrate: shown?.targetBitrate ?? 0,
        limited_by: shown?.qualityLimitationReason ?? null,
        encoder: shown?.encoderImplementation ?? null,
      },
    };
  }

  /** Stops sending and writes the recordings to their end. */
  async close() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#connection.close();
    return this.#recorder?.finish() ?? { audio: null, video: null, sizes: [] };
  }

  #describe(type, sdp) {
    const wanted = this.#kbps === undefined ? sdp : hold(sdp, this.#kbps);
    return this.#connection.setRemoteDescription(new RTCSessionDescription({ type, sdp: wanted }));
  }

  #speak({ samples: voice, rate }) {
    const source = new RTCAudioSource();
    this.#connection.addTrack(source.createTrack());
    const length = rate / BLOCKS;
    this.#pace(BLOCKS, (from, to) => {
      // Every block that is due: timers are late, microphones are not.
      for (let block = from; block < to; block++) {
        const samples = new Int16Array(length);
        for (let i = 0; i < length; i++) samples[i] = 32_767 * voice[(block * length + i) % voice.length];
        source.onData({ samples, sampleRate: rate, bitsPerSample: 16, channelCount: 1, numberOfFrames: length });
      }
    });
  }

  #show({ handle, width, height, rate, size, offsets }) {
    const source = new RTCVideoSource();
    this.#connection.addTrack(source.createTrack());
    const data = new Uint8Array(size);
    this.#pace(rate, (_, to) => {
      // The newest picture that is due: cameras do not catch up.
      readSync(handle.fd, data, 0, size, offsets[(to - 1) % offsets.length]);
      source.onFrame({ width, height, data });
    });
  }

  /** Calls `take(from, to)` with the units that have become due, `rate` of them a second by the clock. */
  #pace(rate, take) {
    const started = performance.now();
    let sent = 0;
    let timer;
    const step = () => {
      this.#timers.delete(timer);
      const due = Math.floor(((performance.now() - started) * rate) / 1000) + 1;
      if (due > sent) take(sent, due);
      sent = due;
      timer = setTimeout(step, Math.max(0, started + (due * 1000) / rate - performance.now()));
      this.#timers.add(timer);
    };
    step();
  }
}

/** Writes what is received: all sound, and every picture once, in the size of the clip that is sent. */
class Recorder {
  #folder;
  #width;
  #height;
  #video;
  #sound = [];
  #rate = 48_000;
  #sinks = [];
  #sizes = new Set();

  constructor(folder, { width, height }) {
    this.#folder = folder;
    [this.#width, this.#height] = [width, height];
    this.#video = openSync(path.join(folder, 'received.y4m'), 'w');
    writeSync(this.#video, `YUV4MPEG2 W${width} H${height} F30:1 Ip A1:1 C420jpeg\n`);
  }

  attach(track) {
    const sink = track.kind === 'audio' ? new RTCAudioSink(track) : new RTCVideoSink(track);
    if (track.kind === 'audio') sink.ondata = (block) => this.#hear(block);
    else sink.onframe = ({ frame }) => this.#see(frame);
    this.#sinks.push(sink);
  }

  async finish() {
    for (const sink of this.#sinks) sink.stop();
    closeSync(this.#video);
    const samples = new Float32Array(this.#sound.reduce((sum, block) => sum + block.length, 0));
    let at = 0;
    for (const block of this.#sound) {
      samples.set(block, at);
      at += block.length;
    }
    const [audio, video] = ['received.wav', 'received.y4m'].map((name) => path.join(this.#folder, name));
    await writeWav(audio, samples, this.#rate);
    return { audio, video, sizes: [...this.#sizes] };
  }

  #hear({ samples, sampleRate, channelCount }) {
    this.#rate = sampleRate;
    const mono = new Float32Array(samples.length / channelCount);
    for (let i = 0; i < mono.length; i++) mono[i] = samples[i * channelCount] / 32_768;
    this.#sound.push(mono);
  }

  #see({ width, height, data }) {
    this.#sizes.add(`${width}x${height}`);
    const same = width === this.#width && height === this.#height;
    writeSync(this.#video, 'FRAME\n');
    writeSync(this.#video, same ? data : letterbox(data, width, height, this.#width, this.#height));
  }
}

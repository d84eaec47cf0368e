// The one RTCPeerConnection of a room (RFC 9429), to an ICE-lite forwarding unit that answers: three sections to send on
// (microphone, camera, screen), then slots to receive in. What is sent changes by `replaceTrack` and `setParameters`, what
// is received by the forwarding unit: who joins, leaves or speaks makes nobody negotiate.
//
// Invariant: `setRemoteDescription` is called once, and again only for a new path (ICE restart) or for more slots.

import type { IceServer, RoomLimits, SourceKind, SourceOf } from '../protocol/types';
import { type Abilities, abilities, trimCodecs, trimExtensions } from './codecs';
import type { Link } from './machine';
import { sourceOf } from './membership';
import { adapt, type Bounds, EVERYTHING, initialEncodings, isSameSending, type Wanted } from './sending';

export const AUDIO_SLOTS = 3;
export const VIDEO_SLOTS = 9;
/** As many as the forwarding unit gives. */
export const MAX_VIDEO_SLOTS = 25;

export interface RoomPeerHandlers {
  link(link: Link): void;
}

export interface SentTracks {
  microphone: MediaStreamTrack | null;
  camera: MediaStreamTrack | null;
  screen: MediaStreamTrack | null;
}

/** A place for a picture, for as long as the connection lasts. */
export interface PictureSlot {
  mid: string;
  stream: MediaStream;
  /** The number (CSRC) of whose packets came last; `null` where the browser does not say. */
  shows(): number | null;
}

const LINKS: Partial<Record<RTCPeerConnectionState, Link>> = {
  connected: 'connected',
  disconnected: 'interrupted',
  failed: 'failed',
};

export class RoomPeer {
  readonly #connection: RTCPeerConnection;
  readonly #senders = new Map<SourceKind, RTCRtpSender>();
  readonly #sound: MediaStream[] = [];
  readonly #pictures: { transceiver: RTCRtpTransceiver; stream: MediaStream }[] = [];
  readonly #wanted = new Map<SourceKind, Wanted>();
  #abilities: Abilities = { send: null, receive: false };
  #limits: RoomLimits | null = null;
  /** Descriptions, and changes to one sender, one after the other. */
  #chain: Promise<unknown> = Promise.resolve();

  constructor(
    iceServers: IceServer[],
    private readonly handlers: RoomPeerHandlers,
  ) {
    this.#connection = new RTCPeerConnection({ iceServers: relays(iceServers), bundlePolicy: 'max-bundle' });
    this.#connection.onconnectionstatechange = () => this.#connectionChanged();
  }

  get isConnected(): boolean {
    return this.#connection.connectionState === 'connected';
  }

  get abilities(): Abilities {
    return this.#abilities;
  }

  /** What each audio slot plays. */
  get sound(): readonly MediaStream[] {
    return this.#sound;
  }

  /** The video slots, once there is an offer. */
  get pictures(): PictureSlot[] {
    return this.#pictures.flatMap(({ transceiver, stream }) => {
      const { mid, receiver } = transceiver;
      return mid === null ? [] : [{ mid, stream, shows: () => latestCsrc(receiver) }];
    });
  }

  /** The one offer, with nothing attached yet. */
  async offer(): Promise<string> {
    this.#abilities = await abilities();
    this.#send('microphone', {});
    const { send, receive } = this.#abilities;
    if (send !== null) {
      this.#send('camera', { sendEncodings: initialEncodings('camera', send) });
      this.#send('screen', { sendEncodings: initialEncodings('screen', send) });
    }
    for (let slot = 0; slot < AUDIO_SLOTS; slot++) this.#sound.push(streamOf(this.#receive('audio')));
    if (receive) this.#addPictures(VIDEO_SLOTS);
    await this.#connection.setLocalDescription();
    return this.#localSdp();
  }

  /** The answer to the last offer. */
  applyAnswer(sdp: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#connection.signalingState !== 'have-local-offer') return;
      await this.#connection.setRemoteDescription({ type: 'answer', sdp });
    });
  }

  /**
   * Negotiates anew by `ask`, which takes an offer to the server and brings its answer: for a new path, or for up to
   * `pictures` video slots.
   */
  renegotiate(ask: (offer: string) => Promise<string>, { restart = false, pictures = 0 } = {}): Promise<void> {
    return this.#inTurn(async () => {
      const connection = this.#connection;
      if (connection.signalingState !== 'stable' || connection.currentRemoteDescription === null) return;
      const more = Math.min(pictures, MAX_VIDEO_SLOTS) - this.#pictures.length;
      if (this.#abilities.receive && more > 0) this.#addPictures(more);
      else if (!restart) return;
      if (restart) connection.restartIce();
      await connection.setLocalDescription();
      try {
        await connection.setRemoteDescription({ type: 'answer', sdp: await ask(this.#localSdp()) });
      } catch (error) {
        await connection.setLocalDescription({ type: 'rollback' }).catch(() => {});
        throw error;
      }
    });
  }

  /** What is sent from now on; `null` sends nothing. */
  setTracks(tracks: SentTracks): Promise<void> {
    return this.#inTurn(async () => {
      for (const [kind, sender] of this.#senders) {
        const track = tracks[kind];
        if (sender.track === track) continue;
        // Nobody can want a picture that was not there: send all of it until told otherwise.
        if (sender.track === null) this.#wanted.delete(kind);
        if (track !== null && kind !== 'microphone') await this.#adapt(kind, sender, track);
        await sender.replaceTrack(track);
      }
    });
  }

  /** What the room takes of one participant. */
  setLimits(limits: RoomLimits): Promise<void> {
    if (this.#limits?.max_height === limits.max_height && this.#limits.max_publish_kbps === limits.max_publish_kbps) {
      return Promise.resolve();
    }
    this.#limits = limits;
    return this.#adaptAll();
  }

  /** What of a source somebody receives: the rest is not sent. */
  setWanted(kind: SourceKind, wanted: Wanted): Promise<void> {
    this.#wanted.set(kind, wanted);
    return this.#adaptAll();
  }

  /** What the video slots show, by what their packets say. */
  readSlots(): Map<string, SourceOf> {
    const found = new Map<string, SourceOf>();
    for (const { mid, shows } of this.pictures) {
      const csrc = shows();
      const source = csrc === null ? null : sourceOf(csrc);
      if (source !== null) found.set(mid, source);
    }
    return found;
  }

  async stats(): Promise<RTCStatsReport | null> {
    return this.#connection.connectionState === 'closed' ? null : this.#connection.getStats();
  }

  close(): void {
    this.#connection.onconnectionstatechange = null;
    this.#connection.close();
  }

  #send(kind: SourceKind, init: RTCRtpTransceiverInit): void {
    const medium = kind === 'microphone' ? 'audio' : 'video';
    const transceiver = this.#connection.addTransceiver(medium, { ...init, direction: 'sendonly' });
    trimCodecs(transceiver, medium);
    trimExtensions(transceiver, init.sendEncodings?.length ?? 1);
    this.#senders.set(kind, transceiver.sender);
  }

  #receive(medium: 'audio' | 'video'): RTCRtpTransceiver {
    const transceiver = this.#connection.addTransceiver(medium, { direction: 'recvonly' });
    trimCodecs(transceiver, medium);
    trimExtensions(transceiver, 1);
    return transceiver;
  }

  #addPictures(count: number): void {
    for (let slot = 0; slot < count; slot++) {
      const transceiver = this.#receive('video');
      this.#pictures.push({ transceiver, stream: streamOf(transceiver) });
    }
  }

  #adaptAll(): Promise<void> {
    return this.#inTurn(async () => {
      for (const kind of ['camera', 'screen'] as const) {
        const sender = this.#senders.get(kind);
        if (sender?.track) await this.#adapt(kind, sender, sender.track);
      }
    });
  }

  async #adapt(kind: SourceKind, sender: RTCRtpSender, track: MediaStreamTrack): Promise<void> {
    const form = this.#abilities.send;
    if (form === null) return;
    const parameters = sender.getParameters();
    const encodings = adapt(
      parameters.encodings,
      kind,
      form,
      this.#wanted.get(kind) ?? EVERYTHING,
      this.#bounds(track),
    );
    if (isSameSending(parameters.encodings, encodings)) return;
    parameters.encodings = encodings;
    try {
      await sender.setParameters(parameters);
    } catch {
      // Sending more than is wanted does no harm.
    }
  }

  #bounds(track: MediaStreamTrack): Bounds {
    const { width, height } = track.getSettings();
    const picture = width === undefined || height === undefined ? null : { width, height };
    const maxHeight = this.#limits?.max_height ?? Number.POSITIVE_INFINITY;
    const maxBitrate = (this.#limits?.max_publish_kbps ?? 100_000) * 1_000;
    return { picture, maxHeight, maxBitrate };
  }

  #connectionChanged(): void {
    const link = LINKS[this.#connection.connectionState];
    if (link !== undefined) this.handlers.link(link);
  }

  #localSdp(): string {
    const sdp = this.#connection.localDescription?.sdp;
    if (sdp === undefined) throw new Error('The connection was closed.');
    return sdp;
  }

  #inTurn<T>(job: () => Promise<T>): Promise<T> {
    const done = this.#chain.then(job);
    this.#chain = done.catch(() => {});
    return done;
  }
}

function streamOf(transceiver: RTCRtpTransceiver): MediaStream {
  return new MediaStream([transceiver.receiver.track]);
}

function latestCsrc(receiver: RTCRtpReceiver): number | null {
  const sources = receiver.getContributingSources?.() ?? [];
  return (
    sources.reduce<RTCRtpContributingSource | null>(
      (latest, each) => (latest === null || each.timestamp > latest.timestamp ? each : latest),
      null,
    )?.source ?? null
  );
}

/** The forwarding unit has an address of its own, so STUN has nothing to find; a relay may be the only way out. */
function relays(servers: IceServer[]): RTCIceServer[] {
  return servers.flatMap((server) => {
    const urls = server.urls.filter((url) => /^turns?:/.test(url));
    if (urls.length === 0 || !server.username || !server.credential) return [];
    return [{ urls, username: server.username, credential: server.credential }];
  });
}

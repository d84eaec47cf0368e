// One call's RTCPeerConnection (RFC 9429): a microphone and a camera section, both sendrecv from the first offer, so that
// turning something on or off never renegotiates.
//
// Invariant: a callee gathers, sends and dials nothing before `answer()`. The remote description may be read before, but
// its candidates wait, since even resolving their names would tell the caller an address. Later offers (ICE restart,
// RFC 8839 section 4.4) may cross: the caller's wins.

import type { AnnouncedRole, Candidate, IceServer, SdpKind } from '../protocol/types';
import type { Link } from './machine';

/** `disconnected` often heals by itself within this time. */
const RESTART_AFTER_MS = 2_000;
/** Between two attempts to find a new path. */
const RESTART_EVERY_MS = 5_000;
const MAX_VIDEO_BITRATE = 2_500_000;
/** More remote candidates than this before the answer are dropped: nobody has that many addresses. */
const MAX_QUEUED_CANDIDATES = 128;

export interface PeerHandlers {
  candidate(candidate: Candidate): void;
  /** A further offer or answer for the other side. */
  description(kind: SdpKind, sdp: string): void;
  link(link: Link): void;
}

export interface Tracks {
  audio: MediaStreamTrack | null;
  video: MediaStreamTrack | null;
}

export class Peer {
  /** What the other side sends: one audio and one video track, from the start. */
  readonly remote = new MediaStream();
  readonly #connection: RTCPeerConnection;
  /** Names both tracks on the other side as one source, for lip sync. */
  readonly #localStream = new MediaStream();
  #tracks: Tracks = { audio: null, video: null };
  #prepared: Promise<void> | null = null;
  #queued: RTCIceCandidateInit[] | null = [];
  #negotiating = false;
  #ignoringOffer = false;
  #restartTimer: ReturnType<typeof setTimeout> | null = null;
  /** Descriptions are applied strictly one after the other. */
  #chain: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly role: AnnouncedRole,
    iceServers: IceServer[],
    private readonly handlers: PeerHandlers,
  ) {
    this.#connection = new RTCPeerConnection({
      iceServers: iceServers.map(toRtcIceServer),
      bundlePolicy: 'max-bundle',
    });
    this.#connection.onicecandidate = ({ candidate }) => {
      if (candidate !== null && candidate.candidate !== '') this.handlers.candidate(fromRtcCandidate(candidate));
    };
    this.#connection.ontrack = ({ track }) => this.remote.addTrack(track);
    this.#connection.onconnectionstatechange = () => this.#connectionChanged();
  }

  /** The caller's first offer. */
  async offer(): Promise<string> {
    const init: RTCRtpTransceiverInit = { direction: 'sendrecv', streams: [this.#localStream] };
    this.#connection.addTransceiver('audio', init);
    preferAv1(this.#connection.addTransceiver('video', init));
    await this.#attach();
    await this.#connection.setLocalDescription();
    return this.#localSdp();
  }

  /** Reads the caller's offer without giving anything away. */
  prepare(sdp: string): Promise<void> {
    const { description, candidates } = withoutCandidates(sdp);
    this.#queue(candidates);
    this.#prepared = this.#connection.setRemoteDescription({ type: 'offer', sdp: description });
    // `answer()` reports a failure; before it nobody is told.
    this.#prepared.catch(() => {});
    return this.#prepared;
  }

  /** The callee's answer. From here on this side is visible to the caller. */
  async answer(): Promise<string> {
    await this.#prepared;
    for (const transceiver of this.#connection.getTransceivers()) {
      transceiver.direction = 'sendrecv';
      transceiver.sender.setStreams(this.#localStream);
      if (transceiver.receiver.track.kind === 'video') preferAv1(transceiver);
    }
    await this.#attach();
    await this.#connection.setLocalDescription();
    const sdp = this.#localSdp();
    assertAudio(sdp);
    this.#flushCandidates();
    return sdp;
  }

  /** The other side's answer to an offer, or a further offer of theirs. */
  applyDescription(kind: SdpKind, sdp: string): Promise<void> {
    return this.#inTurn(async () => {
      const connection = this.#connection;
      const crossing = kind === 'offer' && (this.#negotiating || connection.signalingState !== 'stable');
      this.#ignoringOffer = crossing && this.role === 'caller';
      if (this.#ignoringOffer) return;
      if (kind === 'answer' && connection.signalingState !== 'have-local-offer') return;
      await connection.setRemoteDescription({ type: kind, sdp });
      if (kind === 'offer') {
        await connection.setLocalDescription();
        this.handlers.description('answer', this.#localSdp());
      } else {
        assertAudio(sdp);
      }
      this.#flushCandidates();
    });
  }

  addCandidate(candidate: Candidate): void {
    const init = toRtcCandidate(candidate);
    if (this.#queued !== null) this.#queue([init]);
    else void this.#inTurn(() => this.#addNow(init));
  }

  /** What is sent from now on; `null` sends nothing. */
  async setTracks(tracks: Tracks): Promise<void> {
    this.#tracks = tracks;
    await this.#attach();
  }

  /** Looks for a new path: the network changed, or media stopped. */
  restart(): void {
    void this.#inTurn(async () => {
      const connection = this.#connection;
      if (connection.signalingState !== 'stable' || connection.currentRemoteDescription === null) return;
      this.#negotiating = true;
      try {
        connection.restartIce();
        await connection.setLocalDescription();
        this.handlers.description('offer', this.#localSdp());
      } finally {
        this.#negotiating = false;
      }
    });
  }

  async stats(): Promise<RTCStatsReport | null> {
    return this.#connection.connectionState === 'closed' ? null : this.#connection.getStats();
  }

  close(): void {
    this.#stopRestarting();
    this.#connection.onicecandidate = null;
    this.#connection.onconnectionstatechange = null;
    this.#connection.ontrack = null;
    this.#connection.close();
  }

  #connectionChanged(): void {
    switch (this.#connection.connectionState) {
      case 'connected':
        this.#stopRestarting();
        this.handlers.link('connected');
        break;
      case 'disconnected':
        this.handlers.link('interrupted');
        this.#restartIn(RESTART_AFTER_MS);
        break;
      case 'failed':
        this.handlers.link('interrupted');
        this.#restartIn(0);
        break;
      default:
        break;
    }
  }

  #restartIn(wait: number): void {
    this.#stopRestarting();
    this.#restartTimer = setTimeout(() => {
      this.restart();
      this.#restartIn(RESTART_EVERY_MS);
    }, wait);
  }

  #stopRestarting(): void {
    if (this.#restartTimer !== null) clearTimeout(this.#restartTimer);
    this.#restartTimer = null;
  }

  async #attach(): Promise<void> {
    for (const { sender, receiver } of this.#connection.getTransceivers()) {
      const video = receiver.track.kind === 'video';
      const track = video ? this.#tracks.video : this.#tracks.audio;
      if (sender.track !== track) await sender.replaceTrack(track);
      if (video) await limitBitrate(sender);
    }
  }

  #queue(candidates: RTCIceCandidateInit[]): void {
    const room = MAX_QUEUED_CANDIDATES - (this.#queued?.length ?? 0);
    this.#queued?.push(...candidates.slice(0, Math.max(0, room)));
  }

  #flushCandidates(): void {
    const queued = this.#queued ?? [];
    this.#queued = null;
    for (const candidate of queued) void this.#addNow(candidate);
  }

  async #addNow(candidate: RTCIceCandidateInit): Promise<void> {
    try {
      await this.#connection.addIceCandidate(candidate);
    } catch (error) {
      // Of an offer that was ignored, of an older generation, or unreadable: other candidates remain.
      if (!this.#ignoringOffer) console.debug('candidate skipped', error);
    }
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

function preferAv1(transceiver: RTCRtpTransceiver): void {
  const codecs = RTCRtpReceiver.getCapabilities('video')?.codecs;
  if (codecs === undefined || !('setCodecPreferences' in transceiver)) return;
  const isAv1 = (codec: RTCRtpCodec) => codec.mimeType.toLowerCase() === 'video/av1';
  try {
    transceiver.setCodecPreferences([...codecs.filter(isAv1), ...codecs.filter((codec) => !isAv1(codec))]);
  } catch {
    // A browser that refuses keeps its own order.
  }
}

async function limitBitrate(sender: RTCRtpSender): Promise<void> {
  const parameters = sender.getParameters();
  const encoding = parameters.encodings?.[0];
  if (encoding === undefined || encoding.maxBitrate === MAX_VIDEO_BITRATE) return;
  encoding.maxBitrate = MAX_VIDEO_BITRATE;
  try {
    await sender.setParameters(parameters);
  } catch {
    // Changed in between: the next attach sets it.
  }
}

/** An answer that rejects the audio section means that the two sides share no audio codec. */
function assertAudio(sdp: string): void {
  if (/^m=audio 0 /m.test(sdp)) throw new Error('The other side has no audio codec that this browser knows.');
}

/** The SDP without its candidates, and those, in the form `addIceCandidate` takes. */
export function withoutCandidates(sdp: string): { description: string; candidates: RTCIceCandidateInit[] } {
  const candidates: RTCIceCandidateInit[] = [];
  const kept: string[] = [];
  let index = -1;
  for (const line of sdp.split(/\r?\n/)) {
    if (line.startsWith('m=')) index += 1;
    if (line.startsWith('a=candidate:'))
      candidates.push({ candidate: line.slice(2), sdpMLineIndex: Math.max(0, index) });
    else if (line !== 'a=end-of-candidates') kept.push(line);
  }
  return { description: kept.join('\r\n'), candidates };
}

function toRtcIceServer(server: IceServer): RTCIceServer {
  const rtc: RTCIceServer = { urls: server.urls };
  if (server.username) rtc.username = server.username;
  if (server.credential) rtc.credential = server.credential;
  return rtc;
}

function fromRtcCandidate(rtc: RTCIceCandidate): Candidate {
  const candidate: Candidate = { candidate: rtc.candidate };
  if (rtc.sdpMid !== null) candidate.sdp_mid = rtc.sdpMid;
  if (rtc.sdpMLineIndex !== null) candidate.sdp_m_line_index = rtc.sdpMLineIndex;
  if (rtc.usernameFragment !== null) candidate.username_fragment = rtc.usernameFragment;
  return candidate;
}

function toRtcCandidate(candidate: Candidate): RTCIceCandidateInit {
  const rtc: RTCIceCandidateInit = { candidate: candidate.candidate };
  if (candidate.sdp_mid != null) rtc.sdpMid = candidate.sdp_mid;
  if (candidate.sdp_m_line_index != null) rtc.sdpMLineIndex = candidate.sdp_m_line_index;
  // Without either the browser refuses it; with BUNDLE the first section stands for all.
  if (rtc.sdpMid === undefined && rtc.sdpMLineIndex === undefined && candidate.candidate !== '') rtc.sdpMLineIndex = 0;
  if (candidate.username_fragment != null) rtc.usernameFragment = candidate.username_fragment;
  return rtc;
}

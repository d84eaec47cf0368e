// What the offer to the forwarding unit is trimmed to: the codecs and header extensions that it answers, so that an offer
// with a dozen slots stays small; and what this browser can do of it.

import type { Form } from './sending';

/** What this browser can do with AV1, the codec of rooms. */
export interface Abilities {
  /** Whether it can send pictures, and in which form; `null` where it cannot. */
  send: Form | null;
  /** Whether it can show pictures. */
  receive: boolean;
}

const DEPENDENCY_DESCRIPTOR = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';
const MID = 'urn:ietf:params:rtp-hdrext:sdes:mid';
const RIDS = [
  'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id',
  'urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id',
];
const KEPT = new Set([
  MID,
  DEPENDENCY_DESCRIPTOR,
  'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01',
  'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
  'urn:ietf:params:rtp-hdrext:ssrc-audio-level',
  'urn:3gpp:video-orientation',
]);

/** As TypeScript's own types lack it (W3C webrtc-extensions, section 5). */
interface HeaderExtension {
  uri: string;
  direction: RTCRtpTransceiverDirection;
}
interface WithExtensions {
  getHeaderExtensionsToNegotiate?(): HeaderExtension[];
  setHeaderExtensionsToNegotiate?(extensions: HeaderExtension[]): void;
}

export async function abilities(): Promise<Abilities> {
  const sends = RTCRtpSender.getCapabilities('video')?.codecs.some(isAv1Main) ?? false;
  const receive = RTCRtpReceiver.getCapabilities('video')?.codecs.some(isAv1Main) ?? false;
  if (!sends) return { send: null, receive };
  return { send: (await layersWork()) ? 'layers' : 'encodings', receive };
}

/** Whether AV1 can be sent with spatial layers (W3C media-capabilities, `webrtc`). */
async function layersWork(): Promise<boolean> {
  const video = {
    contentType: 'video/AV1',
    width: 1280,
    height: 720,
    bitrate: 2_500_000,
    framerate: 30,
    scalabilityMode: 'L3T3_KEY',
  };
  try {
    return (await navigator.mediaCapabilities.encodingInfo({ type: 'webrtc', video })).supported;
  } catch {
    return false;
  }
}

/** Keeps Opus, or AV1 of the main profile and its retransmissions. */
export function trimCodecs(transceiver: RTCRtpTransceiver, kind: 'audio' | 'video'): void {
  const all = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const kept = all.filter((codec) => (kind === 'audio' ? isOpus(codec) : isAv1Main(codec) || isRtx(codec)));
  try {
    if (kept.length > 0) transceiver.setCodecPreferences(kept);
  } catch {
    // A larger offer, which is answered all the same.
  }
}

/** Keeps the header extensions that the forwarding unit reads, and offers AV1's dependency descriptor. */
export function trimExtensions(transceiver: RTCRtpTransceiver, encodings: number): void {
  const extended = transceiver as WithExtensions;
  const offered = extended.getHeaderExtensionsToNegotiate?.();
  if (offered === undefined) return;
  for (const extension of offered) {
    if (extension.uri === DEPENDENCY_DESCRIPTOR) extension.direction = 'sendrecv';
    else if (!KEPT.has(extension.uri) && !(encodings > 1 && RIDS.includes(extension.uri)))
      extension.direction = 'stopped';
  }
  try {
    extended.setHeaderExtensionsToNegotiate?.(offered);
  } catch {
    // The browser's own choice.
  }
}

function isOpus(codec: RTCRtpCodec): boolean {
  return codec.mimeType.toLowerCase() === 'audio/opus';
}

function isRtx(codec: RTCRtpCodec): boolean {
  return codec.mimeType.toLowerCase() === 'video/rtx';
}

function isAv1Main(codec: RTCRtpCodec): boolean {
  if (codec.mimeType.toLowerCase() !== 'video/av1') return false;
  const profile = /(?:^|;)\s*profile=(\d+)/.exec(codec.sdpFmtpLine ?? '')?.[1] ?? '0';
  return profile === '0';
}

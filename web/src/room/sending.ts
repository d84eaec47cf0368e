// How a picture is sent to the forwarding unit: as one AV1 stream with spatial layers where the browser can, else as several
// encodings (simulcast); and how much of that, given what somebody receives. Pure.
//
// Invariant: every encoding of a browser that knows scalability modes has one; without it Chromium sends the first
// encoding alone.

import type { SourceKind } from '../protocol/types';

/** `layers`: one stream, AV1's own layers. `encodings`: one stream a size. */
export type Form = 'layers' | 'encodings';

/** What of a source somebody receives: so many encodings, and spatial layers of the largest of them. */
export interface Wanted {
  encodings: number;
  spatial: number;
}

export const EVERYTHING: Wanted = { encodings: 3, spatial: 3 };

/** As TypeScript's own types lack it. */
export interface Encoding extends RTCRtpEncodingParameters {
  scalabilityMode?: string;
}

/**
 * Pixels from which a browser sends that many encodings of a picture (libwebrtc's `simulcast.cc`): it leaves out the last
 * ones, whatever their size, so of a small picture the last one that counts has to be the whole of it.
 */
const ENCODINGS_BY_PIXELS = [
  { pixels: 960 * 540, encodings: 3 },
  { pixels: 480 * 270, encodings: 2 },
] as const;
const CAMERA_LAYERS = 3;
const CAMERA_BITRATE = 2_500_000;
const SCREEN_BITRATE = 2_500_000;
/** Smallest first, as the forwarding unit counts them. */
const CAMERA_ENCODINGS: readonly Encoding[] = [
  { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 150_000, scalabilityMode: 'L1T1' },
  { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500_000, scalabilityMode: 'L1T1' },
  { rid: 'f', scaleResolutionDownBy: 1, maxBitrate: 1_800_000, scalabilityMode: 'L1T1' },
];

/** What the sender of a source starts with. A screen has one size: its letters must stay legible. */
export function initialEncodings(kind: SourceKind, form: Form): Encoding[] {
  if (kind === 'screen') {
    return [{ maxBitrate: SCREEN_BITRATE, ...(form === 'layers' ? { scalabilityMode: 'L1T3' } : {}) }];
  }
  if (form === 'layers') return [{ maxBitrate: CAMERA_BITRATE, scalabilityMode: layered(CAMERA_LAYERS) }];
  return CAMERA_ENCODINGS.map((encoding) => ({ ...encoding }));
}

/** Limits for what is sent, beside what somebody receives. */
export interface Bounds {
  /** The track's picture, in pixels; `null` where the browser does not say. */
  picture: { width: number; height: number } | null;
  /** The tallest picture that the room takes. */
  maxHeight: number;
  /** What the room takes of one participant, in bits a second. */
  maxBitrate: number;
}

/** The encodings with those switched off, or made smaller, that nobody receives. Others keep their fields. */
export function adapt(
  encodings: readonly Encoding[],
  kind: SourceKind,
  form: Form,
  wanted: Wanted,
  bounds: Bounds,
): Encoding[] {
  const initial = initialEncodings(kind, form);
  const shrink = bounds.picture === null ? 1 : Math.max(1, bounds.picture.height / bounds.maxHeight);
  const possible = Math.min(initial.length, possibleEncodings(bounds));
  return encodings.map((encoding, index) => {
    const base = initial[index + initial.length - possible] ?? {};
    const next: Encoding = {
      ...encoding,
      active: index < Math.min(wanted.encodings, possible),
      scaleResolutionDownBy: shrink * (base.scaleResolutionDownBy ?? 1),
      maxBitrate: Math.min(base.maxBitrate ?? bounds.maxBitrate, bounds.maxBitrate),
    };
    if (kind === 'camera' && form === 'layers') {
      const layers = Math.min(CAMERA_LAYERS, Math.max(1, wanted.spatial));
      next.scalabilityMode = layered(layers);
      // Without its top layer the picture is half as large: the layers below stay what they were.
      next.scaleResolutionDownBy = shrink * 2 ** (CAMERA_LAYERS - layers);
    }
    return next;
  });
}

function possibleEncodings({ picture }: Bounds): number {
  if (picture === null) return CAMERA_ENCODINGS.length;
  const pixels = picture.width * picture.height;
  return ENCODINGS_BY_PIXELS.find((each) => pixels >= each.pixels)?.encodings ?? 1;
}

/** Whether two lists of encodings ask for the same. */
export function isSameSending(a: readonly Encoding[], b: readonly Encoding[]): boolean {
  const fields = ['active', 'scaleResolutionDownBy', 'maxBitrate', 'scalabilityMode'] as const;
  return a.length === b.length && a.every((each, index) => fields.every((field) => each[field] === b[index]?.[field]));
}

function layered(spatial: number): string {
  return spatial === 1 ? 'L1T3' : `L${spatial}T3_KEY`;
}

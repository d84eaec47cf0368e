// What keeps a microphone or a camera from working, in words that say what to do about it.

export type Device = 'microphone' | 'camera';
export type ProblemKind = 'missing' | 'blocked' | 'in_use' | 'insecure' | 'unsupported' | 'failed';

export interface Problem {
  device: Device;
  kind: ProblemKind;
}

/** What a `getUserMedia` failure means (W3C Media Capture, section 10.2). */
export function problemOf(device: Device, error: unknown): Problem {
  const name = error instanceof DOMException || error instanceof Error ? error.name : '';
  switch (name) {
    case 'NotFoundError':
    case 'OverconstrainedError':
      return { device, kind: 'missing' };
    case 'NotAllowedError':
    case 'SecurityError':
      return { device, kind: 'blocked' };
    case 'NotReadableError':
    case 'AbortError':
      return { device, kind: 'in_use' };
    default:
      return { device, kind: 'failed' };
  }
}

/** What is wrong and what to do, as one or two sentences. */
export function describe({ device, kind }: Problem): string {
  const effect = device === 'microphone' ? 'The others cannot hear you.' : 'The others cannot see you.';
  switch (kind) {
    case 'missing':
      return `No ${device} was found. ${effect} Plug one in and it is used at once.`;
    case 'blocked':
      return `The browser blocks the ${device} for this page. ${effect} To allow it, use the icon at the left of the address bar.`;
    case 'in_use':
      return `The ${device} cannot be opened; another program may be using it. Close that program and try again.`;
    case 'insecure':
      return `This page was opened without HTTPS, so the browser gives it no ${device}. Open it by its https:// address (“halloo serve --lan” prints one) or on localhost.`;
    case 'unsupported':
      return `This browser has no access to a ${device}.`;
    case 'failed':
      return `The ${device} could not be opened. Choose another one in the settings.`;
  }
}

/** What to say about a problem in a few words, beside a control. */
export function short({ device, kind }: Problem): string {
  const name = device === 'microphone' ? 'Microphone' : 'Camera';
  switch (kind) {
    case 'missing':
      return `No ${device}`;
    case 'blocked':
      return `${name} blocked`;
    case 'in_use':
      return `${name} in use`;
    default:
      return `${name} unavailable`;
  }
}

// Stand-ins for what a browser brings, for tests: as much of RTCPeerConnection as rooms use, remembering what was done.

import { vi } from 'vitest';
import type { Encoding } from './sending';

export class FakeTrack {
  readonly height: number;
  constructor(
    readonly kind: 'audio' | 'video',
    height = 720,
  ) {
    this.height = height;
  }
  getSettings() {
    return this.kind === 'video' ? { width: (this.height * 16) / 9, height: this.height } : {};
  }
}

class FakeSender {
  track: unknown = null;
  constructor(public encodings: Encoding[]) {}
  getParameters() {
    return { encodings: this.encodings.map((each) => ({ ...each })) };
  }
  async setParameters({ encodings }: { encodings: Encoding[] }) {
    this.encodings = encodings;
  }
  async replaceTrack(track: unknown) {
    this.track = track;
  }
}

interface FakeTransceiver {
  kind: 'audio' | 'video';
  direction: string;
  mid: string | null;
  sender: FakeSender;
  receiver: { track: FakeTrack; getContributingSources(): { source: number; timestamp: number }[] };
  codecs: string[];
  setCodecPreferences(codecs: RTCRtpCodec[]): void;
}

export class FakeConnection {
  static made: FakeConnection[] = [];
  readonly transceivers: FakeTransceiver[] = [];
  /** Contributing sources by mid. */
  readonly csrcs = new Map<string, { source: number; timestamp: number }[]>();
  readonly remote: string[] = [];
  onconnectionstatechange: (() => void) | null = null;
  connectionState = 'new';
  signalingState = 'stable';
  localDescription: { sdp: string } | null = null;
  currentRemoteDescription: { sdp: string } | null = null;
  restarts = 0;

  constructor(readonly configuration: RTCConfiguration) {
    FakeConnection.made.push(this);
  }

  addTransceiver(kind: 'audio' | 'video', init: RTCRtpTransceiverInit) {
    const transceiver: FakeTransceiver = {
      kind,
      direction: init.direction ?? 'sendrecv',
      mid: null,
      sender: new FakeSender(init.sendEncodings ?? [{}]),
      receiver: {
        track: new FakeTrack(kind),
        getContributingSources: () => this.csrcs.get(transceiver.mid ?? '') ?? [],
      },
      codecs: [],
      setCodecPreferences(codecs) {
        transceiver.codecs = codecs.map((each) => `${each.mimeType} ${each.sdpFmtpLine ?? ''}`.trim());
      },
    };
    this.transceivers.push(transceiver);
    return transceiver;
  }

  async setLocalDescription(description?: { type: string }) {
    if (description?.type === 'rollback') {
      this.signalingState = 'stable';
      return;
    }
    this.transceivers.forEach((each, index) => {
      each.mid = String(index);
    });
    this.signalingState = 'have-local-offer';
    this.localDescription = { sdp: `offer of ${this.transceivers.length}` };
  }

  async setRemoteDescription({ sdp }: { sdp: string }) {
    this.remote.push(sdp);
    this.signalingState = 'stable';
    this.currentRemoteDescription = { sdp };
  }

  restartIce() {
    this.restarts += 1;
  }

  connect(state: 'connected' | 'disconnected' | 'failed') {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  close() {
    this.connectionState = 'closed';
  }
}

const CODECS: Record<'audio' | 'video', { mimeType: string; sdpFmtpLine?: string }[]> = {
  audio: [
    { mimeType: 'audio/opus', sdpFmtpLine: 'minptime=10' },
    { mimeType: 'audio/red' },
    { mimeType: 'audio/PCMU' },
  ],
  video: [
    { mimeType: 'video/VP8' },
    { mimeType: 'video/rtx' },
    { mimeType: 'video/AV1', sdpFmtpLine: 'level-idx=5;profile=0;tier=0' },
    { mimeType: 'video/AV1', sdpFmtpLine: 'level-idx=5;profile=1;tier=0' },
  ],
};

/** Puts the stand-ins in the browser's place. */
export function installBrowser({ layers = true, av1 = true } = {}): void {
  FakeConnection.made = [];
  const getCapabilities = (kind: 'audio' | 'video') => ({
    codecs: CODECS[kind].filter(({ mimeType }) => av1 || mimeType !== 'video/AV1'),
  });
  vi.stubGlobal('RTCPeerConnection', FakeConnection);
  vi.stubGlobal('RTCRtpSender', { getCapabilities });
  vi.stubGlobal('RTCRtpReceiver', { getCapabilities });
  vi.stubGlobal(
    'MediaStream',
    class {
      constructor(readonly tracks: unknown[]) {}
    },
  );
  vi.stubGlobal('navigator', { mediaCapabilities: { encodingInfo: async () => ({ supported: layers }) } });
}

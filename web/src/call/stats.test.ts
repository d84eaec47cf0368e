import { describe, expect, it } from 'vitest';
import { quality, read, type Sample } from './stats';

const report = (over: { bytes: number; packets: number; lost: number; concealed?: number; samples?: number }) => [
  { id: 'T', type: 'transport', selectedCandidatePairId: 'P' },
  {
    id: 'P',
    type: 'candidate-pair',
    bytesReceived: over.bytes,
    bytesSent: over.bytes / 2,
    currentRoundTripTime: 0.042,
    localCandidateId: 'L',
    remoteCandidateId: 'R',
  },
  { id: 'L', type: 'local-candidate', candidateType: 'host', protocol: 'udp' },
  { id: 'R', type: 'remote-candidate', candidateType: 'relay', protocol: 'udp' },
  {
    id: 'A',
    type: 'inbound-rtp',
    kind: 'audio',
    codecId: 'CA',
    packetsReceived: over.packets,
    packetsLost: over.lost,
    jitter: 0.004,
    concealedSamples: over.concealed ?? 0,
    silentConcealedSamples: 0,
    totalSamplesReceived: over.samples ?? 0,
  },
  {
    id: 'V',
    type: 'inbound-rtp',
    kind: 'video',
    codecId: 'CV',
    frameWidth: 640,
    frameHeight: 360,
    framesPerSecond: 30,
  },
  { id: 'CA', type: 'codec', mimeType: 'audio/opus' },
  { id: 'CV', type: 'codec', mimeType: 'video/AV1' },
];

describe('a second of statistics', () => {
  it('is the difference of two reports', () => {
    const first = read(report({ bytes: 10_000, packets: 100, lost: 0, samples: 48_000 }), 0, null);
    expect(first.sample).toMatchObject({ lossIn: null, kbpsIn: null, rttMs: 42 });
    const second = read(
      report({ bytes: 135_000, packets: 190, lost: 10, concealed: 4_800, samples: 96_000 }),
      1_000,
      first.counters,
    );
    expect(second.sample).toMatchObject({
      lossIn: 0.1,
      kbpsIn: 1_000,
      kbpsOut: 500,
      concealed: 0.1,
      jitterMs: 4,
      fpsIn: 30,
      sizeIn: '640 × 360',
      audioCodec: 'opus',
      videoCodec: 'AV1',
      path: 'through a relay, UDP',
    });
  });

  it('takes packets that were repaired afterwards for no loss', () => {
    const first = read(report({ bytes: 0, packets: 100, lost: 5 }), 0, null);
    expect(read(report({ bytes: 0, packets: 110, lost: 2 }), 1_000, first.counters).sample.lossIn).toBe(0);
  });

  it('reads an empty report', () => {
    expect(read([], 0, null).sample).toMatchObject({ rttMs: null, sizeIn: null, path: null });
  });
});

describe('quality', () => {
  const good = read(report({ bytes: 0, packets: 0, lost: 0 }), 0, null).sample;
  const bad: Sample = { ...good, lossIn: 0.3 };
  it('says nothing after one second', () => expect(quality([good])).toBe('unknown'));
  it('is good when all is well', () => expect(quality([good, good, good])).toBe('good'));
  it('forgives one bad second', () => expect(quality([good, bad, good])).toBe('good'));
  it('is poor after two', () => expect(quality([good, bad, bad])).toBe('poor'));
  it('counts a long round trip', () => {
    const slow: Sample = { ...good, rttMs: 400 };
    expect(quality([slow, slow, slow])).toBe('fair');
  });
});

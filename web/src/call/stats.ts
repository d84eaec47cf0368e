// Figures of a running call: from two W3C statistics reports (webrtc-stats) to what a person can judge. Pure.

/** One second of a call. Ratios are 0 to 1; `null` where nothing was measured. */
export interface Sample {
  at: number;
  rttMs: number | null;
  lossIn: number | null;
  lossOut: number | null;
  jitterMs: number | null;
  /** Share of the audio that was made up for missing packets. */
  concealed: number | null;
  kbpsIn: number | null;
  kbpsOut: number | null;
  fpsIn: number | null;
  fpsOut: number | null;
  sizeIn: string | null;
  sizeOut: string | null;
  audioCodec: string | null;
  videoCodec: string | null;
  /** How the two sides reach each other: `host`, `srflx`, `relay`... and the protocol. */
  path: string | null;
}

/** Counters to take differences of. */
export interface Counters {
  at: number;
  bytesIn: number;
  bytesOut: number;
  packetsIn: number;
  lostIn: number;
  concealedSamples: number;
  totalSamples: number;
}

export type Quality = 'unknown' | 'good' | 'fair' | 'poor';

/** The fields of the many kinds of statistics that are read here. */
interface Stat {
  id: string;
  type: string;
  kind?: string;
  codecId?: string;
  mimeType?: string;
  bytesReceived?: number;
  bytesSent?: number;
  packetsReceived?: number;
  packetsLost?: number;
  fractionLost?: number;
  jitter?: number;
  concealedSamples?: number;
  silentConcealedSamples?: number;
  totalSamplesReceived?: number;
  framesPerSecond?: number;
  frameWidth?: number;
  frameHeight?: number;
  currentRoundTripTime?: number;
  selectedCandidatePairId?: string;
  localCandidateId?: string;
  remoteCandidateId?: string;
  candidateType?: string;
  protocol?: string;
  relayProtocol?: string;
}

/** Reads one report; `before` is what the last call returned as `counters`. */
export function read(
  report: Iterable<unknown>,
  at: number,
  before: Counters | null,
): { sample: Sample; counters: Counters } {
  const stats = [...report] as Stat[];
  const byId = new Map(stats.map((stat) => [stat.id, stat]));
  const find = (type: string, kind: string) => stats.find((stat) => stat.type === type && stat.kind === kind);
  const inbound = stats.filter((stat) => stat.type === 'inbound-rtp');
  const audioIn = find('inbound-rtp', 'audio');
  const videoIn = find('inbound-rtp', 'video');
  const videoOut = find('outbound-rtp', 'video');
  const audioOut = find('outbound-rtp', 'audio');
  const transport = stats.find((stat) => stat.type === 'transport');
  const pair = byId.get(transport?.selectedCandidatePairId ?? '');
  const sum = (list: Stat[], field: (stat: Stat) => number | undefined) =>
    list.reduce((total, stat) => total + (field(stat) ?? 0), 0);

  const counters: Counters = {
    at,
    bytesIn: pair?.bytesReceived ?? sum(inbound, (stat) => stat.bytesReceived),
    bytesOut: pair?.bytesSent ?? 0,
    packetsIn: sum(inbound, (stat) => stat.packetsReceived),
    lostIn: sum(inbound, (stat) => stat.packetsLost),
    concealedSamples: (audioIn?.concealedSamples ?? 0) - (audioIn?.silentConcealedSamples ?? 0),
    totalSamples: audioIn?.totalSamplesReceived ?? 0,
  };
  const remoteReports = stats.filter((stat) => stat.type === 'remote-inbound-rtp');
  const codec = (stat: Stat | undefined) => byId.get(stat?.codecId ?? '')?.mimeType?.split('/')[1] ?? null;
  const sample: Sample = {
    at,
    rttMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
    lossIn: before && lossBetween(before, counters),
    lossOut: remoteReports.length === 0 ? null : Math.max(...remoteReports.map((stat) => stat.fractionLost ?? 0)),
    jitterMs: audioIn?.jitter === undefined ? null : audioIn.jitter * 1000,
    concealed: before && concealedBetween(before, counters),
    kbpsIn: before && kbps(counters.bytesIn - before.bytesIn, at - before.at),
    kbpsOut: before && kbps(counters.bytesOut - before.bytesOut, at - before.at),
    fpsIn: videoIn?.framesPerSecond ?? null,
    fpsOut: videoOut?.framesPerSecond ?? null,
    sizeIn: size(videoIn),
    sizeOut: size(videoOut),
    audioCodec: codec(audioIn) ?? codec(audioOut),
    videoCodec: codec(videoIn) ?? codec(videoOut),
    path: path(byId.get(pair?.localCandidateId ?? ''), byId.get(pair?.remoteCandidateId ?? '')),
  };
  return { sample, counters };
}

/** How the last seconds felt. Two bad seconds in a row count, one does not. */
export function quality(samples: readonly Sample[]): Quality {
  const recent = samples.slice(-3);
  if (recent.length < 2) return 'unknown';
  const grades = recent.map(grade).sort((a, b) => b - a);
  // The second worst of three.
  const second = grades[1] ?? 0;
  return second >= 2 ? 'poor' : second >= 1 ? 'fair' : 'good';
}

function grade(sample: Sample): 0 | 1 | 2 {
  const loss = Math.max(sample.lossIn ?? 0, sample.lossOut ?? 0);
  const rtt = sample.rttMs ?? 0;
  const concealed = sample.concealed ?? 0;
  const jitter = sample.jitterMs ?? 0;
  if (loss > 0.1 || rtt > 600 || concealed > 0.1 || jitter > 120) return 2;
  if (loss > 0.03 || rtt > 300 || concealed > 0.03 || jitter > 50) return 1;
  return 0;
}

function lossBetween(before: Counters, after: Counters): number | null {
  // Retransmissions make the lost count go down again.
  const lost = Math.max(0, after.lostIn - before.lostIn);
  const expected = after.packetsIn - before.packetsIn + lost;
  return expected > 0 ? lost / expected : null;
}

function concealedBetween(before: Counters, after: Counters): number | null {
  const total = after.totalSamples - before.totalSamples;
  return total > 0 ? Math.min(1, Math.max(0, after.concealedSamples - before.concealedSamples) / total) : null;
}

function kbps(bytes: number, ms: number): number | null {
  return ms > 0 ? Math.max(0, (bytes * 8) / ms) : null;
}

function size(stat: Stat | undefined): string | null {
  return stat?.frameWidth && stat.frameHeight ? `${stat.frameWidth} × ${stat.frameHeight}` : null;
}

function path(local: Stat | undefined, remote: Stat | undefined): string | null {
  if (local?.candidateType === undefined || remote?.candidateType === undefined) return null;
  const relayed = local.candidateType === 'relay' || remote.candidateType === 'relay';
  const protocol = (local.relayProtocol ?? local.protocol ?? '').toUpperCase();
  return `${relayed ? 'through a relay' : 'direct'}${protocol ? `, ${protocol}` : ''}`;
}

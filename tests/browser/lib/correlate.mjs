// Whether a recording contains a clip: normalized cross-correlation of band-limited signals, window by window.

const RATE = 16_000;
/** Windows of this length are matched one by one, so that clock drift and a re-buffering in between do not matter. */
const WINDOW = RATE / 2;
/** Windows quieter than this (RMS) say nothing. */
const QUIET = 0.004;

/** The median over windows of the clip of the best match anywhere in the recording: 1 for the same, near 0.2 for another voice. */
export function heard(clip, clipRate, recording, recordingRate) {
  const reference = prepared(clip, clipRate);
  const taken = prepared(recording, recordingRate);
  const scores = [];
  // Windows of the recording are searched in the clip, since the clip is repeated and the recording is not.
  for (let at = 0; at + WINDOW <= taken.length; at += WINDOW) {
    const window = taken.subarray(at, at + WINDOW);
    if (rms(window) >= QUIET) scores.push(best(window, reference));
  }
  if (scores.length === 0) return { median: 0, windows: 0 };
  scores.sort((a, b) => a - b);
  return { median: scores[scores.length >> 1], windows: scores.length };
}

function prepared(samples, rate) {
  // 200 Hz to 3.4 kHz: below lies what microphones' processing cuts, above what codecs do not keep.
  return bandPass(resample(samples, rate));
}

function resample(samples, rate) {
  const step = rate / RATE;
  const out = new Float32Array(Math.floor(samples.length / step));
  for (let i = 0; i < out.length; i++) {
    // A box filter is enough of an anti-alias here: the band of interest ends far below.
    const from = Math.floor(i * step);
    const to = Math.max(from + 1, Math.floor((i + 1) * step));
    let sum = 0;
    for (let j = from; j < to; j++) sum += samples[j];
    out[i] = sum / (to - from);
  }
  return out;
}

function bandPass(samples) {
  const out = new Float32Array(samples.length);
  const low = Math.exp((-2 * Math.PI * 3400) / RATE);
  const high = Math.exp((-2 * Math.PI * 200) / RATE);
  let smooth = 0;
  let slow = 0;
  for (let i = 0; i < samples.length; i++) {
    smooth = samples[i] + (smooth - samples[i]) * low;
    slow = smooth + (slow - smooth) * high;
    out[i] = smooth - slow;
  }
  return out;
}

function rms(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / samples.length);
}

/** The highest normalized correlation of `window` at any place of `signal`. */
function best(window, signal) {
  const size = 2 ** Math.ceil(Math.log2(signal.length + window.length));
  const a = transform(signal, size);
  const b = transform(window, size);
  const re = new Float64Array(size);
  const im = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    re[i] = a.re[i] * b.re[i] + a.im[i] * b.im[i];
    im[i] = a.im[i] * b.re[i] - a.re[i] * b.im[i];
  }
  fft(re, im, true);
  const energy = window.reduce((sum, sample) => sum + sample * sample, 0);
  let power = 0;
  for (let i = 0; i < window.length; i++) power += signal[i] ** 2;
  let top = 0;
  for (let at = 0; at + window.length <= signal.length; at++) {
    if (power > 1e-6) top = Math.max(top, Math.abs(re[at] / size) / Math.sqrt(energy * power));
    power += (signal[at + window.length] ?? 0) ** 2 - signal[at] ** 2;
  }
  return Math.min(1, top);
}

const transforms = new WeakMap();

function transform(samples, size) {
  const kept = transforms.get(samples);
  if (kept?.re.length === size) return kept;
  const re = new Float64Array(size);
  re.set(samples);
  const im = new Float64Array(size);
  fft(re, im, false);
  transforms.set(samples, { re, im });
  return { re, im };
}

/** In place, radix 2, not normalized. */
function fft(re, im, inverse) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let length = 2; length <= n; length <<= 1) {
    const angle = ((inverse ? 2 : -2) * Math.PI) / length;
    const half = length >> 1;
    const cos = new Float64Array(half);
    const sin = new Float64Array(half);
    for (let k = 0; k < half; k++) {
      cos[k] = Math.cos(angle * k);
      sin[k] = Math.sin(angle * k);
    }
    for (let start = 0; start < n; start += length) {
      for (let k = 0; k < half; k++) {
        const p = start + k;
        const q = p + half;
        const xr = re[q] * cos[k] - im[q] * sin[k];
        const xi = re[q] * sin[k] + im[q] * cos[k];
        re[q] = re[p] - xr;
        im[q] = im[p] - xi;
        re[p] += xr;
        im[p] += xi;
      }
    }
  }
}

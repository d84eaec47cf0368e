// Clips with known content: a voice that no other clip resembles, and pictures that carry their number.

import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { stamp } from './frame_number.mjs';
import { random } from './random.mjs';
import { writeWav } from './wav.mjs';

export const RATE = 48_000;

/**
 * Something a voice codec and a noise suppressor take for speech: syllables of a gliding pitch with formants, and short
 * pauses. Different seeds do not correlate.
 */
export function voice(seconds, seed) {
  const next = random(seed);
  const samples = new Float32Array(Math.round(seconds * RATE));
  let at = Math.round(0.05 * RATE);
  while (at < samples.length) {
    const length = Math.round((0.12 + 0.22 * next()) * RATE);
    const from = 95 + 130 * next();
    const to = from * (0.8 + 0.5 * next());
    const formants = [300 + 600 * next(), 900 + 1400 * next(), 2300 + 700 * next()];
    const loudness = 0.5 + 0.5 * next();
    let phase = 0;
    for (let i = 0; i < length && at + i < samples.length; i++) {
      const part = i / length;
      const pitch = from + (to - from) * part;
      phase += pitch / RATE;
      let value = 0;
      for (let harmonic = 1; harmonic * pitch < 3600; harmonic++) {
        const hz = harmonic * pitch;
        let gain = 0.02;
        formants.forEach((formant, index) => {
          gain += [1, 0.55, 0.3][index] / (1 + ((hz - formant) / 110) ** 2);
        });
        value += gain * Math.sin(2 * Math.PI * phase * harmonic);
      }
      samples[at + i] = 0.14 * loudness * value * Math.sin(Math.PI * part) ** 0.6;
    }
    at += length + Math.round((0.03 + (next() < 0.2 ? 0.3 : 0.08) * next()) * RATE);
  }
  return samples;
}

export async function writeVoice(file, seconds, seed) {
  const samples = voice(seconds, seed);
  await writeWav(file, samples, RATE);
  return samples;
}

/** Writes a Y4M clip of moving shapes, frame `n` stamped with `first + n`. */
export async function writePictures(file, { width, height, frames, fps = 30, first = 0, hue = 0 }) {
  const out = createWriteStream(file);
  out.write(`YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`);
  const luma = new Uint8Array(width * height);
  const chroma = [90 + hue, 160 - hue].map((value) => new Uint8Array((width / 2) * (height / 2)).fill(value));
  for (let frame = 0; frame < frames; frame++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) luma[y * width + x] = 60 + ((x + y + frame * 2) >> 2) % 90;
    }
    const cx = width * (0.5 + 0.35 * Math.sin(frame / 15));
    const cy = height * (0.6 + 0.2 * Math.cos(frame / 11));
    const r = height / 8;
    for (let y = Math.max(0, Math.floor(cy - r)); y < Math.min(height, cy + r); y++) {
      for (let x = Math.max(0, Math.floor(cx - r)); x < Math.min(width, cx + r); x++) {
        if ((x - cx) ** 2 + (y - cy) ** 2 < r * r) luma[y * width + x] = 210;
      }
    }
    stamp(luma, width, height, first + frame);
    out.write('FRAME\n');
    out.write(Buffer.from(luma));
    // The strip's chroma is neutral.
    for (const plane of chroma) {
      const copy = Buffer.from(plane);
      copy.fill(128, 0, Math.ceil(height / 16) * (width / 2));
      if (!out.write(copy)) await once(out, 'drain');
    }
  }
  out.end();
  await once(out, 'close');
}

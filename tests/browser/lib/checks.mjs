// What "they really heard and saw each other" means.

import assert from 'node:assert/strict';
import { heard } from './correlate.mjs';
import { read } from './frame_number.mjs';

/** Fails unless pictures came at a fair rate, were readable, and went on. `loop` is the clip's length in frames. */
export function assertSaw(pictures, { seconds, loop, first = 0, minFps = 6 }) {
  const numbers = pictures.map((picture) => readMeans(picture.means));
  const readable = numbers.filter((number) => number !== null);
  assert.ok(pictures.length >= seconds * minFps, `${pictures.length} pictures in ${seconds} s`);
  assert.ok(readable.length >= 0.95 * pictures.length, `${readable.length} of ${pictures.length} pictures readable`);
  for (const number of readable) {
    assert.ok(number >= first && number < first + loop, `frame ${number} is not of the other side's clip`);
  }
  const steps = readable.slice(1).map((number, index) => (number - readable[index] + loop) % loop);
  const repeats = steps.filter((step) => step === 0).length;
  const back = steps.filter((step) => step > loop / 2).length;
  assert.ok(repeats <= 0.05 * steps.length, `${repeats} of ${steps.length} pictures repeat the one before`);
  assert.equal(back, 0, 'pictures went back in time');
  return { pictures: pictures.length, repeats };
}

/**
 * Fails unless the pictures are of this clip and go on. A source that begins its clip again whenever a key frame is asked for
 * may go back: what counts is how many different pictures of it there were.
 */
export function assertGoesOn(pictures, { what, loop, first = 0, distinct }) {
  return assertNumbersGoOn(pictures.map((picture) => readMeans(picture.means)), { what, loop, first, distinct });
}

/** The same for numbers that were read already, `null` where there was none. */
export function assertNumbersGoOn(numbers, { what, loop, first = 0, distinct }) {
  const readable = numbers.filter((number) => number !== null);
  assert.ok(readable.length >= 0.95 * numbers.length, `${what}: ${readable.length} of ${numbers.length} pictures readable`);
  const wrong = readable.find((number) => number < first || number >= first + loop);
  assert.equal(wrong, undefined, `${what}: frame ${wrong} is not of its clip`);
  const found = new Set(readable).size;
  assert.ok(found >= distinct, `${what}: ${found} different pictures of ${numbers.length}, ${distinct} are expected`);
  return found;
}

/**
 * A window of sound that has a gap in its middle still matches by half or more, and another voice by at most 0.4: a machine
 * that is too busy to play without gaps hears who it is all the same.
 */
const RECOGNIZED = 0.6;

/** Fails unless the recording is the clip, and not the other one. */
export function assertHeard({ samples, rate }, clip, other, clipRate = 48_000) {
  const right = heard(clip, clipRate, samples, rate);
  const wrong = heard(other, clipRate, samples, rate);
  assert.ok(right.windows >= 3, `only ${right.windows} windows of sound`);
  assert.ok(right.median > RECOGNIZED, `the clip correlates with ${right.median.toFixed(2)} only`);
  assert.ok(right.median > 1.5 * wrong.median, `the wrong clip correlates with ${wrong.median.toFixed(2)} as well`);
  return { right: right.median, wrong: wrong.median };
}

/** Fails unless one of the recordings is the clip: in a room each voice has a slot of its own. Says which. */
export function assertHeardInRoom(sounds, clip, other) {
  const medians = sounds.map(({ samples, rate }) => (samples.length > 0 ? heard(clip, 48_000, samples, rate).median : 0));
  const best = medians.indexOf(Math.max(...medians));
  assert.ok(best >= 0, 'nothing was recorded');
  return { slot: best, ...assertHeard(sounds[best], clip, other) };
}

/** Fails unless there was (next to) no sound. */
export function assertSilent({ samples }) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  assert.ok(samples.length > 0, 'nothing was recorded');
  assert.ok(Math.sqrt(power) < 0.002, `sound of ${Math.sqrt(power).toFixed(4)} RMS`);
}

function readMeans(means) {
  // A picture of one sample a cell reads like any other.
  const luma = new Float64Array(16 * 16);
  luma.set(means);
  return read(luma, 16, 16);
}

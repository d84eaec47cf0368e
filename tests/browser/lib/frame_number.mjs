// The frame number that pictures carry along their top edge, as the engine's `video/frame_number.rs` defines it: two rows
// of 16 cells over the top eighth, white is 1, most significant first; 24 bits of number and their CRC-8.

export const COLUMNS = 16;
export const ROWS = 2;
export const ROW_FRACTION = 16;
export const MODULUS = 1 << 24;
const MIDDLE = (16 + 235) / 2;
const UNREADABLE_WITHIN = 30;

/** The 32 bits for a number. */
export function encode(number) {
  const value = number % MODULUS;
  let crc = 0xff;
  for (const shift of [16, 8, 0]) {
    crc ^= (value >> shift) & 0xff;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : (crc << 1) & 0xff;
  }
  return ((value << 8) | crc) >>> 0;
}

/** Writes the number into an 8-bit luma plane. */
export function stamp(luma, width, height, number) {
  const word = encode(number);
  for (let cell = 0; cell < COLUMNS * ROWS; cell++) {
    const [x0, x1] = span(width, cell % COLUMNS, COLUMNS);
    const [y0, y1] = span(height, Math.floor(cell / COLUMNS), ROW_FRACTION);
    const value = (word >>> (31 - cell)) & 1 ? 235 : 16;
    for (let y = y0; y < y1; y++) luma.fill(value, y * width + x0, y * width + x1);
  }
}

/** Reads the number from a luma plane (limited range) of at least the strip's rows; `null` where there is none. */
export function read(luma, width, height) {
  let word = 0;
  for (let cell = 0; cell < COLUMNS * ROWS; cell++) {
    const [x0, x1] = middle(width, cell % COLUMNS, COLUMNS);
    const [y0, y1] = middle(height, Math.floor(cell / COLUMNS), ROW_FRACTION);
    let sum = 0;
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += luma[y * width + x];
    const mean = sum / ((x1 - x0) * (y1 - y0));
    if (Math.abs(mean - MIDDLE) < UNREADABLE_WITHIN) return null;
    word = ((word << 1) | (mean > MIDDLE ? 1 : 0)) >>> 0;
  }
  const number = word >>> 8;
  return encode(number) === word ? number : null;
}

function span(length, index, count) {
  return [Math.floor((index * length) / count), Math.floor(((index + 1) * length) / count)];
}

function middle(length, index, count) {
  const from = Math.floor(((4 * index + 1) * length) / (4 * count));
  return [from, Math.max(Math.floor(((4 * index + 3) * length) / (4 * count)), from + 1)];
}

// Y4M files (8-bit 4:2:0), read in pieces: such files are large.

import { open } from 'node:fs/promises';
import { read, ROW_FRACTION, ROWS } from './frame_number.mjs';

/** Opens a file: its size, its rate, a picture's bytes, and where in the file each picture begins. */
export async function openY4m(file) {
  const handle = await open(file);
  try {
    const head = Buffer.alloc(256);
    await handle.read(head, 0, 256, 0);
    const line = head.toString('latin1').split('\n')[0];
    const width = Number(/ W(\d+)/.exec(line)?.[1]);
    const height = Number(/ H(\d+)/.exec(line)?.[1]);
    if (!line.startsWith('YUV4MPEG2') || !(width > 0 && height > 0)) throw new Error(`${file} is not Y4M: ${line}`);
    const [, numerator, denominator] = / F(\d+):(\d+)/.exec(line) ?? [null, 30, 1];
    const size = width * height + 2 * Math.ceil(width / 2) * Math.ceil(height / 2);
    const offsets = [];
    const { size: end } = await handle.stat();
    const marker = Buffer.alloc(128);
    for (let at = line.length + 1; at < end; ) {
      const { bytesRead } = await handle.read(marker, 0, marker.length, at);
      const text = marker.toString('latin1', 0, bytesRead);
      if (!text.startsWith('FRAME')) throw new Error(`${file} has no frame at byte ${at}`);
      at += text.indexOf('\n') + 1;
      if (at + size <= end) offsets.push(at);
      at += size;
    }
    return { handle, width, height, rate: numerator / denominator, size, offsets };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The number of pictures, and each one's frame number (`null` where it has none). */
export async function framesOf(file) {
  const { handle, width, height, offsets } = await openY4m(file);
  try {
    const strip = Buffer.alloc(width * Math.ceil((ROWS * height) / ROW_FRACTION));
    const numbers = [];
    for (const at of offsets) {
      await handle.read(strip, 0, strip.length, at);
      numbers.push(read(strip, width, height));
    }
    return { pictures: numbers.length, numbers };
  } finally {
    await handle.close();
  }
}

// Reading and writing WAV (RIFF, PCM 16 bit or float), mono for the tests' purposes.

import { readFile, writeFile } from 'node:fs/promises';

export async function writeWav(file, samples, rate) {
  const data = Buffer.alloc(44 + samples.length * 2);
  data.write('RIFF', 0);
  data.writeUInt32LE(36 + samples.length * 2, 4);
  data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16, 16);
  data.writeUInt16LE(1, 20);
  data.writeUInt16LE(1, 22);
  data.writeUInt32LE(rate, 24);
  data.writeUInt32LE(rate * 2, 28);
  data.writeUInt16LE(2, 32);
  data.writeUInt16LE(16, 34);
  data.write('data', 36);
  data.writeUInt32LE(samples.length * 2, 40);
  samples.forEach((sample, index) => {
    data.writeInt16LE(Math.round(Math.max(-1, Math.min(1, sample)) * 32767), 44 + index * 2);
  });
  await writeFile(file, data);
}

/** The first channel's samples and the rate. */
export async function readWav(file) {
  const data = await readFile(file);
  let at = 12;
  let format = null;
  while (at + 8 <= data.length) {
    const id = data.toString('latin1', at, at + 4);
    const size = Math.min(data.readUInt32LE(at + 4), data.length - at - 8);
    const start = at + 8;
    if (id === 'fmt ') {
      const tag = data.readUInt16LE(start);
      format = {
        // WAVE_FORMAT_EXTENSIBLE says the real form in its sub-format.
        float: (tag === 0xfffe ? data.readUInt16LE(start + 24) : tag) === 3,
        channels: data.readUInt16LE(start + 2),
        rate: data.readUInt32LE(start + 4),
        bytes: data.readUInt16LE(start + 14) / 8,
      };
    } else if (id === 'data' && format !== null) {
      const step = format.channels * format.bytes;
      const samples = new Float32Array(Math.floor(size / step));
      for (let index = 0; index < samples.length; index++) {
        const offset = start + index * step;
        samples[index] = format.float ? data.readFloatLE(offset) : data.readInt16LE(offset) / 32768;
      }
      return { samples, rate: format.rate };
    }
    at = start + size + (size % 2);
  }
  throw new Error(`${file} has no samples`);
}

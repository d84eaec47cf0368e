// Numbers the pictures of a Y4M clip (the strip of tests/browser/lib/frame_number.mjs): node scripts/bench-stamp.mjs IN OUT
import { open } from "node:fs/promises";
import { ROW_FRACTION, ROWS, stamp } from "../tests/browser/lib/frame_number.mjs";
import { openY4m } from "../tests/browser/lib/y4m.mjs";

const [from, to] = process.argv.slice(2);
const { handle, width, height, rate, size, offsets } = await openY4m(from);
const out = await open(to, "w");
await out.write(`YUV4MPEG2 W${width} H${height} F${rate}:1 Ip A1:1 C420jpeg\n`);
const picture = Buffer.alloc(size);
const half = (length) => Math.ceil(length / 2);
const strip = half(Math.ceil((ROWS * height) / ROW_FRACTION)) * half(width);
for (const [number, at] of offsets.entries()) {
    await handle.read(picture, 0, size, at);
    stamp(picture, width, height, number);
    // The strip has no colour.
    for (let plane = width * height; plane < size; plane += half(width) * half(height)) picture.fill(128, plane, plane + strip);
    await out.write("FRAME\n");
    await out.write(picture);
}
await Promise.all([handle.close(), out.close()]);

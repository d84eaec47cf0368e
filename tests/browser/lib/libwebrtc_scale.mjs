// Pictures of another size than a recording's.

/** An I420 picture, stretched bilinearly to the wanted size and centred on black where the shapes differ. */
export function letterbox(data, width, height, toWidth, toHeight) {
  const factor = Math.min(toWidth / width, toHeight / height);
  const even = (length, most) => Math.min(most, 2 * Math.round((length * factor) / 2));
  const [innerWidth, innerHeight] = [even(width, toWidth), even(height, toHeight)];
  const [left, top] = [2 * Math.floor((toWidth - innerWidth) / 4), 2 * Math.floor((toHeight - innerHeight) / 4)];
  const half = (length) => Math.ceil(length / 2);
  const [luma, chroma] = [toWidth * toHeight, half(toWidth) * half(toHeight)];
  const out = new Uint8Array(luma + 2 * chroma).fill(16, 0, luma).fill(128, luma);
  const plane = (from, to, [w, h], [innerW, innerH], [x, y], stride) =>
    stretch(data.subarray(from), w, h, out.subarray(to + y * stride + x), innerW, innerH, stride);
  plane(0, 0, [width, height], [innerWidth, innerHeight], [left, top], toWidth);
  for (const index of [0, 1]) {
    const from = width * height + index * half(width) * half(height);
    const inner = [half(innerWidth), half(innerHeight)];
    plane(from, luma + index * chroma, [half(width), half(height)], inner, [left / 2, top / 2], half(toWidth));
  }
  return out;
}

function stretch(from, width, height, to, toWidth, toHeight, stride) {
  for (let row = 0; row < toHeight; row++) {
    const y = Math.max(0, Math.min(height - 1, ((row + 0.5) * height) / toHeight - 0.5));
    const y0 = Math.floor(y);
    const above = y0 * width;
    const below = Math.min(height - 1, y0 + 1) * width;
    for (let column = 0; column < toWidth; column++) {
      const x = Math.max(0, Math.min(width - 1, ((column + 0.5) * width) / toWidth - 0.5));
      const x0 = Math.floor(x);
      const x1 = Math.min(width - 1, x0 + 1);
      const upper = from[above + x0] + (from[above + x1] - from[above + x0]) * (x - x0);
      const lower = from[below + x0] + (from[below + x1] - from[below + x0]) * (x - x0);
      to[row * stride + column] = Math.round(upper + (lower - upper) * (y - y0));
    }
  }
}

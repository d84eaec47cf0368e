const WIDTH = 120;
const HEIGHT = 28;

/** A small curve over the last two minutes; gaps where nothing was measured. `ceiling` is the least full scale. */
export function Plot({ values, ceiling }: { values: readonly (number | null)[]; ceiling: number }) {
  const top = Math.max(ceiling, ...values.map((each) => each ?? 0));
  const step = WIDTH / 119;
  const start = WIDTH - (values.length - 1) * step;
  const y = (value: number) => HEIGHT - 2 - (value / top) * (HEIGHT - 4);
  let line = '';
  let drawing = false;
  values.forEach((value, index) => {
    if (value === null) {
      drawing = false;
      return;
    }
    line += `${drawing ? 'L' : 'M'}${(start + index * step).toFixed(1)} ${y(value).toFixed(1)}`;
    drawing = true;
  });
  return (
    <svg class="plot" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={`M0 ${HEIGHT - 1}H${WIDTH}`} class="plot-base" />
      <path d={line} class="plot-line" />
    </svg>
  );
}

import type { App } from '../app';
import { quality, type Sample } from '../call/stats';
import { qualityWords } from '../words';
import { Panel } from './Panel';
import { Plot } from './Plot';

interface Figure {
  name: string;
  title: string;
  read(sample: Sample): number | null;
  show(value: number): string;
  ceiling: number;
}

const percent = (value: number) => `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
const ms = (value: number) => `${Math.round(value)} ms`;
const rate = (value: number) => (value >= 1000 ? `${(value / 1000).toFixed(1)} Mbit/s` : `${Math.round(value)} kbit/s`);
const fps = (value: number) => `${Math.round(value)} /s`;

const FIGURES: Figure[] = [
  { name: 'Round trip', title: 'There and back on the network', read: (s) => s.rttMs, show: ms, ceiling: 100 },
  { name: 'Loss in', title: 'Packets that did not arrive here', read: (s) => s.lossIn, show: percent, ceiling: 0.05 },
  {
    name: 'Loss out',
    title: 'Packets that did not arrive there',
    read: (s) => s.lossOut,
    show: percent,
    ceiling: 0.05,
  },
  { name: 'Jitter', title: 'How unevenly sound arrives', read: (s) => s.jitterMs, show: ms, ceiling: 30 },
  {
    name: 'Concealed',
    title: 'Sound made up for missing packets',
    read: (s) => s.concealed,
    show: percent,
    ceiling: 0.05,
  },
  { name: 'Receiving', title: 'Everything that arrives', read: (s) => s.kbpsIn, show: rate, ceiling: 500 },
  { name: 'Sending', title: 'Everything that is sent', read: (s) => s.kbpsOut, show: rate, ceiling: 500 },
  { name: 'Pictures in', title: 'Frames a second, received', read: (s) => s.fpsIn, show: fps, ceiling: 30 },
  { name: 'Pictures out', title: 'Frames a second, sent', read: (s) => s.fpsOut, show: fps, ceiling: 30 },
];

export function StatisticsPanel({ app, onClose }: { app: App; onClose(): void }) {
  const samples = app.calls.samples.value;
  const last = samples.at(-1);
  return (
    <Panel title="Connection" class="panel-statistics" onClose={onClose}>
      <p class="panel-lead">
        {qualityWords(quality(samples))}
        {last?.path != null && `, ${last.path}`}
      </p>
      <table class="figures">
        <tbody>
          {FIGURES.map((figure) => {
            const values = samples.map(figure.read);
            const value = values.at(-1) ?? null;
            return (
              <tr key={figure.name} title={figure.title}>
                <th scope="row">{figure.name}</th>
                <td class="figure-plot">
                  <Plot values={values} ceiling={figure.ceiling} />
                </td>
                <td class="figure-value">{value === null ? '–' : figure.show(value)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      <dl class="facts">
        <Fact name="Picture in" value={last?.sizeIn} />
        <Fact name="Picture out" value={last?.sizeOut} />
        <Fact name="Video codec" value={last?.videoCodec} />
        <Fact name="Audio codec" value={last?.audioCodec} />
      </dl>
    </Panel>
  );
}

function Fact({ name, value }: { name: string; value: string | null | undefined }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value ?? '–'}</dd>
    </div>
  );
}

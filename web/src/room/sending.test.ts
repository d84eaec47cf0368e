import { expect, it } from 'vitest';
import { adapt, type Bounds, EVERYTHING, initialEncodings } from './sending';

const BOUNDS: Bounds = { picture: { width: 1_280, height: 720 }, maxHeight: 1_080, maxBitrate: 4_000_000 };

it('layers that nobody receives are left out, and those below keep their size', () => {
  const full = initialEncodings('camera', 'layers');
  expect(adapt(full, 'camera', 'layers', { encodings: 1, spatial: 2 }, BOUNDS)).toMatchObject([
    { active: true, scalabilityMode: 'L2T3_KEY', scaleResolutionDownBy: 2 },
  ]);
  expect(adapt(full, 'camera', 'layers', { encodings: 1, spatial: 1 }, BOUNDS)).toMatchObject([
    { active: true, scalabilityMode: 'L1T3', scaleResolutionDownBy: 4 },
  ]);
  const none = adapt(full, 'camera', 'layers', { encodings: 0, spatial: 0 }, BOUNDS);
  expect(none).toMatchObject([{ active: false }]);
  expect(adapt(none, 'camera', 'layers', EVERYTHING, BOUNDS)).toMatchObject([
    { active: true, scalabilityMode: 'L3T3_KEY', scaleResolutionDownBy: 1 },
  ]);
});

it('encodings that nobody receives are switched off, the largest first', () => {
  const some = adapt(
    initialEncodings('camera', 'encodings'),
    'camera',
    'encodings',
    { encodings: 2, spatial: 1 },
    BOUNDS,
  );
  expect(some.map(({ rid, active, scaleResolutionDownBy }) => [rid, active, scaleResolutionDownBy])).toEqual([
    ['q', true, 4],
    ['h', true, 2],
    ['f', false, 1],
  ]);
  expect(some.every(({ scalabilityMode }) => scalabilityMode === 'L1T1')).toBe(true);
});

it('of a small picture as many encodings are sent as a browser sends, and the last is the whole of it', () => {
  const sent = (width: number, height: number, encodings = 3) =>
    adapt(
      initialEncodings('camera', 'encodings'),
      'camera',
      'encodings',
      { encodings, spatial: 1 },
      { ...BOUNDS, picture: { width, height } },
    )
      .filter(({ active }) => active)
      .map(({ rid, scaleResolutionDownBy, maxBitrate }) => [rid, scaleResolutionDownBy, maxBitrate]);
  expect(sent(640, 360)).toEqual([
    ['q', 2, 500_000],
    ['h', 1, 1_800_000],
  ]);
  expect(sent(640, 360, 1)).toEqual([['q', 2, 500_000]]);
  expect(sent(320, 180)).toEqual([['q', 1, 1_800_000]]);
});

it('what the room takes bounds height and rate', () => {
  const bounds = { ...BOUNDS, maxHeight: 360, maxBitrate: 400_000 };
  expect(adapt(initialEncodings('camera', 'layers'), 'camera', 'layers', EVERYTHING, bounds)).toMatchObject([
    { scaleResolutionDownBy: 2, maxBitrate: 400_000 },
  ]);
  expect(adapt(initialEncodings('screen', 'layers'), 'screen', 'layers', EVERYTHING, bounds)).toMatchObject([
    { scaleResolutionDownBy: 2, scalabilityMode: 'L1T3' },
  ]);
});

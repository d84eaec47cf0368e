import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Participant, RoomMedia, SourceOf, Subscribe } from '../protocol/types';
import { arrange, layout, PAGE, type Placed, tileSize, type Wanted } from './layout';
import { fromSnapshot, type Membership, NOTHING_SENT } from './membership';
import { Wishes, wishes } from './wishes';

const DESK = { width: 1240, height: 640 };
const PHONE = { width: 344, height: 540 };
const GRID: Wanted = { view: 'auto', pinned: null, page: 0, perPage: PAGE };
const SEEN: RoomMedia = { microphone: 'on', camera: 'on', screen: 'off' };

function room(people: number, media: (participant: number) => RoomMedia = () => SEEN): Membership {
  const participants = Array.from({ length: people }, (_, index): Participant => {
    const participant = index + 1;
    const name = `p${participant}`;
    const rest = { user: name, device: name, display_name: name, role: 'participant', reach: 'back' } as const;
    return { participant, media: media(participant), ...rest };
  });
  return fromSnapshot({
    room: 'r',
    you: 1,
    grants: { publish: [], subscribe: true, moderate: false },
    state: { locked: false, limits: { max_height: 720, max_participants: 50, max_publish_kbps: 3_000 } },
    participants,
  });
}

function order(membership: Membership): number[] {
  return membership.participants.map((each) => each.participant);
}

function ids(tiles: readonly Placed[]): string[] {
  return tiles.map(({ source }) => `${source.participant}:${source.kind}`);
}

function overlap(a: Placed, b: Placed): boolean {
  const apart = (x: 'left' | 'top', length: 'width' | 'height') =>
    a.at[x] + a.size[length] <= b.at[x] || b.at[x] + b.size[length] <= a.at[x];
  return !apart('left', 'width') && !apart('top', 'height');
}

describe('layout', () => {
  it('fits every number of tiles into every area without overlap', () => {
    for (const area of [DESK, PHONE, { width: 800, height: 300 }, { width: 300, height: 800 }]) {
      for (let people = 1; people <= 25; people++) {
        const membership = room(people, (each) => (each === 2 && people % 3 === 0 ? { ...SEEN, screen: 'on' } : SEEN));
        for (const view of ['auto', 'grid', 'speaker'] as const) {
          const made = layout(membership, order(membership), area, { ...GRID, view, perPage: 25 });
          const all = made.main === null ? made.tiles : [made.main, ...made.tiles];
          for (const [index, tile] of all.entries()) {
            expect(tile.at.left).toBeGreaterThanOrEqual(-1);
            expect(tile.at.top).toBeGreaterThanOrEqual(-1);
            expect(tile.at.left + tile.size.width).toBeLessThanOrEqual(area.width + 1);
            expect(tile.at.top + tile.size.height).toBeLessThanOrEqual(area.height + 1);
            expect(tile.size.width).toBeGreaterThan(60);
            expect(all.slice(index + 1).some((other) => overlap(tile, other))).toBe(false);
          }
        }
      }
    }
  });

  it('shows everybody over its pages, each once', () => {
    const membership = room(23);
    const seen: string[] = [];
    const { pages } = layout(membership, order(membership), DESK, GRID);
    for (let page = 0; page < pages; page++) {
      seen.push(...ids(layout(membership, order(membership), DESK, { ...GRID, page }).tiles));
    }
    expect(pages).toBe(3);
    expect(seen).toEqual(order(membership).map((each) => `${each}:camera`));
  });

  it('goes back to the last page there is when people leave', () => {
    const membership = room(10);
    expect(layout(membership, order(membership), DESK, { ...GRID, page: 7 }).page).toBe(1);
  });

  it('shows a shared screen large, and the others beside it', () => {
    const membership = room(4, (each) => (each === 3 ? { ...SEEN, screen: 'on' } : SEEN));
    const made = layout(membership, order(membership), DESK, GRID);
    expect(made.main?.source).toEqual({ participant: 3, kind: 'screen' });
    expect(ids(made.tiles)).toEqual(['1:camera', '2:camera', '3:camera', '4:camera']);
    expect(made.main?.size.width).toBeGreaterThan(900);
    const alike = layout(membership, order(membership), DESK, { ...GRID, view: 'grid' });
    expect(ids(alike.tiles)).toEqual(['3:screen', '1:camera', '2:camera', '3:camera', '4:camera']);
  });

  it('does not show one’s own screen to oneself', () => {
    const membership = room(2, (each) => (each === 1 ? { ...SEEN, screen: 'on' } : SEEN));
    expect(layout(membership, order(membership), DESK, GRID).view).toBe('grid');
  });

  it('makes large who is pinned, else who spoke last, never oneself while others are there', () => {
    const membership = { ...room(4), spoke: [1, 3, 2] };
    const speaker: Wanted = { ...GRID, view: 'speaker' };
    expect(layout(membership, order(membership), DESK, speaker).main?.source.participant).toBe(3);
    const pinned: SourceOf = { participant: 4, kind: 'camera' };
    expect(layout(membership, order(membership), DESK, { ...speaker, pinned }).main?.source).toEqual(pinned);
    const gone: SourceOf = { participant: 9, kind: 'camera' };
    expect(layout(membership, order(membership), DESK, { ...speaker, pinned: gone }).main?.source.participant).toBe(3);
  });

  it('chooses columns by the shape of the area', () => {
    expect(tileSize(DESK, 4).columns).toBe(2);
    expect(tileSize(PHONE, 2).columns).toBe(1);
  });
});

describe('order', () => {
  it('keeps people where they are, oneself first and newcomers last', () => {
    const before = [1, 4, 2];
    expect(arrange(before, room(5), Number.POSITIVE_INFINITY)).toEqual([1, 4, 2, 3, 5]);
  });

  it('brings a speaker from another page into the place of who was silent for longest', () => {
    const membership: Membership = { ...room(6), speaker: 6, spoke: [6, 3] };
    expect(arrange([1, 2, 3, 4, 5, 6], membership, 4)).toEqual([1, 2, 3, 6, 5, 4]);
  });

  it('is the same value where nothing changed', () => {
    const before = [1, 2, 3];
    expect(arrange(before, room(3), 2)).toBe(before);
  });
});

describe('wishes', () => {
  it('asks for what is shown and sent, at the pixels of the tile, the large one first and pinned', () => {
    const membership = room(4, (each) => (each === 4 ? NOTHING_SENT : SEEN));
    const made = layout(membership, order(membership), DESK, { ...GRID, view: 'speaker' });
    const wish = wishes(membership, made, 2, false);
    expect(wish.show.map(({ source, pinned }) => [source.participant, pinned])).toEqual([
      [2, true],
      [3, undefined],
    ]);
    expect(wish.show[0]?.size.width).toBeGreaterThanOrEqual(2 * (made.main?.size.width ?? 0));
    expect(wish.others).toBeUndefined();
  });

  it('asks for no picture while nobody sees the page', () => {
    const membership = room(4);
    const made = layout(membership, order(membership), DESK, GRID);
    expect(wishes(membership, made, 1, true)).toEqual({ room: 'r', show: [] });
  });

  it('asks for the other pages’ speakers where one is shown large', () => {
    const membership = room(20);
    const made = layout(membership, order(membership), DESK, { ...GRID, view: 'speaker' });
    expect(wishes(membership, made, 1, false).others).toEqual({ width: 224, height: 128 });
  });
});

describe('saying wishes', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  const wish = (width: number): Subscribe => ({
    room: 'r',
    show: [{ source: { participant: 2, kind: 'camera' }, size: { width, height: 90 } }],
  });

  it('says the first at once, the last after a pause, and nothing twice', () => {
    const said: Subscribe[] = [];
    const sender = new Wishes((each) => said.push(each));
    for (let width = 100; width <= 110; width++) sender.say(wish(width));
    expect(said).toEqual([wish(100)]);
    vi.advanceTimersByTime(1_000);
    expect(said).toEqual([wish(100), wish(110)]);
    sender.say(wish(110));
    vi.advanceTimersByTime(1_000);
    expect(said).toHaveLength(2);
    sender.repeat();
    expect(said).toEqual([wish(100), wish(110), wish(110)]);
  });

  it('says everything again to a new connection', () => {
    const said: Subscribe[] = [];
    const sender = new Wishes((each) => said.push(each));
    sender.say(wish(100));
    sender.forget();
    sender.say(wish(100));
    expect(said).toHaveLength(2);
  });
});

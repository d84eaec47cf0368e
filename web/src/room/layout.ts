// Which tiles a room shows, in which order and how large. Pure: what the screen components draw, and what is asked of the
// forwarding unit, both follow from it.

import type { ParticipantId, SourceOf } from '../protocol/types';
import { find, isSame, type Membership } from './membership';

export interface Size {
  width: number;
  height: number;
}

/** `grid`: everybody alike. `speaker`: one large, the others beside it. */
export type View = 'grid' | 'speaker';

export const GAP = 8;
/** As many on a page as slots were negotiated at first, oneself included. */
export const PAGE = 9;
/** As many as slots can be had. */
export const LARGE_PAGE = 25;
/** Narrower tiles show nothing worth seeing. */
const MIN_TILE_WIDTH = 132;
const WIDEST = 16 / 9;
/** Pictures of desks are wide, those of telephones tall, and so are the areas to show them in. */
const TALLEST = { desk: 1.15, telephone: 3 / 4 };

/** One person's tile, or that of a screen. */
export interface Placed {
  source: SourceOf;
  /** Its upper left corner within the area. */
  at: { left: number; top: number };
  size: Size;
  /** The large one of the speaker view. */
  main: boolean;
}

export interface Layout {
  view: View;
  main: Placed | null;
  /** The tiles of this page. */
  tiles: Placed[];
  page: number;
  pages: number;
}

export interface Wanted {
  /** `auto`: a grid, but a shared screen is large. */
  view: View | 'auto';
  pinned: SourceOf | null;
  page: number;
  /** Tiles on a page at most. */
  perPage: number;
}

export function layout(membership: Membership, order: readonly ParticipantId[], area: Size, wanted: Wanted): Layout {
  const people = order.filter((each) => find(membership, each) !== undefined);
  const cameras = people.map((participant): SourceOf => ({ participant, kind: 'camera' }));
  const screens = screensOf(membership, people);
  const large = wanted.view === 'speaker' || (wanted.view === 'auto' && screens.length > 0);
  const main = large ? mainOf(membership, cameras, screens, wanted) : null;
  if (main === null) {
    const all = [...screens, ...cameras];
    const perPage = capacity(area, Math.min(wanted.perPage, Math.max(1, all.length)));
    const { shown, page, pages } = paged(all, wanted.page, perPage);
    // A last page that is not full keeps the size of the others.
    const { columns, size } = tileSize(area, pages > 1 ? perPage : shown.length);
    return { view: 'grid', main: null, tiles: inRows(shown, size, columns, area), page, pages };
  }
  const rest = [...screens, ...cameras].filter((each) => !isSame(each, main));
  const beside = area.width > area.height * 1.2;
  const tile = stripTile(area, beside);
  const fitting = beside ? (area.height + GAP) / (tile.height + GAP) : (area.width + GAP) / (tile.width + GAP);
  const perPage = Math.max(1, Math.floor(Math.min(fitting, wanted.perPage - 1)));
  const { shown, page, pages } = paged(rest, wanted.page, perPage);
  const gone = shown.length === 0 ? { width: 0, height: 0 } : { width: tile.width + GAP, height: tile.height + GAP };
  const size = whole(
    beside
      ? { width: area.width - gone.width, height: area.height }
      : { width: area.width, height: area.height - gone.height },
  );
  const strip = beside ? { width: tile.width, height: area.height } : { width: area.width, height: tile.height };
  const corner = beside ? { left: size.width + GAP, top: 0 } : { left: 0, top: size.height + GAP };
  return {
    view: 'speaker',
    main: { source: main, at: { left: 0, top: 0 }, size, main: true },
    tiles: inRows(shown, tile, beside ? 1 : shown.length, strip, corner),
    page,
    pages,
  };
}

/**
 * The order of people: as before, newcomers last, oneself first. Who speaks and is not among the first `visible` takes the
 * place of the one there who has not spoken for longest, so that nobody else moves.
 */
export function arrange(
  before: readonly ParticipantId[],
  membership: Membership,
  visible: number,
): readonly ParticipantId[] {
  const here = membership.participants.map((each) => each.participant);
  const kept = before.filter((each) => here.includes(each) && each !== membership.you);
  const order = [membership.you, ...kept, ...here.filter((each) => each !== membership.you && !kept.includes(each))];
  const { speaker, spoke } = membership;
  const from = speaker === null ? -1 : order.indexOf(speaker);
  if (speaker !== null && from >= visible && visible > 1) {
    const silence = (participant: ParticipantId) => {
      const place = spoke.indexOf(participant);
      return place === -1 ? Number.POSITIVE_INFINITY : place;
    };
    let to = 1;
    for (let place = 2; place < visible; place++) {
      if (silence(order[place] ?? 0) >= silence(order[to] ?? 0)) to = place;
    }
    order[from] = order[to] ?? speaker;
    order[to] = speaker;
  }
  return order.length === before.length && order.every((each, index) => each === before[index]) ? before : order;
}

/** The largest tiles of a seemly shape of which `count` fit, and in how many columns. */
export function tileSize(area: Size, count: number): { columns: number; size: Size } {
  const tallest = area.width < area.height ? TALLEST.telephone : TALLEST.desk;
  let best = { columns: 1, size: { width: 0, height: 0 } };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cell = {
      width: (area.width - (columns - 1) * GAP) / columns,
      height: (area.height - (rows - 1) * GAP) / rows,
    };
    if (cell.width <= 0 || cell.height <= 0) continue;
    const size = whole({
      width: Math.min(cell.width, cell.height * WIDEST),
      height: Math.min(cell.height, cell.width / tallest),
    });
    if (size.width * size.height > best.size.width * best.size.height * 1.01) best = { columns, size };
  }
  return best;
}

/** How many tiles of a size worth seeing fit, at most `limit`. */
function capacity(area: Size, limit: number): number {
  let count = limit;
  while (count > 1 && tileSize(area, count).size.width < MIN_TILE_WIDTH) count -= 1;
  return count;
}

function screensOf(membership: Membership, people: readonly ParticipantId[]): SourceOf[] {
  // One's own screen within one's own screen would be a hall of mirrors.
  const shares = (participant: ParticipantId) =>
    participant !== membership.you && find(membership, participant)?.media.screen === 'on';
  return people.filter(shares).map((participant) => ({ participant, kind: 'screen' }));
}

/** What is large: what the person pinned, else a screen, else who speaks or spoke last, else anybody. */
function mainOf(
  membership: Membership,
  cameras: readonly SourceOf[],
  screens: readonly SourceOf[],
  { pinned }: Wanted,
): SourceOf | null {
  const all = [...screens, ...cameras];
  if (pinned !== null && all.some((each) => isSame(each, pinned))) return pinned;
  if (screens[0] !== undefined) return screens[0];
  const others = cameras.filter((each) => each.participant !== membership.you);
  const spoke = membership.spoke.find((each) => others.some((other) => other.participant === each));
  return others.find((each) => each.participant === spoke) ?? others[0] ?? cameras[0] ?? null;
}

function paged<T>(all: readonly T[], wanted: number, perPage: number): { shown: T[]; page: number; pages: number } {
  const pages = Math.max(1, Math.ceil(all.length / perPage));
  const page = Math.min(Math.max(0, wanted), pages - 1);
  return { shown: all.slice(page * perPage, (page + 1) * perPage), page, pages };
}

/** Row by row, each row and the whole in the middle of the area. */
function inRows(
  sources: readonly SourceOf[],
  size: Size,
  columns: number,
  area: Size,
  corner = { left: 0, top: 0 },
): Placed[] {
  const rows = Math.ceil(sources.length / columns);
  const top = corner.top + (area.height - rows * (size.height + GAP) + GAP) / 2;
  return sources.map((source, index) => {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, sources.length - row * columns);
    const left = corner.left + (area.width - inRow * (size.width + GAP) + GAP) / 2;
    const at = {
      left: Math.round(left + (index % columns) * (size.width + GAP)),
      top: Math.round(top + row * (size.height + GAP)),
    };
    return { source, at, size, main: false };
  });
}

function stripTile(area: Size, beside: boolean): Size {
  const width = beside ? Math.min(220, area.width / 4) : Math.min(176, (area.width - 2 * GAP) / 3);
  return whole({ width, height: (width * 9) / 16 });
}

function whole({ width, height }: Size): Size {
  return { width: Math.max(0, Math.floor(width)), height: Math.max(0, Math.floor(height)) };
}

// What one asks the forwarding unit to send: the pictures one shows, at the size of their tiles. Said when it changes, a few
// times a second at most.

import type { Shown, Subscribe, TileSize } from '../protocol/types';
import type { Layout, Size } from './layout';
import { find, type Membership } from './membership';

/** As the protocol allows. */
const MAX_SHOWN = 32;
/** Finer pixels than this are not worth their bits. */
const MAX_PIXEL_RATIO = 2;
/** Sizes are rounded up to this, so that a window being drawn larger does not ask at every pixel. */
const STEP = 16;
const PAUSE_MS = 400;

/** What this layout asks for. A hidden page asks for sound alone, which needs no asking. */
export function wishes(membership: Membership, layout: Layout, pixelRatio: number, hidden: boolean): Subscribe {
  const { room } = membership;
  if (hidden) return { room, show: [] };
  const pinnedFirst = layout.main === null ? layout.tiles : [layout.main, ...layout.tiles];
  const show = pinnedFirst.flatMap(({ source, size, main }): Shown[] => {
    const participant = find(membership, source.participant);
    const sent = participant?.media[source.kind] === 'on' && source.participant !== membership.you;
    if (!sent || size.width === 0) return [];
    return [{ source, size: inPixels(size, pixelRatio), ...(main ? { pinned: true } : {}) }];
  });
  const wish: Subscribe = { room, show: show.slice(0, MAX_SHOWN) };
  // Who speaks next may be on no tile: with their picture at hand already, they become the large one at once.
  const small = layout.tiles[0];
  if (layout.view === 'speaker' && layout.pages > 1 && small !== undefined) {
    wish.others = inPixels(small.size, pixelRatio);
  }
  return wish;
}

function inPixels({ width, height }: Size, pixelRatio: number): TileSize {
  const ratio = Math.min(MAX_PIXEL_RATIO, Math.max(1, pixelRatio));
  const up = (length: number) => Math.ceil((length * ratio) / STEP) * STEP;
  return { width: up(width), height: up(height) };
}

/** Passes wishes on: the first at once, later ones after a pause, and none twice. */
export class Wishes {
  #said = '';
  #next: Subscribe | null = null;
  #last: Subscribe | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly send: (wish: Subscribe) => void) {}

  say(wish: Subscribe): void {
    this.#next = wish;
    if (this.#timer === null) this.#flush();
  }

  /** Says the last wish again: it may not have been heard. */
  repeat(): void {
    this.#said = '';
    const wish = this.#next ?? this.#last;
    if (wish !== null) this.say(wish);
  }

  /** Whatever was said counts no more: somebody else listens now. */
  forget(): void {
    this.#said = '';
    this.#next = null;
    this.#last = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #flush(): void {
    this.#timer = null;
    const wish = this.#next;
    this.#next = null;
    if (wish === null) return;
    const text = JSON.stringify(wish);
    if (text === this.#said) return;
    this.#said = text;
    this.#last = wish;
    this.send(wish);
    this.#timer = setTimeout(() => this.#flush(), PAUSE_MS);
  }
}

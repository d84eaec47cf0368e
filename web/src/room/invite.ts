// The address of a room: `#/room/NAME`, where an invitation may add `?token=...`. A fragment never reaches a server's log.

import type { RoomId } from '../protocol/types';

const ROOM = /^#\/room\/([^/?]+)/;

/** The room that a fragment names; `null` for none. */
export function roomFromFragment(fragment: string): RoomId | null {
  const name = ROOM.exec(fragment)?.[1];
  if (name === undefined) return null;
  try {
    return decodeURIComponent(name);
  } catch {
    return null;
  }
}

export function fragmentOf(room: RoomId): string {
  return `#/room/${encodeURIComponent(room)}`;
}

/** The address to send to others. */
export function invitation(room: RoomId): string {
  return location.origin + location.pathname + fragmentOf(room);
}

/** The token of an invitation, or of a plain `#token=...`. */
export function tokenFromFragment(fragment: string): string | null {
  const query = ROOM.test(fragment) ? fragment.slice(fragment.indexOf('?') + 1 || fragment.length) : fragment.slice(1);
  return new URLSearchParams(query).get('token');
}

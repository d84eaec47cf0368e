// Who is in a room and what it shows, as the server tells it: a snapshot, then changes. Pure.
//
// Invariants: a change about another room, or about somebody who is not there, changes nothing; `spoke` and `slots` name
// only participants who are there.

import type {
  LeaveReason,
  Moderation,
  Participant,
  ParticipantId,
  Event as ProtocolEvent,
  RoomGrants,
  RoomId,
  RoomMedia,
  RoomSnapshot,
  RoomState,
  SourceKind,
  SourceOf,
} from '../protocol/types';

export const SOURCE_KINDS = ['microphone', 'camera', 'screen'] as const satisfies readonly SourceKind[];

export const NOTHING_SENT: RoomMedia = { microphone: 'off', camera: 'off', screen: 'off' };

export interface Membership {
  room: RoomId;
  you: ParticipantId;
  grants: RoomGrants;
  state: RoomState;
  /** In the order in which they came, oneself included. */
  participants: readonly Participant[];
  speaker: ParticipantId | null;
  /** Who spoke, the last first. */
  spoke: readonly ParticipantId[];
  /** What each slot shows, by mid. For layout: the packets themselves name their source. */
  slots: ReadonlyMap<string, SourceOf>;
}

/** What a person wants to hear about. */
export type Happening =
  | { what: 'joined'; name: string }
  | { what: 'left'; name: string; reason: LeaveReason }
  | { what: 'sharing'; name: string }
  | { what: 'muted'; kind: SourceKind }
  | { what: 'locked'; locked: boolean }
  | { what: 'moderator'; you: boolean }
  | { what: 'policed'; kind: SourceKind };

export interface Changed {
  membership: Membership;
  happenings: Happening[];
}

/** `slots` are what is known of them from before, on the same connection. */
export function fromSnapshot(snapshot: RoomSnapshot, slots: ReadonlyMap<string, SourceOf> = new Map()): Membership {
  const speaker = snapshot.dominant_speaker ?? null;
  return {
    room: snapshot.room,
    you: snapshot.you,
    grants: snapshot.grants,
    state: snapshot.state,
    participants: snapshot.participants,
    speaker,
    spoke: speaker === null ? [] : [speaker],
    slots: withoutGone(slots, snapshot.participants),
  };
}

/** What an event of this room changes. */
export function change(membership: Membership, event: ProtocolEvent): Changed {
  switch (event.type) {
    case 'participant_joined':
      return joined(membership, event.participant);
    case 'participant_changed':
      return changed(membership, event.participant);
    case 'participant_left':
      return left(membership, event.participant, event.reason);
    case 'room_changed': {
      const { locked } = event.state;
      const happenings: Happening[] = locked === membership.state.locked ? [] : [{ what: 'locked', locked }];
      return { membership: { ...membership, state: event.state }, happenings };
    }
    case 'slots_changed':
      return same({ ...membership, slots: withSlots(membership.slots, event.slots) });
    case 'dominant_speaker':
      return same(withSpeaker(membership, event.participant ?? null));
    case 'publishing_policed':
      return { membership, happenings: [{ what: 'policed', kind: event.kind }] };
    default:
      return same(membership);
  }
}

/** What one's own act of moderation changes: the server tells everybody but who asked. */
export function moderated(membership: Membership, action: Moderation): Changed {
  switch (action.type) {
    case 'mute': {
      const { participant, kind } = action.source;
      const whom = find(membership, participant);
      if (whom === undefined || whom.media[kind] !== 'on') return same(membership);
      return changed(membership, { ...whom, media: { ...whom.media, [kind]: 'muted' } });
    }
    case 'remove':
      return left(membership, action.participant, 'removed');
    case 'lock':
      return same({ ...membership, state: { ...membership.state, locked: action.locked } });
    case 'set_role': {
      const whom = find(membership, action.participant);
      return whom === undefined ? same(membership) : changed(membership, { ...whom, role: action.role });
    }
    case 'close':
      return same(membership);
  }
}

/** Oneself. */
export function me(membership: Membership): Participant | undefined {
  return find(membership, membership.you);
}

export function find(membership: Membership, participant: ParticipantId): Participant | undefined {
  return membership.participants.find((each) => each.participant === participant);
}

export function mayModerate(membership: Membership): boolean {
  return membership.grants.moderate || me(membership)?.role === 'moderator';
}

/** The part of `media` that one may publish here. */
export function publishable(media: RoomMedia, grants: RoomGrants): RoomMedia {
  const allowed = { ...NOTHING_SENT };
  for (const kind of SOURCE_KINDS) if (grants.publish.includes(kind)) allowed[kind] = media[kind];
  return allowed;
}

/** The slot (its mid) that shows a source. */
export function slotOf(membership: Membership, source: SourceOf): string | null {
  for (const [mid, shown] of membership.slots) if (isSame(shown, source)) return mid;
  return null;
}

export function isSame(a: SourceOf, b: SourceOf): boolean {
  return a.participant === b.participant && a.kind === b.kind;
}

/** The number that every packet of a source carries (its CSRC). */
export function csrcOf(source: SourceOf): number {
  return source.participant * 4 + SOURCE_KINDS.indexOf(source.kind);
}

/** The reverse of {@link csrcOf}; `null` for numbers that mean nothing. */
export function sourceOf(csrc: number): SourceOf | null {
  const kind = SOURCE_KINDS[csrc % 4];
  const participant = Math.floor(csrc / 4);
  return kind === undefined || participant === 0 ? null : { participant, kind };
}

function joined(membership: Membership, participant: Participant): Changed {
  if (find(membership, participant.participant) !== undefined) return changed(membership, participant);
  const participants = [...membership.participants, participant];
  const happenings: Happening[] = [{ what: 'joined', name: participant.display_name }];
  if (participant.media.screen === 'on') happenings.push({ what: 'sharing', name: participant.display_name });
  return { membership: { ...membership, participants }, happenings };
}

function changed(membership: Membership, participant: Participant): Changed {
  const before = find(membership, participant.participant);
  if (before === undefined) return same(membership);
  const participants = membership.participants.map((each) => (each === before ? participant : each));
  const happenings: Happening[] = [];
  const mine = participant.participant === membership.you;
  if (mine) {
    // Nobody is told of their own doing: somebody else did this.
    for (const kind of SOURCE_KINDS) {
      if (before.media[kind] === 'on' && participant.media[kind] !== 'on') happenings.push({ what: 'muted', kind });
    }
    if (before.role !== participant.role) happenings.push({ what: 'moderator', you: participant.role === 'moderator' });
  } else if (before.media.screen !== 'on' && participant.media.screen === 'on') {
    happenings.push({ what: 'sharing', name: participant.display_name });
  }
  return { membership: { ...membership, participants }, happenings };
}

function left(membership: Membership, participant: ParticipantId, reason: LeaveReason): Changed {
  const gone = find(membership, participant);
  if (gone === undefined || participant === membership.you) return same(membership);
  const participants = membership.participants.filter((each) => each !== gone);
  return {
    membership: {
      ...membership,
      participants,
      speaker: membership.speaker === participant ? null : membership.speaker,
      spoke: membership.spoke.filter((each) => each !== participant),
      slots: withoutGone(membership.slots, participants),
    },
    // Somebody who rejoined is here again already, under a new number.
    happenings: reason === 'rejoined' ? [] : [{ what: 'left', name: gone.display_name, reason }],
  };
}

function withSlots(
  slots: ReadonlyMap<string, SourceOf>,
  changes: readonly { mid: string; source?: SourceOf | null }[],
): ReadonlyMap<string, SourceOf> {
  const next = new Map(slots);
  for (const { mid, source } of changes) {
    if (source == null) next.delete(mid);
    else next.set(mid, source);
  }
  return next;
}

function withoutGone(
  slots: ReadonlyMap<string, SourceOf>,
  participants: readonly Participant[],
): ReadonlyMap<string, SourceOf> {
  const here = new Set(participants.map((each) => each.participant));
  return new Map([...slots].filter(([, source]) => here.has(source.participant)));
}

function withSpeaker(membership: Membership, speaker: ParticipantId | null): Membership {
  if (speaker === null) return { ...membership, speaker };
  if (find(membership, speaker) === undefined) return membership;
  return { ...membership, speaker, spoke: [speaker, ...membership.spoke.filter((each) => each !== speaker)] };
}

function same(membership: Membership): Changed {
  return { membership, happenings: [] };
}

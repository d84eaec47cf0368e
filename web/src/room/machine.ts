// One device's stay in a room as a pure state machine: inputs from the person, the server and the media go in, the next
// state and what to do come out. It reads no clock and draws no random numbers; `controller.ts` carries its effects out.
//
// Invariants: one room at a time; a connection to the forwarding unit has a number (`attempt`), and what is said of an
// earlier one changes nothing; each connection that is made is closed; whoever is out has left on the server too.

import { backoff, LONGEST_IN_MEETING_MS } from '../protocol/backoff';
import type {
  ErrorBody,
  ErrorCode,
  LayersWanted,
  LeaveReason,
  Moderation,
  Event as ProtocolEvent,
  Request,
  RoomId,
  RoomMedia,
  RoomSnapshot,
  SourceKind,
  SourceOf,
} from '../protocol/types';
import {
  change,
  fromSnapshot,
  type Happening,
  type Membership,
  me,
  moderated,
  NOTHING_SENT,
  publishable,
} from './membership';

/** How things stand with the connection to the forwarding unit. */
export type Connection =
  /** A new one is being made: `preparing` has no offer yet, `asking` no answer. */
  | { phase: 'preparing' | 'asking' }
  | { phase: 'connecting' | 'interrupted' | 'restarting'; since: number }
  | { phase: 'connected' }
  /** The next try is at `until`. */
  | { phase: 'waiting'; until: number };

export interface Entering {
  kind: 'entering';
  room: RoomId;
  attempt: number;
  media: RoomMedia;
  asked: boolean;
}

export interface Inside {
  kind: 'inside';
  room: RoomId;
  attempt: number;
  /** What this side has to send. */
  media: RoomMedia;
  /** What the server was told of it. */
  told: RoomMedia;
  membership: Membership;
  connection: Connection;
  /** Connections that were tried in a row without one that worked. */
  failures: number;
}

export type Ending =
  | { reason: LeaveReason }
  | { reason: 'refused'; error: ErrorBody }
  | { reason: 'unreachable' }
  /** The server does not sign this device in again. */
  | { reason: 'signed_out'; message: string }
  | { reason: 'broken'; message: string };

export interface Out {
  kind: 'out';
  room: RoomId;
  /** The last connection's number: the next one's is higher. */
  attempt: number;
  ending: Ending;
}

export type RoomMachine = { kind: 'idle'; attempt: number } | Entering | Inside | Out;

export type Link = 'connected' | 'interrupted' | 'failed';

export type Input =
  | { type: 'enter'; room: RoomId; media: RoomMedia }
  | { type: 'leave' }
  | { type: 'dismiss' }
  | { type: 'media'; media: RoomMedia }
  | { type: 'offer_ready'; attempt: number; sdp: string }
  | { type: 'joined'; attempt: number; sdp: string; snapshot: RoomSnapshot }
  | { type: 'refused'; attempt: number; error: ErrorBody }
  | { type: 'broken'; attempt: number; message: string }
  | { type: 'link'; attempt: number; link: Link }
  /** A connection found out by itself what its slots show. */
  | { type: 'slots_read'; attempt: number; slots: ReadonlyMap<string, SourceOf> }
  /** The server did what this side asked for. */
  | { type: 'moderated'; attempt: number; action: Moderation }
  | { type: 'network_changed' }
  | { type: 'signed_out'; message: string }
  | { type: 'event'; event: ProtocolEvent }
  | { type: 'welcome'; rooms: RoomSnapshot[]; resumed: boolean }
  | { type: 'tick' };

export type Effect =
  | { do: 'send'; request: Request }
  /** Create a connection and its offer; answer with `offer_ready`. */
  | { do: 'make_offer'; attempt: number }
  | { do: 'apply_answer'; attempt: number; sdp: string }
  /** Look for a new path. */
  | { do: 'restart'; attempt: number }
  | { do: 'send_layers'; attempt: number; layers: LayersWanted }
  /** Answer with `slots_read`. */
  | { do: 'read_slots'; attempt: number }
  /** This side's source was muted by somebody else. */
  | { do: 'mute'; kind: SourceKind }
  | { do: 'tell'; happening: Happening }
  | { do: 'close'; attempt: number };

export interface Step {
  state: RoomMachine;
  effects: Effect[];
}

/** A connection that does not come about. */
const CONNECT_TIMEOUT_MS = 12_000;
/** An interruption often heals by itself within this time. */
const RESTART_AFTER_MS = 2_000;
/** A search for a new path that finds none. */
const RESTART_TIMEOUT_MS = 5_000;
/** Connections in a row that fail before it is given up. */
const MAX_FAILURES = 14;

/** What may pass by itself. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set(['media_unavailable', 'rate_limited', 'shutting_down', 'internal']);

export const idle: RoomMachine = { kind: 'idle', attempt: 0 };

/** What `input`, at `now` (milliseconds of any monotonic clock), makes of `state`; `random` is in [0, 1). */
export function step(state: RoomMachine, input: Input, now: number, random: number): Step {
  switch (input.type) {
    case 'enter':
      return enter(state, input.room, input.media);
    case 'leave':
      return leave(state);
    case 'dismiss':
      return state.kind === 'out' ? just({ kind: 'idle', attempt: state.attempt }) : just(state);
    case 'media':
      return media(state, input.media);
    case 'welcome':
      return welcome(state, input.rooms, input.resumed, now);
    case 'event':
      return event(state, input.event, now, random);
    case 'tick':
      return tick(state, now, random);
    case 'network_changed':
      return networkChanged(state, now);
    case 'signed_out':
      return isIn(state) ? out(state, { reason: 'signed_out', message: input.message }) : just(state);
    default:
      return input.attempt === state.attempt && isIn(state) ? ofConnection(state, input, now, random) : just(state);
  }
}

/** When `tick` is due; `null` for never. */
export function deadline(state: RoomMachine): number | null {
  if (state.kind !== 'inside') return null;
  const { connection } = state;
  switch (connection.phase) {
    case 'connecting':
      return connection.since + CONNECT_TIMEOUT_MS;
    case 'interrupted':
      return connection.since + RESTART_AFTER_MS;
    case 'restarting':
      return connection.since + RESTART_TIMEOUT_MS;
    case 'waiting':
      return connection.until;
    default:
      return null;
  }
}

/** Whether a room is entered or being entered. */
export function isIn(state: RoomMachine): state is Entering | Inside {
  return state.kind === 'entering' || state.kind === 'inside';
}

/** Whether the server takes requests about the room. */
export function isMember(state: RoomMachine): state is Inside {
  return state.kind === 'inside' && !isAway(state.connection);
}

function isAway({ phase }: Connection): boolean {
  return phase === 'preparing' || phase === 'asking' || phase === 'waiting';
}

function enter(state: RoomMachine, room: RoomId, media: RoomMedia): Step {
  if (isIn(state)) return just(state);
  const attempt = state.attempt + 1;
  return {
    state: { kind: 'entering', room, attempt, media, asked: false },
    effects: [{ do: 'make_offer', attempt }],
  };
}

function leave(state: RoomMachine): Step {
  if (!isIn(state)) return just(state);
  const { attempt, room } = state;
  const effects: Effect[] = [{ do: 'close', attempt }];
  if (state.kind === 'inside' || state.asked) effects.unshift(send({ type: 'leave_room', room }));
  return { state: { kind: 'idle', attempt }, effects };
}

function media(state: RoomMachine, media: RoomMedia): Step {
  if (!isIn(state)) return just(state);
  if (state.kind === 'entering') return just({ ...state, media });
  return tellMedia({ ...state, media });
}

/** Tells the server what is sent, where that is news. */
function tellMedia(state: Inside, before: Effect[] = []): Step {
  const media = publishable(state.media, state.membership.grants);
  const { told } = state;
  const known = told.microphone === media.microphone && told.camera === media.camera && told.screen === media.screen;
  if (known || !isMember(state)) return { state, effects: before };
  return {
    state: { ...withOwnMedia(state, media), told: media },
    effects: [...before, send({ type: 'room_media', room: state.room, media })],
  };
}

/** One's own entry in the list: the server tells everybody but oneself. */
function withOwnMedia(state: Inside, media: RoomMedia): Inside {
  const { membership } = state;
  const participants = membership.participants.map((each) =>
    each.participant === membership.you ? { ...each, media } : each,
  );
  return { ...state, membership: { ...membership, participants } };
}

type OfConnection = Extract<Input, { attempt: number }>;

function ofConnection(state: Entering | Inside, input: OfConnection, now: number, random: number): Step {
  switch (input.type) {
    case 'offer_ready':
      return offerReady(state, input.sdp);
    case 'joined':
      return joined(state, input.sdp, input.snapshot, now);
    case 'refused':
      if (state.kind === 'inside' && TRANSIENT.has(input.error.code)) {
        const failed = laterOr(state, { reason: 'refused', error: input.error }, now, random);
        return { state: failed.state, effects: [{ do: 'close', attempt: input.attempt }, ...failed.effects] };
      }
      return out(state, { reason: 'refused', error: input.error });
    case 'broken':
      return out(state, { reason: 'broken', message: input.message }, [send({ type: 'leave_room', room: state.room })]);
    case 'link':
      return link(state, input.link, now, random);
    case 'slots_read':
      if (state.kind !== 'inside') return just(state);
      return just({ ...state, membership: { ...state.membership, slots: input.slots } });
    case 'moderated': {
      if (state.kind !== 'inside') return just(state);
      const { membership, happenings } = moderated(state.membership, input.action);
      return { state: { ...state, membership }, effects: happenings.map((happening) => ({ do: 'tell', happening })) };
    }
  }
}

function offerReady(state: Entering | Inside, sdp: string): Step {
  const ask = (media: RoomMedia) => [send({ type: 'join_room', room: state.room, media, sdp })];
  if (state.kind === 'entering') {
    // What one may publish is known only inside: until then nothing is.
    return state.asked ? just(state) : { state: { ...state, asked: true }, effects: ask(NOTHING_SENT) };
  }
  if (state.connection.phase !== 'preparing') return just(state);
  const media = publishable(state.media, state.membership.grants);
  return { state: { ...state, told: media, connection: { phase: 'asking' } }, effects: ask(media) };
}

function joined(state: Entering | Inside, sdp: string, snapshot: RoomSnapshot, now: number): Step {
  const awaited = state.kind === 'entering' ? state.asked : state.connection.phase === 'asking';
  if (!awaited) return just(state);
  const inside: Inside = {
    kind: 'inside',
    room: state.room,
    attempt: state.attempt,
    media: state.media,
    told: state.kind === 'inside' ? state.told : NOTHING_SENT,
    membership: fromSnapshot(snapshot),
    connection: { phase: 'connecting', since: now },
    failures: state.kind === 'inside' ? state.failures : 0,
  };
  return tellMedia(inside, [{ do: 'apply_answer', attempt: state.attempt, sdp }]);
}

function link(state: Entering | Inside, link: Link, now: number, random: number): Step {
  if (!isMember(state)) return just(state);
  const { phase } = state.connection;
  switch (link) {
    case 'connected':
      return just({ ...state, connection: { phase: 'connected' }, failures: 0 });
    case 'interrupted':
      return phase === 'connected' ? just({ ...state, connection: { phase: 'interrupted', since: now } }) : just(state);
    case 'failed':
      if (phase === 'connecting') return retry(state, now, random);
      return phase === 'restarting' ? just(state) : restart(state, now);
  }
}

function networkChanged(state: RoomMachine, now: number): Step {
  if (state.kind !== 'inside') return just(state);
  if (state.connection.phase === 'waiting') return again(state);
  return state.connection.phase === 'connected' || state.connection.phase === 'interrupted'
    ? restart(state, now)
    : just(state);
}

function restart(state: Inside, now: number): Step {
  return {
    state: { ...state, connection: { phase: 'restarting', since: now } },
    effects: [{ do: 'restart', attempt: state.attempt }],
  };
}

/** A new connection in place of the current one. */
function again(state: Inside): Step {
  const attempt = state.attempt + 1;
  return {
    state: { ...state, attempt, connection: { phase: 'preparing' }, failures: state.failures + 1 },
    effects: [
      { do: 'close', attempt: state.attempt },
      { do: 'make_offer', attempt },
    ],
  };
}

/** Another try after a pause, or the end where there were enough. */
function laterOr(state: Inside, ending: Ending, now: number, random: number): Step {
  if (state.failures >= MAX_FAILURES) return out(state, ending, [send({ type: 'leave_room', room: state.room })]);
  const until = now + backoff(state.failures, random, LONGEST_IN_MEETING_MS);
  return just({ ...state, connection: { phase: 'waiting', until } });
}

function event(state: RoomMachine, event: ProtocolEvent, now: number, random: number): Step {
  if (state.kind !== 'inside' || !('room' in event) || event.room !== state.room) {
    // A room that was being entered can be closed under one's feet.
    const out_ = state.kind === 'entering' && event.type === 'room_left' && event.room === state.room;
    return out_ ? out(state, { reason: event.reason }) : just(state);
  }
  switch (event.type) {
    case 'room_left':
      return out(state, { reason: event.reason });
    case 'rejoin_room':
      return isMember(state) ? retry(state, now, random) : just(state);
    case 'layers_wanted':
      return { state, effects: [{ do: 'send_layers', attempt: state.attempt, layers: event }] };
    default: {
      const { membership, happenings } = change(state.membership, event);
      const effects = happenings.flatMap((happening): Effect[] => [
        ...(happening.what === 'muted' ? [{ do: 'mute' as const, kind: happening.kind }] : []),
        { do: 'tell', happening },
      ]);
      const muted = happenings.some((happening) => happening.what === 'muted');
      const told = muted ? (me(membership)?.media ?? state.told) : state.told;
      return { state: { ...state, membership, told }, effects };
    }
  }
}

/** At once the first time, then with pauses. */
function retry(state: Inside, now: number, random: number): Step {
  if (state.failures === 0) return again(state);
  const failed = laterOr(state, { reason: 'unreachable' }, now, random);
  if (failed.state.kind !== 'inside') return failed;
  return { state: failed.state, effects: [{ do: 'close', attempt: state.attempt }] };
}

/** A sign-in after which events may be missing. Media may well have gone on. */
function welcome(state: RoomMachine, rooms: RoomSnapshot[], resumed: boolean, now: number): Step {
  if (resumed) return just(state);
  const current = isIn(state) ? state.room : null;
  // Of this device, from before the page was loaded again.
  const strays = rooms
    .filter((each) => each.room !== current)
    .map((each) => send({ type: 'leave_room', room: each.room }));
  // What went wrong was the server's being away.
  if (state.kind === 'inside' && state.connection.phase === 'waiting') {
    const begun = again(state);
    return { state: begun.state, effects: [...strays, ...begun.effects] };
  }
  // A request to enter that is still on its way is asked again by the client.
  if (!isMember(state)) return { state, effects: strays };
  const mine = rooms.find((each) => each.room === current);
  if (mine === undefined || mine.you !== state.membership.you) {
    const begun = again(state);
    return { state: begun.state, effects: [...strays, ...begun.effects] };
  }
  const membership = fromSnapshot(mine, state.membership.slots);
  const told = me(membership)?.media ?? state.told;
  const read: Effect = { do: 'read_slots', attempt: state.attempt };
  const next: Inside = { ...state, membership, told };
  // An answer to a further offer may be among what was lost.
  if (state.connection.phase === 'restarting') next.connection = { phase: 'restarting', since: now };
  return tellMedia(next, [...strays, read]);
}

function tick(state: RoomMachine, now: number, random: number): Step {
  const due = deadline(state);
  if (due === null || now < due || state.kind !== 'inside') return just(state);
  switch (state.connection.phase) {
    case 'interrupted':
      return restart(state, now);
    case 'waiting':
    case 'restarting':
      return again(state);
    default:
      return retry(state, now, random);
  }
}

function out(state: Entering | Inside, ending: Ending, before: Effect[] = []): Step {
  const { room, attempt } = state;
  return { state: { kind: 'out', room, attempt, ending }, effects: [...before, { do: 'close', attempt }] };
}

function send(request: Request): Effect {
  return { do: 'send', request };
}

function just(state: RoomMachine): Step {
  return { state, effects: [] };
}

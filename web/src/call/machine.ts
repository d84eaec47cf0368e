// One device's calls as a pure state machine: inputs from the person, the server and the media go in, the next state and
// what to do come out. It reads no clock and touches nothing; `controller.ts` carries its effects out.
//
// Invariants: at most one call is current; a callee's effects contain no SDP and no candidate before `answer`; whatever
// the server was told about is also ended there.

import type {
  AnnouncedRole,
  CallId,
  CallSnapshot,
  Candidate,
  EndReason,
  ErrorBody,
  IncomingCall,
  MediaState,
  PeerReach,
  Event as ProtocolEvent,
  Request,
  SdpKind,
  UserId,
} from '../protocol/types';

/** The other side. */
export interface Party {
  user: UserId;
  name: string;
}

/** The state of the media path. */
export type Link = 'connecting' | 'connected' | 'interrupted';

/** Why a call is over: the server's reasons, and those this side finds by itself. */
export type Ending =
  | { reason: EndReason; by: 'me' | 'them' }
  | { reason: 'refused'; by: 'them'; error: ErrorBody }
  | { reason: 'forgotten'; by: 'them' }
  | { reason: 'broken'; by: 'me'; message: string }
  /** The server does not sign this device in again. */
  | { reason: 'signed_out'; by: 'them'; message: string };

export interface Outgoing {
  kind: 'outgoing';
  call: CallId;
  peer: Party;
  /** `preparing`: no invitation yet. `inviting`: no reply yet. `crossing`: refused for glare, their call is awaited. */
  phase: 'preparing' | 'inviting' | 'calling' | 'ringing' | 'crossing';
  /** Their call to us, where it arrived meanwhile. */
  theirs: IncomingCall | null;
  /** In `crossing`: the call to take instead. */
  awaited: CallId | null;
}

export interface Incoming {
  kind: 'incoming';
  call: CallId;
  peer: Party;
  peerMedia: MediaState;
  phase: 'ringing' | 'answering';
}

export interface Active {
  kind: 'active';
  call: CallId;
  peer: Party;
  role: AnnouncedRole;
  link: Link;
  peerMedia: MediaState;
  peerReach: PeerReach;
  answeredAt: number;
  /** When media first flowed. */
  connectedAt: number | null;
  interruptedAt: number | null;
}

export interface Ended {
  kind: 'ended';
  call: CallId;
  peer: Party;
  ending: Ending;
  /** How long media flowed; 0 for a call that never did. */
  durationMs: number;
}

export type CallState = { kind: 'idle' } | Outgoing | Incoming | Active | Ended;

export type Input =
  | { type: 'dial'; call: CallId; peer: Party }
  | { type: 'offer_ready'; call: CallId; sdp: string; media: MediaState }
  | { type: 'invited'; call: CallId }
  | { type: 'refused'; call: CallId; error: ErrorBody }
  | { type: 'answer' }
  | { type: 'answer_ready'; call: CallId; sdp: string; media: MediaState }
  | { type: 'decline' }
  | { type: 'hang_up' }
  | { type: 'dismiss' }
  | { type: 'broken'; call: CallId; message: string }
  | { type: 'signed_out'; message: string }
  | { type: 'link'; call: CallId; link: Link }
  | { type: 'event'; event: ProtocolEvent }
  | { type: 'welcome'; calls: CallSnapshot[]; resumed: boolean; media: MediaState }
  | { type: 'tick' };

export type Effect =
  | { do: 'send'; request: Request }
  /** Create the connection and its offer; answer with `offer_ready`. */
  | { do: 'make_offer'; call: CallId }
  /** Read the offer without giving anything away. */
  | { do: 'prepare_answer'; call: CallId; sdp: string }
  /** Make the answer; answer with `answer_ready`. */
  | { do: 'make_answer'; call: CallId }
  | { do: 'apply_description'; call: CallId; kind: SdpKind; sdp: string }
  | { do: 'add_candidate'; call: CallId; candidate: Candidate }
  | { do: 'close'; call: CallId };

export interface Step {
  state: CallState;
  effects: Effect[];
}

/** An answered call whose media never connects. */
const CONNECT_TIMEOUT_MS = 20_000;
/** An interrupted call whose other side the server still reaches, or cannot tell. */
const INTERRUPTED_TIMEOUT_MS = 30_000;
/** An interrupted call whose other side is gone from the server too. */
const GONE_TIMEOUT_MS = 3_000;

export const idle: CallState = { kind: 'idle' };

/** What `input`, at `now` (milliseconds of any monotonic clock), makes of `state`. */
export function step(state: CallState, input: Input, now: number): Step {
  switch (input.type) {
    case 'dial':
      return dial(state, input.call, input.peer);
    case 'offer_ready':
      if (state.kind !== 'outgoing' || state.call !== input.call || state.phase !== 'preparing') return stay(state);
      return {
        state: { ...state, phase: 'inviting' },
        effects: [send({ type: 'invite', call: state.call, to: state.peer.user, media: input.media, sdp: input.sdp })],
      };
    case 'invited':
      return invited(state, input.call);
    case 'refused':
      return refused(state, input.call, input.error, now);
    case 'answer':
      if (state.kind !== 'incoming' || state.phase !== 'ringing') return stay(state);
      return { state: { ...state, phase: 'answering' }, effects: [{ do: 'make_answer', call: state.call }] };
    case 'answer_ready':
      if (state.kind !== 'incoming' || state.call !== input.call || state.phase !== 'answering') return stay(state);
      return {
        state: active(state.call, state.peer, 'callee', state.peerMedia, now),
        effects: [send({ type: 'answer', call: state.call, media: input.media, sdp: input.sdp })],
      };
    case 'decline':
      if (state.kind !== 'incoming') return stay(state);
      return end(state, { reason: 'declined', by: 'me' }, now, [send({ type: 'decline', call: state.call })]);
    case 'hang_up':
      return hangUp(state, now);
    case 'dismiss':
      return state.kind === 'ended' ? { state: idle, effects: [] } : stay(state);
    case 'broken':
      if (!isCurrent(state, input.call)) return stay(state);
      return end(state, { reason: 'broken', by: 'me', message: input.message }, now, farewell(state, 'failed'));
    case 'signed_out':
      return end(state, { reason: 'signed_out', by: 'them', message: input.message }, now);
    case 'link':
      return link(state, input.call, input.link, now);
    case 'event':
      return event(state, input.event, now);
    case 'welcome':
      return welcome(state, input.calls, input.resumed, input.media, now);
    case 'tick':
      return tick(state, now);
  }
}

/** When `tick` is due; `null` for never. */
export function deadline(state: CallState): number | null {
  if (state.kind !== 'active') return null;
  if (state.interruptedAt !== null) {
    return state.interruptedAt + (state.peerReach === 'lost' ? GONE_TIMEOUT_MS : INTERRUPTED_TIMEOUT_MS);
  }
  return state.connectedAt === null ? state.answeredAt + CONNECT_TIMEOUT_MS : null;
}

/** Whether a call is under way in any form. */
export function isBusy(state: CallState): state is Outgoing | Incoming | Active {
  return state.kind !== 'idle' && state.kind !== 'ended';
}

function dial(state: CallState, call: CallId, peer: Party): Step {
  if (isBusy(state)) return stay(state);
  return {
    state: { kind: 'outgoing', call, peer, phase: 'preparing', theirs: null, awaited: null },
    effects: [{ do: 'make_offer', call }],
  };
}

function invited(state: CallState, call: CallId): Step {
  if (state.kind !== 'outgoing' || state.call !== call || state.phase !== 'inviting') return stay(state);
  // The server chose our call: theirs will be refused.
  const effects: Effect[] =
    state.theirs === null ? [] : [send({ type: 'busy', call: state.theirs.call }), close(state.theirs.call)];
  return { state: { ...state, phase: 'calling', theirs: null }, effects };
}

function refused(state: CallState, call: CallId, error: ErrorBody, now: number): Step {
  if (!isCurrent(state, call)) return stay(state);
  if (state.kind === 'outgoing' && error.code === 'glare' && error.call) {
    if (state.theirs !== null && state.theirs.call === error.call) return takeTheirs(state, state.theirs);
    return { state: { ...state, phase: 'crossing', awaited: error.call }, effects: [close(call)] };
  }
  // Another of this person's devices was faster, or the caller gave up in that moment.
  if (state.kind === 'active' && error.code === 'call_state') {
    return end(state, { reason: 'answered_elsewhere', by: 'them' }, now);
  }
  if (state.kind === 'active' && error.code === 'call_unknown') {
    return end(state, { reason: 'cancelled', by: 'them' }, now);
  }
  return end(state, { reason: 'refused', by: 'them', error }, now);
}

/** Both called each other: theirs is taken in place of ours, since this person meant to talk to them. */
function takeTheirs(state: Outgoing, theirs: IncomingCall): Step {
  return {
    state: {
      kind: 'incoming',
      call: theirs.call,
      peer: { user: theirs.from, name: theirs.from_name },
      peerMedia: theirs.media,
      phase: 'answering',
    },
    effects: [close(state.call), { do: 'make_answer', call: theirs.call }],
  };
}

function hangUp(state: CallState, now: number): Step {
  switch (state.kind) {
    case 'outgoing':
      return end(state, { reason: 'cancelled', by: 'me' }, now, farewell(state, 'hung_up'));
    case 'incoming':
      return end(state, { reason: 'declined', by: 'me' }, now, farewell(state, 'hung_up'));
    case 'active':
      return end(state, { reason: 'hung_up', by: 'me' }, now, farewell(state, 'hung_up'));
    default:
      return stay(state);
  }
}

function link(state: CallState, call: CallId, to: Link, now: number): Step {
  if (state.kind !== 'active' || state.call !== call || state.link === to) return stay(state);
  const next: Active = { ...state, link: to };
  if (to === 'connected') {
    next.connectedAt = state.connectedAt ?? now;
    next.interruptedAt = null;
  } else if (to === 'interrupted') {
    next.interruptedAt = state.interruptedAt ?? now;
  }
  return { state: next, effects: [] };
}

function event(state: CallState, event: ProtocolEvent, now: number): Step {
  switch (event.type) {
    case 'incoming_call':
      return incoming(state, event);
    case 'ringing':
      if (state.kind !== 'outgoing' || state.call !== event.call || state.phase === 'preparing') return stay(state);
      return { state: { ...state, phase: 'ringing' }, effects: [] };
    case 'answered':
      if (state.kind !== 'outgoing' || state.call !== event.call) return stay(state);
      return {
        state: active(state.call, state.peer, 'caller', event.media, now),
        effects: [{ do: 'apply_description', call: event.call, kind: 'answer', sdp: event.sdp }],
      };
    case 'candidate':
      if (!concerns(state, event.call)) return stay(state);
      return { state, effects: [{ do: 'add_candidate', call: event.call, candidate: event.candidate }] };
    case 'description':
      if (state.kind !== 'active' || state.call !== event.call) return stay(state);
      return { state, effects: [{ do: 'apply_description', call: event.call, kind: event.kind, sdp: event.sdp }] };
    case 'media_state':
      if ((state.kind !== 'active' && state.kind !== 'incoming') || state.call !== event.call) return stay(state);
      return { state: { ...state, peerMedia: event.media }, effects: [] };
    case 'peer_reach':
      if (state.kind !== 'active' || state.call !== event.call) return stay(state);
      return { state: { ...state, peerReach: event.reach }, effects: [] };
    case 'ended':
      if (state.kind === 'outgoing' && state.theirs?.call === event.call) {
        return { state: { ...state, theirs: null }, effects: [close(event.call)] };
      }
      if (state.kind === 'outgoing' && state.awaited === event.call) {
        return end(state, { reason: event.reason, by: 'them' }, now);
      }
      if (!isCurrent(state, event.call)) return stay(state);
      return end(state, { reason: event.reason, by: 'them' }, now);
    default:
      return stay(state);
  }
}

function incoming(state: CallState, call: IncomingCall): Step {
  if (concerns(state, call.call)) return stay(state);
  const prepare: Effect = { do: 'prepare_answer', call: call.call, sdp: call.sdp };
  if (!isBusy(state)) {
    return {
      state: {
        kind: 'incoming',
        call: call.call,
        peer: { user: call.from, name: call.from_name },
        peerMedia: call.media,
        phase: 'ringing',
      },
      effects: [prepare, send({ type: 'ringing', call: call.call })],
    };
  }
  if (state.kind === 'outgoing' && state.peer.user === call.from) {
    const { phase } = state;
    if (phase === 'preparing' || (phase === 'crossing' && state.awaited === call.call)) {
      const taken = takeTheirs(state, call);
      return { state: taken.state, effects: [prepare, ...taken.effects] };
    }
    if (phase === 'inviting') return { state: { ...state, theirs: call }, effects: [prepare] };
  }
  return { state, effects: [send({ type: 'busy', call: call.call })] };
}

/** A sign-in after which events may be missing: what the server knows decides, but a running call outlives its memory. */
function welcome(state: CallState, calls: CallSnapshot[], resumed: boolean, media: MediaState, now: number): Step {
  if (resumed) return stay(state);
  const mine = isBusy(state) ? calls.find((each) => each.call === state.call) : undefined;
  // A call of this device from before the page was loaded again: its media is gone.
  const strays = calls
    .filter((each) => each.state === 'active' && (!isBusy(state) || each.call !== state.call))
    .map((each) => send({ type: 'hang_up', call: each.call, reason: 'hung_up' }));
  if (state.kind === 'active') {
    if (mine !== undefined) {
      // What was muted while nobody could be told.
      const tell = send({ type: 'media_state', call: state.call, media });
      return { state: { ...state, peerMedia: mine.peer_media, peerReach: 'back' }, effects: [...strays, tell] };
    }
    const announce = send({ type: 'announce', call: state.call, peer: state.peer.user, role: state.role, media });
    return { state, effects: [...strays, announce] };
  }
  const unknown = mine === undefined;
  if (state.kind === 'incoming' && unknown) {
    const over = end(state, { reason: 'forgotten', by: 'them' }, now);
    return { state: over.state, effects: [...strays, ...over.effects] };
  }
  // An invitation that is still on its way is asked again by the client.
  if (state.kind === 'outgoing' && unknown && (state.phase === 'calling' || state.phase === 'ringing')) {
    const over = end(state, { reason: 'forgotten', by: 'them' }, now);
    return { state: over.state, effects: [...strays, ...over.effects] };
  }
  return { state, effects: strays };
}

function tick(state: CallState, now: number): Step {
  const due = deadline(state);
  if (due === null || now < due || state.kind !== 'active') return stay(state);
  const reason: EndReason = state.connectedAt === null ? 'failed' : 'peer_lost';
  return end(state, { reason, by: 'them' }, now, farewell(state, reason));
}

function active(call: CallId, peer: Party, role: AnnouncedRole, peerMedia: MediaState, now: number): Active {
  return {
    kind: 'active',
    call,
    peer,
    role,
    link: 'connecting',
    peerMedia,
    peerReach: 'back',
    answeredAt: now,
    connectedAt: null,
    interruptedAt: null,
  };
}

function end(state: CallState, ending: Ending, now: number, before: Effect[] = []): Step {
  if (!isBusy(state)) return stay(state);
  const since = state.kind === 'active' ? state.connectedAt : null;
  const effects = [...before, close(state.call)];
  if (state.kind === 'outgoing' && state.theirs !== null) effects.push(close(state.theirs.call));
  return {
    state: {
      kind: 'ended',
      call: state.call,
      peer: state.peer,
      ending,
      durationMs: since === null ? 0 : Math.max(0, now - since),
    },
    effects,
  };
}

/** What the server must be told when this side ends the call in this state. */
function farewell(state: CallState, reason: EndReason): Effect[] {
  switch (state.kind) {
    case 'outgoing': {
      const told = state.phase !== 'preparing' && state.phase !== 'crossing';
      const theirs = state.theirs?.call ?? state.awaited;
      const effects: Effect[] = told ? [send({ type: 'cancel', call: state.call })] : [];
      if (theirs !== null) effects.push(send({ type: 'decline', call: theirs }));
      return effects;
    }
    case 'incoming':
      return [send({ type: 'decline', call: state.call })];
    case 'active':
      return [send({ type: 'hang_up', call: state.call, reason })];
    default:
      return [];
  }
}

function isCurrent(state: CallState, call: CallId): boolean {
  return isBusy(state) && state.call === call;
}

/** Whether `call` is the current one, or theirs that crosses ours. */
function concerns(state: CallState, call: CallId): boolean {
  return isCurrent(state, call) || (state.kind === 'outgoing' && state.theirs?.call === call);
}

function send(request: Request): Effect {
  return { do: 'send', request };
}

function close(call: CallId): Effect {
  return { do: 'close', call };
}

function stay(state: CallState): Step {
  return { state, effects: [] };
}

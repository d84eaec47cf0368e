// The signaling connection: requests with exactly one reply, numbered events, and a session that outlives connections.
//
// Invariant: every event of the session is delivered once and in order, or `onWelcome` says that there is a gap
// (`resumed: false`). Requests made while the connection is down wait for it; those whose reply was lost with the
// connection are asked again, so callers treat "already so" as success.

import { backoff, LONGEST_IN_MEETING_MS } from './backoff';
import type {
  ClientInfo,
  Credential,
  DeviceId,
  ErrorBody,
  NumberedEvent,
  Event as ProtocolEvent,
  ReplyResult,
  Request,
  Resume,
  ServerMessage,
  Welcome,
} from './types';

export const SUBPROTOCOL = 'halloo.v1';

/** A reply that takes longer means that the connection is dead. */
const REPLY_TIMEOUT_MS = 10_000;
/** More waiting requests than this are refused: something is wrong. */
const MAX_WAITING = 256;

/** Close codes after which connecting again would be wrong, and what they mean for the person. */
const FINAL_CLOSE: Record<number, string> = {
  4002: 'The server refused the sign-in.',
  4004: 'You signed in from another tab or window with this identity.',
  4007: 'You signed out.',
};

/** `connecting` is the first attempt, `reconnecting` any later one. */
export type ConnectionStatus =
  | { kind: 'signed_out'; why: string | null }
  | { kind: 'connecting' }
  | { kind: 'online' }
  | { kind: 'reconnecting'; attempt: number };

/** An error reply. */
export class RequestError extends Error {
  constructor(
    readonly body: ErrorBody,
    /** Whether it was asked twice: the first time may have worked, its reply lost. */
    readonly repeated: boolean,
  ) {
    super(body.message);
  }
}

/** What a client does with what happens. */
export interface ClientHandlers {
  status(status: ConnectionStatus): void;
  /** After every successful sign-in, before waiting requests are sent. What it requests goes first. */
  welcome(welcome: Welcome): void;
  event(event: ProtocolEvent): void;
  /** Whether a call or a room runs, which cannot wait long. */
  inMeeting(): boolean;
}

/** The outside world, so that a test can bring its own. */
export interface ClientWorld {
  open(url: string, subprotocol: string): WebSocket;
  random(): number;
}

export const browserWorld: ClientWorld = {
  open: (url, subprotocol) => new WebSocket(url, subprotocol),
  random: Math.random,
};

interface Pending {
  request: Request;
  resolve(result: ReplyResult): void;
  reject(error: Error): void;
  timer: ReturnType<typeof setTimeout> | null;
  sent: number;
}

export class SignalingClient {
  #socket: WebSocket | null = null;
  #credential: Credential | null = null;
  #resume: Resume | null = null;
  #nextId = 1;
  #attempt = 0;
  #online = false;
  #everOnline = false;
  #retry: ReturnType<typeof setTimeout> | null = null;
  /** Runs while a connection is being opened. */
  #opening: ReturnType<typeof setTimeout> | null = null;
  readonly #inFlight = new Map<number, Pending>();
  #waiting: Pending[] = [];

  constructor(
    private readonly url: string,
    private readonly device: DeviceId,
    private readonly info: ClientInfo,
    private readonly handlers: ClientHandlers,
    private readonly world: ClientWorld = browserWorld,
  ) {}

  /** Signs in, and stays signed in through broken connections until `signOut` or a refusal. */
  signIn(credential: Credential): void {
    this.#stop(null);
    this.#credential = credential;
    this.#resume = null;
    this.#everOnline = false;
    this.#attempt = 0;
    this.#connect();
  }

  /** Ends the session at once. */
  signOut(): void {
    if (this.#online) this.#transmit(this.#newPending({ type: 'sign_out' }));
    this.#stop(null);
    this.handlers.status({ kind: 'signed_out', why: null });
  }

  /** Asks, now or as soon as there is a connection. Rejects with {@link RequestError} for an error reply. */
  request(request: Request): Promise<ReplyResult> {
    return new Promise((resolve, reject) => {
      const pending: Pending = { request, resolve, reject, timer: null, sent: 0 };
      if (this.#credential === null) return reject(new Error('You are not signed in.'));
      if (this.#online) this.#transmit(pending);
      else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(pending);
      else reject(new Error('The server cannot be reached.'));
    });
  }

  /** The network changed or came back, or somebody looks again: do not wait for a timer to notice. */
  retryNow(): void {
    if (this.#retry === null && this.#opening === null) return;
    this.#attempt = 0;
    this.#disarm();
    // One that was begun on the former network may hang for minutes.
    const former = this.#socket;
    this.#socket = null;
    former?.close();
    this.#connect();
  }

  #connect(): void {
    if (this.#credential === null) return;
    this.handlers.status(
      this.#everOnline || this.#attempt > 0 ? { kind: 'reconnecting', attempt: this.#attempt } : { kind: 'connecting' },
    );
    const socket = this.world.open(this.url, SUBPROTOCOL);
    this.#socket = socket;
    this.#opening = setTimeout(() => this.#dead(), REPLY_TIMEOUT_MS);
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#disarm();
      this.#hello();
    };
    socket.onmessage = (message) => {
      if (this.#socket === socket) this.#receive(message.data);
    };
    socket.onclose = (close) => {
      if (this.#socket === socket) this.#closed(close.code);
    };
  }

  #hello(): void {
    const credential = this.#credential;
    if (credential === null) return;
    const hello: Request = { type: 'hello', credential, device: this.device, client: this.info };
    if (this.#resume !== null) hello.resume = this.#resume;
    const pending = this.#newPending(hello);
    pending.resolve = (result) => {
      if (result.type === 'welcome') this.#welcome(result);
      else this.#socket?.close();
    };
    pending.reject = (error) => {
      if (!(error instanceof RequestError)) return;
      const { code } = error.body;
      // These pass by themselves; everything else needs the person.
      if (code === 'shutting_down' || code === 'rate_limited' || code === 'internal') this.#socket?.close();
      else this.#refused(error.message);
    };
    this.#transmit(pending);
  }

  #welcome(welcome: Welcome): void {
    const lastSeq = welcome.resumed ? (this.#resume?.last_seq ?? 0) : 0;
    this.#resume = { session: welcome.session, epoch: welcome.epoch, last_seq: lastSeq };
    this.#attempt = 0;
    this.#online = true;
    this.#everOnline = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.handlers.welcome(welcome);
    for (const pending of waiting) this.#transmit(pending);
    this.handlers.status({ kind: 'online' });
  }

  #receive(data: unknown): void {
    if (typeof data !== 'string') return;
    let message: ServerMessage;
    try {
      message = JSON.parse(data) as ServerMessage;
    } catch {
      return;
    }
    if ('reply_to' in message) {
      const pending = this.#inFlight.get(message.reply_to);
      if (pending === undefined) return;
      this.#inFlight.delete(message.reply_to);
      if (pending.timer !== null) clearTimeout(pending.timer);
      if ('error' in message) pending.reject(new RequestError(message.error, pending.sent > 1));
      else pending.resolve(message.result);
    } else if ('seq' in message) {
      this.#event(message);
    }
  }

  #event({ seq, event }: NumberedEvent): void {
    if (this.#resume === null || seq <= this.#resume.last_seq) return;
    this.#resume = { ...this.#resume, last_seq: seq };
    this.handlers.event(event);
  }

  #transmit(pending: Pending): void {
    const id = this.#nextId++;
    this.#inFlight.set(id, pending);
    pending.sent += 1;
    pending.timer = setTimeout(() => this.#dead(), REPLY_TIMEOUT_MS);
    this.#socket?.send(JSON.stringify({ id, request: pending.request }));
  }

  #dead(): void {
    const socket = this.#socket;
    if (socket === null) return;
    // `onclose` of a connection whose network is gone may take minutes: go on without it.
    this.#socket = null;
    socket.close();
    this.#closed(1006);
  }

  #closed(code: number): void {
    this.#socket = null;
    this.#online = false;
    this.#disarm();
    const lost = [...this.#inFlight.values()];
    this.#inFlight.clear();
    for (const pending of lost) if (pending.timer !== null) clearTimeout(pending.timer);
    const final = FINAL_CLOSE[code];
    if (final !== undefined) {
      this.#waiting = [...lost, ...this.#waiting];
      this.#refused(final);
      return;
    }
    this.#waiting = [...lost.filter((pending) => worthAskingAgain(pending.request)), ...this.#waiting];
    if (this.#credential === null) return;
    const longest = this.handlers.inMeeting() ? LONGEST_IN_MEETING_MS : undefined;
    const wait = backoff(this.#attempt, this.world.random(), longest);
    this.#attempt += 1;
    this.handlers.status({ kind: 'reconnecting', attempt: this.#attempt });
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#connect();
    }, wait);
  }

  #refused(why: string): void {
    if (this.#credential === null) return;
    this.#stop(why);
    this.handlers.status({ kind: 'signed_out', why });
  }

  #stop(why: string | null): void {
    this.#credential = null;
    this.#online = false;
    this.#disarm();
    const pending = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.#waiting = [];
    for (const each of pending) {
      if (each.timer !== null) clearTimeout(each.timer);
      each.reject(new Error(why ?? 'You signed out.'));
    }
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** Stops the timers of connecting. */
  #disarm(): void {
    for (const timer of [this.#retry, this.#opening]) if (timer !== null) clearTimeout(timer);
    this.#retry = null;
    this.#opening = null;
  }

  #newPending(request: Request): Pending {
    return { request, resolve: () => {}, reject: () => {}, timer: null, sent: 0 };
  }
}

/** The session's own requests are made afresh after every sign-in. */
function worthAskingAgain(request: Request): boolean {
  return request.type !== 'hello' && request.type !== 'sign_out' && request.type !== 'watch_presence';
}

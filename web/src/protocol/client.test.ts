import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { backoff } from './backoff';
import { type ConnectionStatus, RequestError, SignalingClient } from './client';
import type { ClientMessage, Event as ProtocolEvent, Request, Welcome } from './types';

/** The server's end of one connection. */
class FakeSocket {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((close: { code: number }) => void) | null = null;
  sent: ClientMessage[] = [];
  closed = false;

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  receive(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  reply(type: Request['type'], body: object): void {
    const found = this.sent.findLast((each) => each.request.type === type);
    if (found === undefined) throw new Error(`no ${type} was sent`);
    this.receive({ reply_to: found.id, ...body });
  }
  types(): string[] {
    return this.sent.map((each) => each.request.type);
  }
}

const limits = {
  max_message_bytes: 1,
  messages_per_second: 1,
  ring_timeout_ms: 1,
  ping_interval_ms: 1,
  resume_window_ms: 1,
};
const welcome = (over: Partial<Welcome> = {}) => ({
  result: {
    type: 'welcome',
    session: 's1',
    epoch: 'e1',
    resumed: false,
    user: 'anna',
    display_name: 'Anna',
    ice_servers: [],
    limits,
    calls: [],
    ...over,
  },
});
const ok = { result: { type: 'ok' } };

let sockets: FakeSocket[];
let events: ProtocolEvent[];
let statuses: ConnectionStatus[];
let welcomes: Welcome[];
let inMeeting: boolean;
let client: SignalingClient;
const last = () => sockets.at(-1) as FakeSocket;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  events = [];
  statuses = [];
  welcomes = [];
  inMeeting = false;
  const world = {
    open: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    },
    random: () => 0.5,
  };
  client = new SignalingClient(
    'ws://x/ws',
    'd1',
    { name: 't', version: '1' },
    {
      status: (status) => statuses.push(status),
      event: (event) => events.push(event),
      welcome: (each) => welcomes.push(each),
      inMeeting: () => inMeeting,
    },
    world,
  );
});

afterEach(() => vi.useRealTimers());

function signIn(): void {
  client.signIn({ type: 'guest', name: 'anna' });
  last().onopen?.();
  last().reply('hello', welcome());
}

/** Breaks the connection and brings the next one up to its hello. */
function reconnect(code = 1006): void {
  last().onclose?.({ code });
  vi.advanceTimersByTime(10_000);
  last().onopen?.();
}

describe('the signaling client', () => {
  it('gives each request its own reply', async () => {
    signIn();
    const first = client.request({ type: 'ringing', call: 'a' });
    const second = client.request({ type: 'decline', call: 'b' });
    last().reply('decline', { error: { code: 'call_unknown', message: 'no such call' } });
    last().reply('ringing', ok);
    await expect(first).resolves.toEqual({ type: 'ok' });
    await expect(second).rejects.toMatchObject({ message: 'no such call', repeated: false });
    await expect(second).rejects.toBeInstanceOf(RequestError);
  });

  it('resumes from the last event it saw, and drops repeated ones', () => {
    signIn();
    const event = { type: 'going_away', message: 'soon' };
    last().receive({ seq: 1, event });
    last().receive({ seq: 2, event });
    reconnect();
    expect(last().sent[0]?.request).toMatchObject({ resume: { session: 's1', epoch: 'e1', last_seq: 2 } });
    last().reply('hello', welcome({ resumed: true }));
    last().receive({ seq: 2, event });
    last().receive({ seq: 3, event });
    expect(events).toHaveLength(3);
  });

  it('counts from one again in a new session', () => {
    signIn();
    last().receive({ seq: 7, event: { type: 'unknown' } });
    reconnect();
    last().reply('hello', welcome({ session: 's2', epoch: 'e2' }));
    last().receive({ seq: 1, event: { type: 'unknown' } });
    expect(events).toHaveLength(2);
    expect(welcomes.map((each) => each.session)).toEqual(['s1', 's2']);
  });

  it('asks again what was asked while the connection broke, and says so', async () => {
    signIn();
    const invite: Request = {
      type: 'invite',
      call: 'c',
      to: 'bob',
      sdp: '',
      media: { audio_muted: false, video: 'off' },
    };
    const request = client.request(invite);
    reconnect();
    expect(last().types()).toEqual(['hello']);
    last().reply('hello', welcome({ resumed: true }));
    expect(last().types()).toEqual(['hello', 'invite']);
    last().reply('invite', { error: { code: 'call_exists', message: 'there already' } });
    await expect(request).rejects.toMatchObject({ repeated: true });
  });

  it('sends what the welcome asks for before what was waiting', () => {
    signIn();
    last().onclose?.({ code: 1006 });
    void client.request({ type: 'ringing', call: 'waiting' });
    const push = welcomes.push.bind(welcomes);
    welcomes.push = (...items) => {
      void client.request({ type: 'watch_presence' });
      return push(...items);
    };
    vi.advanceTimersByTime(10_000);
    last().onopen?.();
    last().reply('hello', welcome({ resumed: true }));
    expect(last().types()).toEqual(['hello', 'watch_presence', 'ringing']);
  });

  it('takes a connection without replies for dead', () => {
    signIn();
    void client.request({ type: 'ringing', call: 'a' });
    const first = last();
    vi.advanceTimersByTime(10_000);
    expect(first.closed).toBe(true);
    vi.advanceTimersByTime(10_000);
    expect(sockets).toHaveLength(2);
    last().onopen?.();
    last().reply('hello', welcome({ resumed: true }));
    last().reply('ringing', ok);
    first.onclose?.({ code: 1006 });
    vi.advanceTimersByTime(10_000);
    expect(sockets).toHaveLength(2);
  });

  it('stops where connecting again would be wrong, with a reason', () => {
    signIn();
    reconnect();
    last().reply('hello', { error: { code: 'name_taken', message: 'Somebody else is anna.' } });
    expect(statuses.at(-1)).toEqual({ kind: 'signed_out', why: 'Somebody else is anna.' });
    vi.advanceTimersByTime(60_000);
    expect(sockets).toHaveLength(2);
  });

  it('does not fight over a device that signed in elsewhere', () => {
    signIn();
    last().onclose?.({ code: 4004 });
    vi.advanceTimersByTime(60_000);
    expect(sockets).toHaveLength(1);
    expect(statuses.at(-1)).toMatchObject({ kind: 'signed_out' });
  });

  it('tries again while the server drains', () => {
    client.signIn({ type: 'guest', name: 'anna' });
    last().onopen?.();
    last().reply('hello', { error: { code: 'shutting_down', message: 'later' } });
    expect(last().closed).toBe(true);
    last().onclose?.({ code: 1001 });
    vi.advanceTimersByTime(10_000);
    expect(sockets).toHaveLength(2);
  });

  it('keeps trying every two seconds at most while there is a meeting', () => {
    signIn();
    inMeeting = true;
    for (let attempt = 0; attempt < 20; attempt++) {
      const before = sockets.length;
      last().onclose?.({ code: 1006 });
      vi.advanceTimersByTime(2_000);
      expect(sockets).toHaveLength(before + 1);
    }
  });

  it('starts from the shortest wait again when the network is back', () => {
    signIn();
    for (let attempt = 0; attempt < 10; attempt++) {
      last().onclose?.({ code: 1006 });
      vi.advanceTimersByTime(10_000);
    }
    last().onclose?.({ code: 1006 });
    const before = sockets.length;
    client.retryNow();
    expect(sockets).toHaveLength(before + 1);
    last().onclose?.({ code: 1006 });
    vi.advanceTimersByTime(250);
    expect(sockets).toHaveLength(before + 2);
  });

  it('gives up a connection that hangs, at once where the network is back', () => {
    signIn();
    last().onclose?.({ code: 1006 });
    vi.advanceTimersByTime(250);
    const hanging = last();
    expect(sockets).toHaveLength(2);
    client.retryNow();
    expect(hanging.closed).toBe(true);
    expect(sockets).toHaveLength(3);
    hanging.onclose?.({ code: 1006 });
    vi.advanceTimersByTime(10_250);
    expect(sockets).toHaveLength(4);
    last().onopen?.();
    last().reply('hello', welcome({ resumed: true }));
    client.retryNow();
    expect(sockets).toHaveLength(4);
    expect(statuses.at(-1)).toEqual({ kind: 'online' });
  });

  it('survives what is not a message', () => {
    signIn();
    last().onmessage?.({ data: '{' });
    last().receive({ neither: 1 });
    expect(events).toEqual([]);
  });
});

it('waits longer each time, with jitter, up to ten seconds', () => {
  expect(backoff(0, 0)).toBeGreaterThan(0);
  expect(backoff(0, 0.999)).toBeLessThanOrEqual(250);
  expect(backoff(3, 0.5)).toBeGreaterThan(backoff(1, 0.5));
  expect(backoff(1_000, 0.999)).toBeLessThanOrEqual(10_000);
});

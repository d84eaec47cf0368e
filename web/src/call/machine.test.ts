import { describe, expect, it } from 'vitest';
import type { ErrorBody, IncomingCall, MediaState, Request } from '../protocol/types';
import { type CallState, deadline, type Effect, type Input, idle, step } from './machine';

const media: MediaState = { audio_muted: false, video: 'camera' };
const bob = { user: 'bob', name: 'Bob' };
const fromBob = (call: string): IncomingCall => ({
  call,
  from: 'bob',
  from_name: 'Bob',
  media,
  sdp: 'their offer',
  ring_timeout_ms: 30_000,
});
const glare = (call: string): ErrorBody => ({ code: 'glare', message: 'glare', call });

/** Feeds inputs, a millisecond apart; gives the last state and everything that was to be done. */
function run(
  inputs: Input[],
  from: CallState = idle,
  start = 0,
): { state: CallState; effects: Effect[]; sent: Request[] } {
  let state = from;
  const effects: Effect[] = [];
  inputs.forEach((input, index) => {
    const next = step(state, input, start + index);
    state = next.state;
    effects.push(...next.effects);
  });
  return { state, effects, sent: effects.flatMap((each) => (each.do === 'send' ? [each.request] : [])) };
}

const dial: Input = { type: 'dial', call: 'mine', peer: bob };
const offerReady: Input = { type: 'offer_ready', call: 'mine', sdp: 'my offer', media };
const invited: Input = { type: 'invited', call: 'mine' };
const answered: Input = {
  type: 'event',
  event: { type: 'answered', call: 'mine', by_device: 'd', media, sdp: 'their answer' },
};
const incoming = (call = 'theirs'): Input => ({ type: 'event', event: { type: 'incoming_call', ...fromBob(call) } });
const connected: Input = { type: 'link', call: 'mine', link: 'connected' };
const calling = [dial, offerReady, invited];
const active = [...calling, answered, connected];

describe('a caller', () => {
  it('invites once the offer is there, and applies the answer', () => {
    const { state, effects, sent } = run(active);
    expect(sent).toEqual([{ type: 'invite', call: 'mine', to: 'bob', media, sdp: 'my offer' }]);
    expect(effects.at(-1)).toEqual({ do: 'apply_description', call: 'mine', kind: 'answer', sdp: 'their answer' });
    expect(state).toMatchObject({ kind: 'active', role: 'caller', link: 'connected', connectedAt: 4 });
  });

  it('shows ringing even where that event overtakes the reply', () => {
    const ringing: Input = { type: 'event', event: { type: 'ringing', call: 'mine', device: 'd' } };
    expect(run([dial, offerReady, ringing, invited]).state).toMatchObject({ kind: 'outgoing', phase: 'ringing' });
  });

  it('tells nobody of a call given up before its invitation', () => {
    const { state, sent, effects } = run([dial, { type: 'hang_up' }, offerReady]);
    expect(sent).toEqual([]);
    expect(effects).toContainEqual({ do: 'close', call: 'mine' });
    expect(state).toMatchObject({ kind: 'ended', ending: { reason: 'cancelled', by: 'me' } });
  });

  it('cancels what was invited, though the reply is still out', () => {
    expect(run([dial, offerReady, { type: 'hang_up' }]).sent.at(-1)).toEqual({ type: 'cancel', call: 'mine' });
  });

  it.each(['callee_offline', 'callee_unknown', 'callee_busy', 'callee_self', 'internal'] as const)(
    'ends with the server’s words on %s',
    (code) => {
      const error: ErrorBody = { code, message: 'words' };
      const { state, effects } = run([dial, offerReady, { type: 'refused', call: 'mine', error }]);
      expect(state).toMatchObject({ kind: 'ended', ending: { reason: 'refused', error } });
      expect(effects).toContainEqual({ do: 'close', call: 'mine' });
    },
  );
});

describe('a callee', () => {
  it('gives away neither SDP nor candidates before the person answers', () => {
    const { effects, sent } = run([
      incoming(),
      { type: 'event', event: { type: 'candidate', call: 'theirs', candidate: { candidate: 'c' } } },
    ]);
    expect(sent).toEqual([{ type: 'ringing', call: 'theirs' }]);
    expect(effects.map((each) => each.do)).toEqual(['prepare_answer', 'send', 'add_candidate']);
  });

  it('answers once, however often the button is pressed', () => {
    const ready: Input = { type: 'answer_ready', call: 'theirs', sdp: 'my answer', media };
    const { state, effects, sent } = run([incoming(), { type: 'answer' }, { type: 'answer' }, ready, ready]);
    expect(effects.filter((each) => each.do === 'make_answer')).toHaveLength(1);
    expect(sent.filter((each) => each.type === 'answer')).toHaveLength(1);
    expect(state).toMatchObject({ kind: 'active', role: 'callee' });
  });

  it('declines', () => {
    const { state, sent } = run([incoming(), { type: 'decline' }]);
    expect(sent.at(-1)).toEqual({ type: 'decline', call: 'theirs' });
    expect(state).toMatchObject({ kind: 'ended', ending: { reason: 'declined', by: 'me' } });
  });

  it('is told where another device was faster', () => {
    const { state } = run([
      incoming(),
      { type: 'event', event: { type: 'ended', call: 'theirs', reason: 'answered_elsewhere' } },
    ]);
    expect(state).toMatchObject({ kind: 'ended', ending: { reason: 'answered_elsewhere', by: 'them' } });
  });

  it('is busy for a third person', () => {
    const carol: Input = {
      type: 'event',
      event: { type: 'incoming_call', ...fromBob('carols'), from: 'carol', from_name: 'Carol' },
    };
    for (const before of [calling, active, [incoming()]]) {
      const { state } = run(before);
      const { state: after, sent } = run([carol], state);
      expect(sent).toEqual([{ type: 'busy', call: 'carols' }]);
      expect(after).toEqual(state);
    }
  });
});

describe('both call each other', () => {
  const refused: Input = { type: 'refused', call: 'mine', error: glare('theirs') };
  const taken = { kind: 'incoming', call: 'theirs', phase: 'answering' };

  it('takes theirs at once where nothing was sent yet', () => {
    const { state, effects } = run([dial, incoming()]);
    expect(state).toMatchObject(taken);
    expect(effects.slice(1)).toEqual([
      { do: 'prepare_answer', call: 'theirs', sdp: 'their offer' },
      { do: 'close', call: 'mine' },
      { do: 'make_answer', call: 'theirs' },
    ]);
  });

  it('takes theirs when theirs comes before the refusal', () => {
    const { state, sent } = run([dial, offerReady, incoming(), refused]);
    expect(state).toMatchObject(taken);
    expect(sent.map((each) => each.type)).toEqual(['invite']);
  });

  it('takes theirs when the refusal comes first', () => {
    const { state } = run([dial, offerReady, refused, incoming()]);
    expect(state).toMatchObject(taken);
  });

  it('keeps candidates of theirs that come before the refusal', () => {
    const candidate: Input = {
      type: 'event',
      event: { type: 'candidate', call: 'theirs', candidate: { candidate: 'c' } },
    };
    expect(run([dial, offerReady, incoming(), candidate, refused]).effects).toContainEqual({
      do: 'add_candidate',
      call: 'theirs',
      candidate: { candidate: 'c' },
    });
  });

  it('ends when theirs ended meanwhile', () => {
    const ended: Input = { type: 'event', event: { type: 'ended', call: 'theirs', reason: 'cancelled' } };
    expect(run([dial, offerReady, refused, ended]).state).toMatchObject({ kind: 'ended' });
  });

  it('hanging up while waiting for theirs declines theirs', () => {
    expect(run([dial, offerReady, refused, { type: 'hang_up' }]).sent.at(-1)).toEqual({
      type: 'decline',
      call: 'theirs',
    });
  });
});

describe('a running call', () => {
  const interrupted: Input = { type: 'link', call: 'mine', link: 'interrupted' };
  const gone: Input = { type: 'event', event: { type: 'peer_reach', call: 'mine', reach: 'lost' } };

  it('waits long for media to come back while the other side is reachable', () => {
    const { state } = run([...active, interrupted]);
    expect(deadline(state)).toBe(5 + 30_000);
    expect(run([{ type: 'tick' }], state, 20_000).state.kind).toBe('active');
    const { state: over, sent } = run([{ type: 'tick' }], state, 30_005);
    expect(over).toMatchObject({ kind: 'ended', ending: { reason: 'peer_lost' } });
    expect(sent).toEqual([{ type: 'hang_up', call: 'mine', reason: 'peer_lost' }]);
  });

  it('ends soon when the other side is gone from the server too', () => {
    expect(deadline(run([...active, gone, interrupted]).state)).toBe(6 + 3_000);
  });

  it('goes on when only the server lost the other side', () => {
    expect(deadline(run([...active, gone]).state)).toBeNull();
  });

  it('recovers, and keeps counting its duration from the first connection', () => {
    const { state } = run([...active, interrupted, connected]);
    expect(state).toMatchObject({ link: 'connected', interruptedAt: null, connectedAt: 4 });
  });

  it('fails where media never connects', () => {
    const { state } = run([...calling, answered]);
    const { state: over } = run([{ type: 'tick' }], state, 20_003);
    expect(over).toMatchObject({ kind: 'ended', ending: { reason: 'failed' }, durationMs: 0 });
  });

  it('reports how long media flowed', () => {
    const { state } = run(active);
    expect(run([{ type: 'hang_up' }], state, 10_004).state).toMatchObject({ durationMs: 10_000 });
  });

  it('ignores what concerns other calls', () => {
    const { state } = run(active);
    const ended: Input = { type: 'event', event: { type: 'ended', call: 'other', reason: 'hung_up' } };
    expect(run([ended, { type: 'link', call: 'other', link: 'interrupted' }], state).state).toEqual(state);
  });
});

describe('a server that forgot', () => {
  const forgot: Input = { type: 'welcome', calls: [], resumed: false, media };

  it('is told of a running call again', () => {
    const { state } = run(active);
    const { state: after, sent } = run([forgot], state);
    expect(sent).toEqual([{ type: 'announce', call: 'mine', peer: 'bob', role: 'caller', media }]);
    expect(after).toEqual(state);
  });

  it('ends a call that rang', () => {
    for (const before of [calling, [incoming()]]) {
      const { state } = run(before);
      expect(run([forgot], state).state).toMatchObject({ kind: 'ended', ending: { reason: 'forgotten' } });
    }
  });

  it('gets an invitation that is still on its way again', () => {
    expect(run([dial, offerReady, forgot]).state).toMatchObject({ kind: 'outgoing', phase: 'inviting' });
  });

  it('has strays of this device hung up', () => {
    const calls = [{ call: 'old', peer: 'bob', role: 'caller', state: 'active', peer_media: media } as const];
    const { sent } = run([{ type: 'welcome', calls: [...calls], resumed: false, media }]);
    expect(sent).toEqual([{ type: 'hang_up', call: 'old', reason: 'hung_up' }]);
  });

  it('changes nothing where the session was resumed', () => {
    const { state } = run(calling);
    expect(run([{ ...forgot, resumed: true }], state)).toMatchObject({ state, effects: [] });
  });
});

it('hanging up is possible in every state, and leaves no connection open', () => {
  for (const inputs of [
    [],
    [dial],
    [dial, offerReady],
    calling,
    active,
    [incoming()],
    [incoming(), { type: 'answer' } as Input],
  ]) {
    const { state, effects } = run([...inputs, { type: 'hang_up' }, { type: 'dismiss' }]);
    expect(state).toEqual(idle);
    const opened = effects.flatMap((each) =>
      each.do === 'make_offer' || each.do === 'prepare_answer' ? [each.call] : [],
    );
    const closed = effects.flatMap((each) => (each.do === 'close' ? [each.call] : []));
    expect(new Set(closed)).toEqual(new Set(opened));
  }
});

it('ends where the server does not sign this device in again, and says why', () => {
  const ringing: CallState = {
    kind: 'incoming',
    call: 'c',
    peer: { user: 'bob', name: 'Bob' },
    peerMedia: { audio_muted: false, video: 'off' },
    phase: 'ringing',
  };
  const { state, effects } = step(ringing, { type: 'signed_out', message: 'The token has expired.' }, 0);
  expect(state).toMatchObject({ kind: 'ended', ending: { reason: 'signed_out', message: 'The token has expired.' } });
  expect(effects).toEqual([{ do: 'close', call: 'c' }]);
  expect(step(idle, { type: 'signed_out', message: 'x' }, 0).state).toEqual(idle);
});

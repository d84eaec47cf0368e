import { expect, it } from 'vitest';
import type { Ending } from './call/machine';
import { describe as describeProblem, type ProblemKind } from './media/problems';
import { clock, endingWords, happeningWords, roomEndingWords, spoken } from './words';

it('every ending has words that name the other side or say what happened', () => {
  const reasons = [
    'hung_up',
    'declined',
    'busy',
    'cancelled',
    'no_answer',
    'answered_elsewhere',
    'declined_elsewhere',
    'peer_lost',
    'failed',
  ] as const;
  const endings: Ending[] = [
    ...reasons.map((reason) => ({ reason, by: 'them' }) as const),
    { reason: 'forgotten', by: 'them' },
    { reason: 'broken', by: 'me', message: 'No codec.' },
    { reason: 'signed_out', by: 'them', message: 'Your token has expired.' },
    { reason: 'refused', by: 'them', error: { code: 'callee_offline', message: 'x' } },
    { reason: 'refused', by: 'them', error: { code: 'internal', message: 'The server failed.' } },
  ];
  const said = endings.map((ending) =>
    endingWords({ kind: 'ended', call: 'c', peer: { user: 'bob', name: 'Bob' }, ending, durationMs: 0 }),
  );
  expect(new Set(said.map((each) => each.headline)).size).toBe(said.length);
  expect(said.at(-2)?.headline).toBe('Bob is not online');
  expect(said.at(-1)?.hint).toBe('The server failed.');
});

it('every device problem says what to do', () => {
  const kinds: ProblemKind[] = ['missing', 'blocked', 'in_use', 'insecure', 'unsupported', 'failed'];
  const said = kinds.map((kind) => describeProblem({ device: 'camera', kind }));
  expect(new Set(said).size).toBe(kinds.length);
});

it('writes durations', () => {
  expect([7_000, 760_000, 3_723_000].map(clock)).toEqual(['0:07', '12:40', '1:02:03']);
  expect(spoken(760_000)).toBe('12 minutes 40 seconds');
  expect(spoken(61_000)).toBe('1 minute 1 second');
  expect(spoken(200)).toBe('less than a second');
});

it('says in words why a room is not open, and what to do about it', () => {
  const codes = ['room_locked', 'room_full', 'room_not_granted', 'grant_missing', 'media_unavailable'] as const;
  const said = codes.map((code) => {
    const ending = { reason: 'refused' as const, error: { code, message: 'the server says why' } };
    return roomEndingWords({ kind: 'out', room: 'standup', attempt: 1, ending });
  });
  expect(new Set(said.map((each) => each.headline)).size).toBe(codes.length);
  for (const { headline, hint } of said) {
    expect(headline).not.toContain('_');
    expect(hint).not.toBeNull();
  }
  const removed = roomEndingWords({ kind: 'out', room: 'standup', attempt: 1, ending: { reason: 'removed' } });
  expect(removed.headline).toBe('A moderator removed you from the room');
});

it('warns of what others did to one’s sound and picture, and only says who came and went', () => {
  expect(happeningWords({ what: 'muted', kind: 'screen' })).toEqual({
    text: 'A moderator stopped your screen',
    tone: 'warning',
  });
  expect(happeningWords({ what: 'left', name: 'bob', reason: 'removed' })).toEqual({
    text: 'bob was removed',
    tone: null,
  });
});

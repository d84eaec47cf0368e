// How long to wait before connecting again: exponential with full jitter, so that a server which comes back is not met
// by all of its clients at once.

const FIRST_MS = 250;
const LONGEST_MS = 10_000;
/** The longest wait while a call or a room runs: a server that comes back has its meetings back within three seconds. */
export const LONGEST_IN_MEETING_MS = 2_000;

/** The wait before attempt number `attempt` (0 for the first), in milliseconds; `random` is in [0, 1). */
export function backoff(attempt: number, random: number, longest = LONGEST_MS): number {
  const ceiling = Math.min(longest, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 4 + (random * (ceiling * 3)) / 4);
}

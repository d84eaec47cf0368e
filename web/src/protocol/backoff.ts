// How long to wait before connecting again: exponential with full jitter, so that a server which comes back is not met
// by all of its clients at once.

const FIRST_MS = 250;
const LONGEST_MS = 10_000;

/** The wait before attempt number `attempt` (0 for the first), in milliseconds; `random` is in [0, 1). */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 4 + (random * (ceiling * 3)) / 4);
}

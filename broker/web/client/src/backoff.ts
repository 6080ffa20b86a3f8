// When to come back after a lost connection. Pure.

/** Whether a connection closed with `code` ended for good: the contract's 40xx, and 1000. */
export function isFinal(code: number): boolean {
  return code === 1000 || (code >= 4000 && code < 4100);
}

/**
 * The wait before the attempt after `failures` (0, 1, …) failed ones: anything up to a limit that doubles ("full
 * jitter"), so that clients that lost the same server do not come back together. `random` is from 0 to 1.
 */
export function backoffMs(failures: number, limits: readonly [number, number], random: number): number {
  const [first, last] = limits;
  return random * Math.min(last, first * 2 ** failures);
}

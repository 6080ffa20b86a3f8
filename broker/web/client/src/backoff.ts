// When to come back after a lost connection. Pure.

/** Whether a connection closed with `code` ended for good: the contract's 40xx, and 1000. */
export function isFinal(code: number): boolean {
  return code === 1000 || (code >= 4000 && code < 4100);
}

/** Whether a connection refused with `code` may be taken with another token, or the same one later: its time is not now. */
export function isOutOfTime(code: number, reason: string): boolean {
  return code === 4001 && /^token (has expired|is not valid yet)/.test(reason);
}

/** Whether `code` says that the server stopped in order, so that it is expected back soon. */
export function isCleanStop(code: number): boolean {
  return code === 1001 || code === 1012;
}

/**
 * The wait before the attempt after `failures` (0, 1, …) failed ones: anything up to a limit that doubles ("full
 * jitter"), so that clients that lost the same server do not come back together. `random` is from 0 to 1. It is never
 * more than five times the first or a quarter of `downMs`, for which there has been no connection: nobody comes back
 * much later than the server does.
 */
export function backoffMs(failures: number, [first, last]: readonly [number, number], random: number, downMs: number): number {
  return random * Math.min(last, first * 2 ** failures, Math.max(first * 5, downMs / 4));
}

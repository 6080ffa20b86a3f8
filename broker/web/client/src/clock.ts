// How long ago something was. The wall clock (Date) can be set, so it tells no duration; what browsers give as a monotonic
// clock stands still in most of them while the machine sleeps.

/** Milliseconds since some moment, whatever the wall clock is set to. For waits: what is left of one is waited for after a sleep. */
export function monotonicMs(): number {
  return performance.now();
}

/** Less than this is no sleep: clocks are coarse, and the two are not read at the same moment. */
const SLEEP_MS = 1_000;

/**
 * Return a monotonic clock that counts sleep: by as much as the wall clock gets ahead. So one that is set forward looks
 * like sleep, which makes us careful and no more; one that is set back changes nothing.
 */
export function sleepingClock(): () => number {
  // In this order a pause between the two reads looks like no sleep.
  const lookAhead = () => Date.now() - monotonicMs();
  let ahead = lookAhead();
  let slept = 0;
  return () => {
    const grown = lookAhead() - ahead;
    if (Math.abs(grown) >= SLEEP_MS) {
      ahead += grown;
      slept += Math.max(0, grown);
    }
    return monotonicMs() + slept;
  };
}

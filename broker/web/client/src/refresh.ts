// Replaces the token of an open connection before it runs out, so that nobody is told that a user left and came.

import { GreenroomError } from "./types.js";

/** How long an answer may take; a refused refresh (`rate_limited`) is not answered by `refreshed`. */
const ANSWER_MS = 10_000;
/** A token that holds for less is not worth a refresh: whoever makes it has another clock. */
const SOONEST_MS = 1_000;
/** The longest that a timer can wait; more would be no wait at all. */
const TIMER_MS = 2 ** 31 - 1;

export interface RefreshEvents {
  /** Ask for a token: null if there is none any more. */
  token(): Promise<string | null>;
  send(text: string): void;
  /** There is no better token now; it is asked for again. */
  failed(error: unknown): void;
  ended(): void;
  backoffMs(failures: number): number;
}

/** The Unix seconds at which a token runs out (RFC 7519 section 4.1.4): Infinity without `exp`, NaN if it cannot be read. */
export function expiryOf(token: string): number {
  try {
    const payload = atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(payload).exp ?? Infinity;
  } catch {
    return NaN;
  }
}

export class Refresh {
  readonly #events: RefreshEvents;
  #expiresAt = 0;
  #failures = 0;
  /** Rises with each connection, so that a token that comes too late can be told. */
  #turn = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(events: RefreshEvents) {
    this.#events = events;
  }

  /** A connection was made with `token`: ask how long it holds by the server's clock, as ours may be wrong. */
  start(token: string): void {
    this.stop();
    this.#failures = this.#expiresAt = 0;
    this.#submit(token);
  }

  /** The server took a token. */
  answered({ expires_at, expires_in_ms: leftMs }: { expires_at: number; expires_in_ms?: number }): void {
    this.#failures = 0;
    this.#expiresAt = expires_at;
    clearTimeout(this.#timer);
    // Not all at once, and with time left for some attempts.
    if (leftMs !== undefined) this.#arm(Math.max(SOONEST_MS, leftMs * (0.75 + 0.1 * Math.random())));
  }

  stop(): void {
    this.#turn += 1;
    clearTimeout(this.#timer);
  }

  #submit(token: string): void {
    this.#events.send(JSON.stringify({ type: "refresh", token, id: 0 }));
    this.#arm(ANSWER_MS);
  }

  async #renew(): Promise<void> {
    const turn = this.#turn;
    try {
      const token = await this.#events.token();
      if (turn !== this.#turn) return;
      if (token === null) this.#events.ended();
      // One that is no better would end the connection once the server finds it expired.
      else if (expiryOf(token) > this.#expiresAt) this.#submit(token);
      else throw new GreenroomError("bad_token", "the new token does not hold longer than the present one");
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#arm(this.#events.backoffMs(this.#failures++));
      this.#events.failed(error);
    }
  }

  #arm(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#renew(), Math.min(ms, TIMER_MS));
  }
}

// Requests that wait for their answer, in the order they were made. No I/O: the client writes what `take` gives.

import { GreenroomError } from "./types.js";

/** The server knows an id again for five minutes by default; sent again later, it could be stored a second time. */
const KNOWN_AGAIN_MS = 240_000;
/** How many may be unanswered at once. Well below what a server refuses before it closes the connection (200). */
const MOST_IN_FLIGHT = 32;
const MOST_WAITING = 10_000;

/**
 * What becomes of a request whose connection was lost: a `send` is sent again while its id is still known, an `ask`
 * is sent again whenever, and a `once` fails.
 */
export type Kind = "send" | "ask" | "once";

export interface Request {
  readonly id: string;
  readonly room: string;
  readonly kind: Kind;
  readonly text: string;
  /** Whether it may be written now, or later, or is no longer wanted. */
  when(): "now" | "later" | "never";
  resolve(answer: any): void;
  reject(error: GreenroomError): void;
}

interface Entry extends Request {
  isInFlight: boolean;
  writtenAt: number;
  /** Since when nobody knows whether it was stored. */
  unknownSince: number | null;
}

export class Requests {
  readonly #entries = new Map<string, Entry>();
  #mayBeInFlight = MOST_IN_FLIGHT;
  #inFlight = 0;
  /** What was refused for now, and may not be written again yet. */
  readonly #pauses = new Set<object>();
  /** Errors that do not say of which request they are. Until it is known, nothing more is written. */
  #nameless: object[] = [];

  add(request: Request): void {
    if (request.kind !== "once" && this.#entries.size >= MOST_WAITING) {
      request.reject(new GreenroomError("too_many", `${MOST_WAITING} requests wait`));
    } else {
      this.#entries.set(request.id, { ...request, isInFlight: false, writtenAt: 0, unknownSince: null });
    }
  }

  /** Return what to write now, at `now` of a clock that counts sleep: the server forgets ids meanwhile. */
  take(now: number): string[] {
    const texts: string[] = [];
    if (this.#pauses.size || this.#nameless.length) return texts;
    for (const entry of this.#entries.values()) {
      if (this.#inFlight >= this.#mayBeInFlight) break;
      if (entry.isInFlight) continue;
      const when = entry.when();
      if (when === "later") continue;
      if (when === "never") {
        this.#remove(entry).reject(new GreenroomError("left", "not in the room any more"));
        continue;
      }
      if (entry.unknownSince !== null && now - entry.unknownSince > KNOWN_AGAIN_MS) {
        this.#remove(entry).reject(
          new GreenroomError("uncertain", "the connection was lost before the answer came; it may have been done"),
        );
        continue;
      }
      entry.isInFlight = true;
      entry.writtenAt = now;
      this.#inFlight += 1;
      texts.push(entry.text);
    }
    return texts;
  }

  /** The server has done it. */
  settle(id: unknown, answer: unknown): void {
    const entry = this.#entries.get(id as string);
    if (!entry) return;
    this.#remove(entry).resolve(answer);
  }

  /** The server has not done it, and will not. Returns false for an id that is not known. */
  fail(id: unknown, error: GreenroomError): boolean {
    const entry = this.#entries.get(id as string);
    if (entry) this.#remove(entry).reject(error);
    return entry !== undefined;
  }

  /** The server has refused one, and does not say which. Returns false if none is under way. */
  refuseOne(refusal: object): boolean {
    if (this.#inFlight) this.#nameless.push(refusal);
    return this.#inFlight > 0;
  }

  /**
   * Return what was refused by errors without an id, each error with its id, once that is known: every request is
   * answered once, so when as many are left as such errors have come, they are those. Else null.
   */
  takeRefused(): object[] | null {
    if (!this.#nameless.length || this.#inFlight > this.#nameless.length) return null;
    const refusals = this.#nameless;
    this.#nameless = [];
    const left = [...this.#entries.values()].filter((entry) => entry.isInFlight);
    return left.map(({ id }, index) => ({ ...refusals[index], id }));
  }

  /**
   * The server could not do it now. Everything waits until the pause that is returned is given to `resume`, and then
   * goes one by one until nothing waits, so that it keeps its order and a busy server is not pressed. What was under
   * way already may come before this one. Returns null for an id that is not known.
   */
  postpone(id: unknown): object | null {
    const entry = this.#entries.get(id as string);
    if (!entry) return null;
    this.#land(entry);
    this.#mayBeInFlight = 1;
    // Ended by whoever keeps the time, not by a look at a clock: timers can be early, and clocks set back.
    const pause = {};
    this.#pauses.add(pause);
    return pause;
  }

  /** End a pause; one of a connection that is lost is over already. */
  resume(pause: object): void {
    this.#pauses.delete(pause);
  }

  /** The connection is lost. */
  lose(): void {
    this.#mayBeInFlight = MOST_IN_FLIGHT;
    this.#pauses.clear();
    this.#nameless = [];
    for (const entry of [...this.#entries.values()]) {
      if (entry.kind === "once") {
        this.#remove(entry).reject(new GreenroomError("disconnected", "the connection was lost"));
      } else if (entry.isInFlight) {
        if (entry.kind === "send") entry.unknownSince ??= entry.writtenAt;
        this.#land(entry);
      }
    }
  }

  /** A message was too big for the server (1009): the largest in flight must have been it. */
  failLargest(): void {
    let largest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.isInFlight && entry.text.length > (largest?.text.length ?? 0)) largest = entry;
    }
    if (largest) this.#remove(largest).reject(new GreenroomError("too_big", "larger than the server takes"));
  }

  /** We are going out of a room: what is not under way is given up; the rest too if `isOver`. */
  giveUp(room: string | null, error: GreenroomError, isOver: boolean): void {
    for (const entry of [...this.#entries.values()]) {
      if ((room === null || entry.room === room) && (isOver || !entry.isInFlight)) {
        this.#remove(entry).reject(error);
      }
    }
  }

  #remove(entry: Entry): Entry {
    this.#entries.delete(entry.id);
    this.#land(entry);
    if (!this.#entries.size) this.#mayBeInFlight = MOST_IN_FLIGHT;
    return entry;
  }

  #land(entry: Entry): void {
    if (entry.isInFlight) this.#inFlight -= 1;
    entry.isInFlight = false;
  }
}

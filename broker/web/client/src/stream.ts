import { GreenroomError } from "./types.js";

/** Events of a room as `for await` takes them: a queue with a bound, that ends or fails once it is empty. */
export class EventStream<T> implements AsyncIterableIterator<T> {
  readonly #limit: number;
  readonly #onEnd: () => void;
  #queue: T[] = [];
  #waiting: Array<{ resolve(result: IteratorResult<T>): void; reject(error: unknown): void }> = [];
  #isEnded = false;
  #error: GreenroomError | undefined;

  constructor(limit: number, onEnd: () => void) {
    this.#limit = limit;
    this.#onEnd = onEnd;
  }

  push(event: T): void {
    if (this.#isEnded) return;
    const first = this.#waiting.shift();
    if (first) first.resolve({ value: event, done: false });
    else if (this.#queue.push(event) > this.#limit) {
      this.#queue.pop();
      this.end(new GreenroomError("too_slow", `more than ${this.#limit} events waited to be taken`));
    }
  }

  /** What is queued is still given out; then it is over, or the error is thrown, once. */
  end(error?: GreenroomError): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    this.#onEnd();
    // Whoever waits, waits on an empty queue.
    for (const waiting of this.#waiting.splice(0)) this.#finish(waiting);
  }

  next(): Promise<IteratorResult<T>> {
    return new Promise((resolve, reject) => {
      if (this.#queue.length) resolve({ value: this.#queue.shift()!, done: false });
      else if (this.#isEnded) this.#finish({ resolve, reject });
      else this.#waiting.push({ resolve, reject });
    });
  }

  async return(): Promise<IteratorResult<T>> {
    this.#queue = [];
    this.end();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish({ resolve, reject }: { resolve(result: IteratorResult<T>): void; reject(error: unknown): void }): void {
    const error = this.#error;
    this.#error = undefined;
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  }
}

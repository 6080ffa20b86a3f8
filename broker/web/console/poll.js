// Asks the node how it is, again and again, while somebody looks.

import { Refusal } from "./api.js";
import { countDown, pause } from "./sse.js";

const EVERY_MS = 1000;
const LONGEST_MS = 5000;

export class Poll {
  #api; #query; #onState; #onFailure; #onWait;
  #wake = new AbortController();

  /** `onWait` is told after a failure, each second, in how many the node is asked again. */
  constructor(api, { query, onState, onFailure, onWait }) {
    this.#api = api;
    this.#query = query;
    this.#onState = onState;
    this.#onFailure = onFailure;
    this.#onWait = onWait;
  }

  /** Ask at once. */
  hurry() {
    this.#wake.abort();
  }

  /** Until `signal` aborts. */
  async run(signal) {
    const hurry = () => this.hurry();
    signal.addEventListener("abort", hurry, { once: true });
    document.addEventListener("visibilitychange", hurry, { signal });
    let failures = 0;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      if (!document.hidden) {
        try {
          const query = this.#query();
          this.#onState(await this.#api.node(query, signal), query);
          failures = 0;
        } catch (error) {
          if (signal.aborted) return;
          failures += 1;
          this.#onFailure(error, error instanceof Refusal);
        }
      }
      const wait = Math.min(LONGEST_MS, EVERY_MS * (1 + failures));
      if (document.hidden) await pause(2 ** 30, this.#wake.signal);
      else if (failures) await countDown(wait, this.#wake.signal, this.#onWait);
      else await pause(wait, this.#wake.signal);
    }
  }
}

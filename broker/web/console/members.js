// Who is in the open room.

import { $, keep, make, setText } from "./dom.js";
import { plural } from "./format.js";
import { pause } from "./sse.js";

const MOST_SHOWN = 200;
const AT_MOST_EVERY_MS = 1000;

export class Members {
  #api; #room; #signal; #onRemove;
  #isDue = false;
  #isAsking = false;

  constructor(api, room, { signal, onRemove }) {
    this.#api = api;
    this.#room = room;
    this.#signal = signal;
    this.#onRemove = onRemove;
  }

  /** Ask who is in, soon: somebody came or went. A large room is asked less often, as its answer takes longer. */
  async refresh() {
    this.#isDue = true;
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (this.#isDue && !this.#signal.aborted) {
      this.#isDue = false;
      const began = performance.now();
      const details = await this.#api.room(this.#room, this.#signal).catch(() => null);
      if (this.#signal.aborted) break;
      if (details !== null) this.#show(details);
      await pause(Math.max(AT_MOST_EVERY_MS, 20 * (performance.now() - began)), this.#signal);
    }
    this.#isAsking = false;
  }

  #show({ users }) {
    setText($("members-title"), `Members (${users.length})`);
    keep($("members-list"), users.slice(0, MOST_SHOWN), {
      key: (user) => user.user_id,
      create: ({ user_id }) => {
        const remove = make("button", { type: "button", className: "risky small", textContent: "Remove", ariaLabel: `Remove ${user_id}` });
        remove.addEventListener("click", () => this.#onRemove(user_id));
        return make("li", {},
          make("span", { className: "who", textContent: user_id, title: user_id }),
          make("span", { className: "faint" }), remove);
      },
      update: (line, { connections }) => setText(line.children[1], connections > 1 ? `× ${connections}` : ""),
    });
    const hidden = users.length - MOST_SHOWN;
    setText($("members-more"), hidden > 0 ? `and ${plural(hidden, "more user")}` : users.length ? "" : "Nobody.");
  }
}

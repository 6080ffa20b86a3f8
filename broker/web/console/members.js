// Who is in the open room.

import { $, keep, make, setName, setText } from "./dom.js";
import { count, plural } from "./format.js";
import { pause } from "./sse.js";

const MOST_SHOWN = 500;
const MANY = 20;
const MOST_INFO = 24;
const AT_MOST_EVERY_MS = 1000;

export class Members {
  #api; #room; #signal; #onRemove; #onDetails;
  #isDue = false;
  #isAsking = false;
  #users = [];

  /** `onDetails` is told all that the answer to the question for the members says of the room. */
  constructor(api, room, { signal, onRemove, onDetails }) {
    this.#api = api;
    this.#room = room;
    this.#signal = signal;
    this.#onRemove = onRemove;
    this.#onDetails = onDetails;
    $("members-find").value = "";
    $("members-find").hidden = true;
    $("members-find").addEventListener("input", () => this.#show(), { signal });
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
      if (details !== null) {
        this.#users = details.users;
        this.#onDetails(details);
        this.#show();
      }
      await pause(Math.max(AT_MOST_EVERY_MS, 20 * (performance.now() - began)), this.#signal);
    }
    this.#isAsking = false;
  }

  #show() {
    const users = this.#users;
    const wanted = $("members-find").value;
    setText($("members-title"), `Members (${count(users.length)})`);
    $("members-find").hidden = users.length <= MANY && !wanted;
    const found = users.filter(({ user_id }) => user_id.includes(wanted));
    keep($("members-list"), found.slice(0, MOST_SHOWN), {
      key: (user) => user.user_id,
      create: ({ user_id }) => {
        const remove = make("button", { type: "button", className: "risky small", textContent: "Remove", ariaLabel: `Remove ${user_id}` });
        remove.addEventListener("click", () => this.#onRemove(user_id));
        return make("li", {}, make("span", { className: "who", title: user_id }), make("span", { className: "faint" }), remove);
      },
      update: (line, { user_id, connections, info }) => {
        setName(line.children[0], user_id);
        const shown = info === undefined ? "" : JSON.stringify(info);
        setText(line.children[1], `${connections > 1 ? `× ${connections} ` : ""}${shown.slice(0, MOST_INFO)}`.trim());
        line.children[1].title = shown;
      },
    });
    const hidden = found.length - MOST_SHOWN;
    const none = users.length ? "No member's id contains that." : "Nobody.";
    setText($("members-more"), hidden > 0 ? `and ${plural(hidden, "more user")}: narrow them by id` : found.length ? "" : none);
  }
}

// A user in a room, by the same client that browsers get from /greenroom.js.

import { countDown } from "./sse.js";

function subjectOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).sub;
  } catch {
    return null;
  }
}

export class Visitor {
  #name; #token; #onTold; #onWait; #onEnd;
  #waiting = new AbortController();
  #client = null;
  #room = null;
  user = null;

  /**
   * `token` is one, or makes one. `onWait` is told in how many seconds a lost connection is made again, null when that is
   * over; `onEnd` is called when the server has put us out for good.
   */
  constructor(name, token, { onTold, onWait, onEnd }) {
    this.#name = name;
    this.#token = token;
    this.#onTold = onTold;
    this.#onWait = onWait;
    this.#onEnd = onEnd;
  }

  async #getToken() {
    const token = typeof this.#token === "string" ? this.#token : await this.#token();
    this.user = subjectOf(token);
    return token;
  }

  /** Come in; returns whether we are in. */
  async join() {
    try {
      // A name that the server does not take is told at once, and not tried again and again.
      let first = await this.#getToken();
      const { connect } = await import("/greenroom.js");
      const next = () => {
        const taken = first ?? this.#getToken();
        first = null;
        return taken;
      };
      // One that was pasted is asked for no second time: if it can be no token, that is the end of it.
      this.#client = connect("/", { token: typeof this.#token === "string" ? first : next });
      this.#client.on("state", (event) => this.#changed(event));
      this.#client.on("error", (error) => this.#onTold(String(error?.message ?? error), "bad"));
      this.#room = await this.#client.join(this.#name);
      this.#room.on("left", ({ error }) => error && this.#ended(`Out of the room: ${error.message}`));
      return true;
    } catch (error) {
      this.#ended(`Not in the room: ${error.message}`);
      return false;
    }
  }

  #changed({ state, retryInMs, error }) {
    this.#stopWait();
    if (state === "waiting") {
      this.#onTold("Connection lost.", "bad");
      void countDown(retryInMs ?? 0, this.#waiting.signal, this.#onWait);
    }
    if (state === "open" && this.#room !== null) this.#onTold("Back in the room.");
    if (state === "closed" && error) this.#ended(`Out of the room: ${error.message}`);
  }

  #stopWait() {
    this.#waiting.abort();
    this.#waiting = new AbortController();
    this.#onWait(null);
  }

  #ended(text) {
    this.leave();
    this.#onTold(text, "bad");
    this.#onEnd();
  }

  /** Say something; returns whether it is stored. */
  async chat(text) {
    try {
      const { offset } = await this.#room.chat(text);
      this.#onTold(`Stored as #${offset}.`);
      return true;
    } catch (error) {
      this.#onTold(`Not said: ${error.message}`, "bad");
      return false;
    }
  }

  leave() {
    this.#stopWait();
    const client = this.#client;
    this.#client = this.#room = null;
    client?.close();
  }
}

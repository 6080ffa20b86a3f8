// One room, looked at: what is said in it, who is in it, and ways to speak in it.

import { Refusal } from "./api.js";
import { CodeView } from "./code.js";
import { Composer } from "./composer.js";
import { askToRemove } from "./confirm.js";
import { $, setText, tell } from "./dom.js";
import { plural } from "./format.js";
import { MessageLog } from "./log.js";
import { Members } from "./members.js";
import { follow } from "./sse.js";

const HISTORY = 50;

export class RoomView {
  #api;
  #room = null;
  #end = new AbortController();
  #code; #composer; #log;
  #isPaused = false;

  constructor(api, signal) {
    this.#api = api;
    this.#code = new CodeView(api);
    this.#composer = new Composer(api, signal);
    this.#log = new MessageLog($("room-log"), (user) => user === this.#composer.user);
    signal.addEventListener("abort", () => this.show(null), { once: true });
    $("room-pause").addEventListener("click", () => this.#pause(!this.#isPaused), { signal });
  }

  get room() {
    return this.#room;
  }

  /** What the node says of the whole; the composer needs to know whether tokens can be made. */
  showState(state) {
    this.#composer.makesTokens = state.makes_tokens;
    if (this.#isPaused) this.#pause(true);
    this.#code.refresh();
  }

  /** Open a room, or none. */
  show(room) {
    if (room === this.#room) return;
    this.#end.abort();
    this.#end = new AbortController();
    this.#room = room;
    const isOpen = room !== null;
    $("room-inside").hidden = !isOpen;
    $("room-none").hidden = $("room-open").hidden = isOpen;
    document.title = isOpen ? `${room} · Greenroom` : "Greenroom";
    this.#log.clear();
    this.#code.close();
    this.#composer.open(room);
    $("members-list").replaceChildren();
    this.#pause(false);
    setText($("room-count"), "");
    if (!isOpen) return;
    setText($("room-title"), room);
    $("room").ariaLabel = `Room ${room}`;
    $("room-title").focus();
    this.#watch(room, this.#end.signal);
  }

  async #watch(room, signal) {
    const state = $("room-state");
    const onState = (kind, text) => tell(state, text, kind);
    const onDetails = (details) => (details.has_code ? this.#code.open(room, signal) : this.#code.close());
    const members = new Members(this.#api, room, { signal, onRemove: (user) => this.#remove(user, room), onDetails });
    try {
      while (!signal.aborted) {
        const lastId = await this.#showHistory(room, signal);
        let wasIn = false;
        const onNotice = (notice) => {
          // In, but not where we were: what the room holds now is asked for as at the beginning. The first time,
          // that is so if the server was another one when the history was read.
          const isElsewhere = wasIn || (lastId !== null && !lastId.startsWith(`${notice.epoch}:`));
          if (notice.type === "joined" && isElsewhere && !notice.recovered) {
            this.#log.add({ type: "console_note", text: "the server no longer knows what was said in between" });
            return false;
          }
          wasIn = true;
          this.#hear(notice, members, onState);
          return true;
        };
        await follow(this.#api, room, lastId, { onNotice, onState, signal });
      }
    } catch (error) {
      if (!signal.aborted) onState("bad", error instanceof Refusal ? error.message : "cannot be read just now");
    }
  }

  /** Show what was said last; returns the event id to go on from, null if it could not be had. */
  async #showHistory(room, signal) {
    const history = await this.#api.history(room, HISTORY, signal).catch(() => null);
    if (history === null) return null;
    history.messages.reverse().forEach((message) => this.#log.add(message));
    return `${history.epoch}:${history.offset}`;
  }

  #hear(notice, members, onState) {
    if (notice.room_size !== undefined) setText($("room-count"), plural(notice.room_size, "connection"));
    switch (notice.type) {
      case "joined":
        onState("good", "");
        members.refresh();
        return;
      case "reconnect": return;
      case "user_joined": case "user_left": case "presence_changed": case "presence_update":
        members.refresh();
    }
    this.#log.add(notice);
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    this.#log.isPaused = isPaused;
    const button = $("room-pause");
    button.ariaPressed = String(isPaused);
    setText(button, isPaused && this.#log.waiting ? `Paused (${this.#log.waiting})` : isPaused ? "Paused" : "Pause");
  }

  async #remove(user, room) {
    const done = await askToRemove(this.#api, { user, room });
    if (done !== null) tell($("composer-told"), done);
  }
}

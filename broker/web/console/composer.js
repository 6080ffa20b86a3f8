// Speak in the open room: publish as a service does, or come in as a user and chat.

import { $, setText, tell } from "./dom.js";
import { plural } from "./format.js";
import { Visitor } from "./visitor.js";

export class Composer {
  #api;
  #room = null;
  #visitor = null;
  makesTokens = false;

  constructor(api, signal) {
    this.#api = api;
    const from = (id, kind, act) => $(id).addEventListener(kind, act, { signal });
    const submit = (id, act) => from(id, "submit", (event) => {
      event.preventDefault();
      act();
    });
    from("tab-publish", "click", () => this.#choose("publish"));
    from("tab-try", "click", () => this.#choose("try"));
    for (const id of ["tab-publish", "tab-try"]) from(id, "keydown", (event) => this.#step(event));
    submit("publish", () => this.#publish());
    submit("try-join", () => this.#join());
    submit("try-say", () => this.#say());
    from("try-leave", "click", () => this.#leave());
  }

  /** Whom this console speaks as in the room; null for nobody. */
  get user() {
    return this.#visitor?.user ?? null;
  }

  open(room) {
    this.#leave();
    this.#room = room;
    tell($("composer-told"), "");
  }

  #choose(name) {
    for (const one of ["publish", "try"]) {
      $(`panel-${one}`).hidden = one !== name;
      $(`tab-${one}`).ariaSelected = String(one === name);
      $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
    }
    this.#labelTry();
  }

  /** Arrow keys go from tab to tab, as the ARIA practices have it for tabs. */
  #step(event) {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = event.target.id === "tab-try" ? "publish" : "try";
    this.#choose(other);
    $(`tab-${other}`).focus();
  }

  #labelTry() {
    const who = $("try-who");
    setText($("try-who-label"), this.makesTokens ? "User id" : "Client token");
    if (this.makesTokens && !who.value) who.value = "ann";
    who.type = this.makesTokens ? "text" : "password";
  }

  async #publish() {
    const told = $("composer-told");
    let fields;
    try {
      fields = JSON.parse($("publish-fields").value || "{}");
    } catch {
      fields = null;
    }
    if (fields === null || typeof fields !== "object" || Array.isArray(fields)) {
      tell(told, 'The fields are no JSON object, such as {"text": "hello"}', "bad");
      return;
    }
    try {
      const message = { ...fields, type: $("publish-type").value };
      const { offset, members } = await this.#api.publish(this.#room, message, $("publish-ephemeral").checked);
      const where = offset === null ? "Sent, not stored" : `Stored as #${offset}`;
      tell(told, `${where}, for ${plural(members, "connection")}.`);
    } catch (error) {
      tell(told, `Not published: ${error.message}`, "bad");
    }
  }

  async #join() {
    const told = $("composer-told");
    const who = $("try-who").value.trim();
    const api = this.#api;
    const token = this.makesTokens ? async () => (await api.makeToken({ user_id: who })).token : who;
    const visitor = new Visitor(this.#room, token, {
      onTold: (text, kind) => tell(told, text, kind),
      onWait: (left) => setText($("composer-wait"), left === null ? "" : `Again in ${left} s.`),
      onEnd: () => this.#left(visitor),
    });
    this.#visitor = visitor;
    tell(told, "Joining …");
    if (!(await visitor.join()) || this.#visitor !== visitor) return;
    $("try-join").hidden = true;
    $("try-say").hidden = false;
    setText($("try-as"), `In the room as ${visitor.user}`);
    tell(told, "In the room, over a WebSocket as any client.");
    $("try-text").focus();
  }

  async #say() {
    const input = $("try-text");
    if (input.readOnly) return;
    // It stays to be seen until it is stored, which may take until the server is back.
    input.readOnly = true;
    const isSaid = await this.#visitor?.chat(input.value);
    input.readOnly = false;
    if (isSaid) input.value = "";
  }

  #leave() {
    this.#visitor?.leave();
    this.#left(this.#visitor);
  }

  #left(visitor) {
    if (visitor !== this.#visitor) return;
    this.#visitor = null;
    $("try-join").hidden = false;
    $("try-say").hidden = true;
  }
}

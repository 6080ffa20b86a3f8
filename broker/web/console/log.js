// What is said in a room, as it passes. All of it is put in as text.

import { make } from "./dom.js";
import { clock, count } from "./format.js";

const MOST_LINES = 300;
const MOST_WAITING = 600;
const MOST_CHARACTERS = 500;
/** More at once than this are too many to be read out. */
const READ_OUT = 5;

export class MessageLog {
  #list; #isOwn;
  #waiting = [];
  #skipped = 0;
  #isPaused = false;
  #isAsked = false;

  /** `isOwn` tells whether a message is of the user that this console speaks as. */
  constructor(list, isOwn) {
    this.#list = list;
    this.#isOwn = isOwn;
  }

  clear() {
    this.#waiting = [];
    this.#skipped = 0;
    this.#isPaused = false;
    this.#list.replaceChildren();
  }

  set isPaused(isPaused) {
    this.#isPaused = isPaused;
    this.#ask();
  }

  get waiting() {
    return this.#skipped + this.#waiting.length;
  }

  add(notice) {
    this.#waiting.push(notice);
    // A room may say more than anybody can read, and a hidden tab draws nothing.
    if (this.#waiting.length > MOST_WAITING) {
      this.#skipped += this.#waiting.splice(0, this.#waiting.length - MOST_LINES).length;
    }
    this.#ask();
  }

  #ask() {
    if (this.#isAsked || this.#isPaused) return;
    this.#isAsked = true;
    requestAnimationFrame(() => {
      this.#isAsked = false;
      if (!this.#isPaused) this.#draw();
    });
  }

  #draw() {
    const list = this.#list;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const lines = this.#waiting.slice(-MOST_LINES).map((notice) => this.#line(notice));
    const skipped = this.#skipped + this.#waiting.length - lines.length;
    this.#waiting = [];
    this.#skipped = 0;
    if (skipped) lines.unshift(note("gap", `${count(skipped)} messages passed too quickly to be shown`));
    list.ariaLive = lines.length > READ_OUT ? "off" : "polite";
    list.append(...lines);
    while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  #line(notice) {
    switch (notice.type) {
      case "user_joined": return note("note", `${notice.user_id} came in`);
      case "user_left": return note("note", `${notice.user_id} left`);
      case "presence_changed": return note("note", `${count(notice.joined.length)} came in, ${count(notice.left.length)} left`);
      case "presence_update": return note("note", cut(`${notice.user_id} shows ${shown(notice)}`));
      case "gap": return note("gap", `messages ${notice.from} to ${notice.to} are no longer held`);
      case "console_note": return note("gap", notice.text);
      case "withheld": return note("note", `${notice.from === notice.offset ? "a message" : "messages"} not for this user`);
      default: return this.#message(notice);
    }
  }

  #message({ type, event, data, text, truncated, user_id, tags, room, offset, epoch, time, ...rest }) {
    const said = make("span", { className: "said" });
    const isOfClient = type === "chat" || type === "event";
    if (tags !== undefined && !isOfClient) rest.tags = tags;
    if (user_id !== undefined) said.append(make("b", { textContent: String(user_id) }));
    if (type === "chat") {
      said.append(...cut(String(text)), truncated ? make("span", { className: "cut", textContent: " (cut)" }) : "");
    } else {
      const name = type === "event" ? event : type;
      const fields = type === "event" ? data : { ...(text === undefined ? {} : { text }), ...rest };
      said.append(make("span", { className: "type code", textContent: name }), make("span", { className: "code" }, ...cut(JSON.stringify(fields))));
    }
    if (tags !== undefined && isOfClient) said.append(make("span", { className: "cut", textContent: ` ${tagsOf(tags)}` }));
    const when = make("time", { textContent: clock(time), dateTime: new Date(time).toISOString() });
    const where = make("span", { className: "offset", textContent: offset === undefined ? "not stored" : `#${offset}` });
    return make("li", { className: type === "chat" && this.#isOwn(user_id) ? "mine" : "" }, when, said, where);
  }
}

function note(className, text) {
  const said = make("span", { className: "said" }, ...[text].flat());
  return make("li", { className }, make("span"), said, make("span"));
}

function tagsOf(tags) {
  return Object.entries(tags).map(([name, value]) => `${name}=${value}`).join(" ");
}

function shown({ info, state }) {
  const parts = [info, state].filter((part) => part !== undefined);
  return parts.length ? parts.map((part) => JSON.stringify(part)).join(" and ") : "nothing";
}

function cut(text) {
  if (text.length <= MOST_CHARACTERS) return [text];
  const left = `… and ${count(text.length - MOST_CHARACTERS)} more characters`;
  return [text.slice(0, MOST_CHARACTERS), make("span", { className: "cut", textContent: left })];
}

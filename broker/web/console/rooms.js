// The list of rooms: the busiest or the largest as the node's state tells them, or all by name, page by page.

import { $, keep, make, setName, setText } from "./dom.js";
import { count, plural, rate } from "./format.js";
import { ALL } from "./nodes.js";

const PAGE = 50;
const BY_NAME_EVERY_MS = 2000;

export const roomHash = (room) => `#room=${encodeURIComponent(room)}`;

export class RoomList {
  #api; #onChoice;
  #chosen = null;
  #cursor = "";        // of the page that is shown by name
  #next = null;
  #asked = 0;
  #offsets = new Map(); // by name: [offset, time], to tell a rate from

  /** `onChoice` is called when something else is to be listed: the state is asked for anew then. */
  constructor(api, onChoice) {
    this.#api = api;
    this.#onChoice = onChoice;
  }

  start(signal) {
    const from = (element, kind, act) => element.addEventListener(kind, act, { signal });
    const restart = () => this.#turnTo("");
    from($("rooms-prefix"), "input", restart);
    from($("rooms-order"), "change", restart);
    from($("rooms-choice"), "submit", (event) => event.preventDefault());
    from($("rooms-first"), "click", restart);
    from($("rooms-next"), "click", () => this.#next !== null && this.#turnTo(this.#next));
  }

  get #isByName() {
    return $("rooms-order").value === "name";
  }

  /** What to ask the node for. */
  get query() {
    if (this.#isByName) return { rooms: 0 };
    return { rooms: PAGE, order: $("rooms-order").value, prefix: $("rooms-prefix").value };
  }

  /** Mark the room that is open. */
  choose(room) {
    this.#chosen = room;
    for (const row of $("rooms-body").children) this.#mark(row);
  }

  /** Give a room's row the focus, if it is listed. */
  focus(room) {
    [...$("rooms-body").children].find((row) => row.dataset.key === room)?.querySelector("a").focus();
  }

  show(state) {
    const { count: all, members, found, top } = state.rooms;
    // A room is in memory on every node that somebody in it is connected to.
    const where = state.name === ALL ? ` over ${plural(state.nodes.length, "node")}` : "";
    setText($("rooms-count"), `${count(all)} in memory${where} · ${plural(members, "member")}`);
    $("rooms-pages").hidden = !this.#isByName;
    if (this.#isByName) {
      if (performance.now() - this.#asked > BY_NAME_EVERY_MS) this.#showPage();
      return;
    }
    this.#list(top);
    const hidden = found - top.length;
    this.#none(found === 0, hidden > 0 ? `and ${plural(hidden, "more room")}: narrow them by name, or list them by name` : "");
  }

  #turnTo(cursor) {
    this.#cursor = cursor;
    this.#next = null;
    this.#offsets.clear();
    this.#asked = 0;
    this.#onChoice();
  }

  async #showPage() {
    this.#asked = performance.now();
    const cursor = this.#cursor;
    const page = await this.#api.listRooms({ prefix: $("rooms-prefix").value, limit: PAGE, cursor }).catch(() => null);
    if (page === null || cursor !== this.#cursor || !this.#isByName) return;
    this.#next = page.cursor;
    // Not `disabled`, which would take the focus from whoever pages by keyboard.
    $("rooms-next").ariaDisabled = String(page.cursor === null);
    $("rooms-first").ariaDisabled = String(cursor === "");
    this.#list(page.rooms.map((room) => ({ ...room, messages_per_second: this.#rateOf(room) })));
    this.#none(page.rooms.length === 0, "");
  }

  #rateOf({ room, offset }) {
    const now = performance.now();
    const before = this.#offsets.get(room);
    this.#offsets.set(room, [offset, now]);
    return before === undefined ? null : (1000 * Math.max(0, offset - before[0])) / (now - before[1]);
  }

  #list(rooms) {
    const most = Math.max(1, ...rooms.map((room) => room.messages_per_second ?? 0));
    keep($("rooms-body"), rooms, {
      key: (room) => room.room,
      create: ({ room }) => make("tr", {},
        make("td", {}, make("a", { href: roomHash(room), title: room, ariaLabel: room })),
        make("td", { className: "number" }),
        make("td", { className: "number" }, make("span", { className: "rate" }))),
      update: (row, room) => {
        setName(row.cells[0].firstElementChild, room.room);
        setText(row.cells[1], count(room.room_size));
        const cell = row.cells[2].firstElementChild;
        setText(cell, rate(room.messages_per_second));
        cell.style.setProperty("--share", `${(100 * (room.messages_per_second ?? 0)) / most}%`);
        this.#mark(row);
      },
    });
  }

  #mark(row) {
    row.querySelector("a").ariaCurrent = row.dataset.key === this.#chosen ? "true" : null;
  }

  #none(isEmpty, more) {
    const isNarrowed = $("rooms-prefix").value !== "";
    $("rooms-begin").hidden = !isEmpty || isNarrowed;
    $("rooms-body").parentElement.hidden = isEmpty;
    $("rooms-none").hidden = isEmpty ? !isNarrowed : !more;
    setText($("rooms-none"), isEmpty ? "No room in memory has a name that begins so." : more);
  }
}

// The queues of webhooks, and the entries in them that were put aside.

import { askToRepeat } from "./confirm.js";
import { $, keep, make, setName, setText, tell } from "./dom.js";
import { count, duration, moment, plural } from "./format.js";

const EVERY_MS = 5000;
const MOST_SHOWN = 100;

export class WebhookList {
  #api; #signal; #now;
  #askedAt = -Infinity;
  #isAsking = false;
  #webhooks = [];
  #opened = null;   // the webhook whose entries are listed
  #shownAside = 0;   // how many entries it had aside when they were read

  /** `now` gives the time by the server's clock, in Unix milliseconds. */
  constructor(api, { now, signal }) {
    this.#api = api;
    this.#now = now;
    this.#signal = signal;
    $("webhooks").hidden = true;
    $("webhooks-body").replaceChildren();
    tell($("webhooks-told"), "");
    this.#close();
    $("aside-close").addEventListener("click", () => this.#close(), { signal });
    $("aside-repeat").addEventListener("click", () => this.#repeat(null), { signal });
  }

  /** Ask for the queues, if that was not done in the last seconds. */
  async refresh() {
    if (this.#isAsking || performance.now() - this.#askedAt < EVERY_MS) return;
    this.#isAsking = true;
    this.#askedAt = performance.now();
    try {
      const { webhooks } = await this.#api.webhooks(this.#signal);
      if (!this.#signal.aborted) await this.#show(webhooks);
    } catch (error) {
      // The queues stay as they were. A key that is no longer accepted is for the poll of the node.
      if (!this.#signal.aborted) this.#tellState(error.message, true);
    }
    this.#isAsking = false;
  }

  async #show(webhooks) {
    this.#webhooks = webhooks;
    $("webhooks").hidden = !webhooks.length;
    const aside = webhooks.reduce((sum, webhook) => sum + webhook.aside, 0);
    this.#tellState(aside ? `${plural(aside, "entry", "entries")} put aside` : "", aside > 0);
    keep($("webhooks-body"), webhooks, {
      key: (webhook) => webhook.name,
      create: (webhook) => this.#create(webhook),
      update: (row, webhook) => this.#update(row, webhook),
    });
    const opened = this.#opened && webhooks.find(({ name }) => name === this.#opened);
    if (this.#opened && !opened?.aside) this.#close();
    else if (opened && opened.aside !== this.#shownAside) await this.#list();
  }

  #tellState(text, isBad) {
    setText($("webhooks-count"), text);
    $("webhooks-count").classList.toggle("bad", isBad);
  }

  #create({ name }) {
    const open = make("button", { type: "button", className: "quiet small", textContent: "List", ariaLabel: `List the entries of ${name} that were put aside` });
    open.addEventListener("click", () => (this.#opened === name ? this.#close() : this.#open(name)));
    const number = () => make("td", { className: "number" });
    return make("tr", {}, make("td", { title: name }), number(), number(), number(), number(), make("td", { className: "number" }, open));
  }

  #update(row, webhook) {
    const [name, waiting, oldest, aside, dropped, action] = row.cells;
    setName(name, webhook.name);
    setText(waiting, count(webhook.waiting));
    setText(oldest, webhook.oldest_time === null ? "–" : duration(this.#now() - webhook.oldest_time));
    setText(aside, count(webhook.aside));
    aside.classList.toggle("bad", webhook.aside > 0);
    setText(dropped, count(webhook.dropped));
    dropped.classList.toggle("bad", webhook.dropped > 0);
    action.firstElementChild.hidden = webhook.aside === 0;
    action.firstElementChild.ariaExpanded = String(webhook.name === this.#opened);
  }

  #mark() {
    for (const row of $("webhooks-body").children) row.querySelector("button").ariaExpanded = String(row.dataset.key === this.#opened);
  }

  async #open(name) {
    this.#opened = name;
    $("aside-body").replaceChildren();
    this.#mark();
    await this.#list();
  }

  #close() {
    this.#opened = null;
    $("aside").hidden = true;
    $("aside-body").replaceChildren();
    this.#mark();
  }

  /** Read the entries of the opened webhook, the oldest of them. */
  async #list() {
    const name = this.#opened;
    const { aside } = this.#webhooks.find((webhook) => webhook.name === name);
    try {
      const { entries } = await this.#api.asideEntries(name, MOST_SHOWN, this.#signal);
      if (name !== this.#opened || this.#signal.aborted) return;
      this.#shownAside = aside;
      this.#showEntries(name, entries, aside - entries.length);
    } catch (error) {
      if (!this.#signal.aborted) tell($("webhooks-told"), `The entries of ${name} cannot be listed: ${error.message}`, "bad");
    }
  }

  #showEntries(name, entries, hidden) {
    setText($("aside-title"), `Put aside: ${name}`);
    keep($("aside-body"), entries, {
      key: ({ entry }) => entry.id,
      create: (item) => this.#createEntry(item),
      update: () => {},
    });
    setText($("aside-more"), hidden > 0 ? `and ${count(hidden)} more, which greenroom webhooks aside ${name} lists` : "");
    $("aside").hidden = false;
  }

  #createEntry({ entry, put_aside_time, reason }) {
    const repeat = make("button", { type: "button", className: "quiet small", textContent: "Repeat", ariaLabel: `Repeat the entry ${entry.id}` });
    repeat.addEventListener("click", () => this.#repeat(entry.id));
    const where = [entry.room, entry.user].filter((name) => name !== null).join(" · ");
    const when = make("time", { dateTime: new Date(put_aside_time).toISOString(), textContent: moment(put_aside_time) });
    return make("tr", { title: JSON.stringify(entry) }, make("td", {}, when), make("td", { textContent: entry.type }), make("td", { textContent: where }),
      make("td", { textContent: reason }), make("td", { className: "number" }, repeat));
  }

  /** Deliver an entry again, or all for null, once that is confirmed. */
  async #repeat(id) {
    const webhook = this.#opened;
    const told = await askToRepeat(this.#api, { webhook, id });
    if (told === null || this.#signal.aborted) return;
    tell($("webhooks-told"), told.text, told.kind);
    this.#askedAt = -Infinity;
    await this.refresh();
    // The entry that had the focus is gone.
    if (document.activeElement === document.body) $("webhooks-title").focus();
  }
}

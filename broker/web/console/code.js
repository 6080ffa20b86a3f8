// The code of the open room, if it has any: its class, state, timers, turns and last failure. Only shown, never changed.

import { $, keep, make, setText } from "./dom.js";
import { bytes, count, delay, duration, moment } from "./format.js";

const AT_MOST_EVERY_MS = 900;
const MOST_SHOWN = 20_000;   // characters of a state
const OUTCOMES = ["done", "refused", "failed", "unavailable"];

const time = (ms) => delay(ms).join(" ");

/** Parse JSON so that it can be written again as it was: numbers beyond 2^53 too, where the browser can. */
const exact = (key, value, context) =>
  typeof value === "number" && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;

export class CodeView {
  #api;
  #room = null;
  #signal = null;
  #askedAgainAt = 0;
  #isAsking = false;

  constructor(api) {
    this.#api = api;
    this.close();
  }

  close() {
    this.#room = null;
    $("code").hidden = true;
    $("code-timers").replaceChildren();
    $("code-turns").replaceChildren();
  }

  /** Show the code of a room, which has some, until `signal` aborts. */
  open(room, signal) {
    if (room === this.#room) return;
    this.#room = room;
    this.#signal = signal;
    this.#askedAgainAt = 0;
    this.#isAsking = false;
    this.refresh();
  }

  /** Ask for the state, if that was not done just now. A large one is asked for less often, as its answer takes longer. */
  async refresh() {
    const [room, signal, began] = [this.#room, this.#signal, performance.now()];
    if (room === null || this.#isAsking || began < this.#askedAgainAt) return;
    this.#isAsking = true;
    const answer = await this.#ask(room, signal);
    if (signal.aborted || room !== this.#room) return;
    this.#isAsking = false;
    const took = performance.now() - began;
    this.#askedAgainAt = began + Math.max(AT_MOST_EVERY_MS, 20 * took);
    if (answer instanceof Error) this.#tell(answer.message, true);
    else this.#show(JSON.parse(answer), JSON.parse(answer, exact).state.value);
  }

  async #ask(room, signal) {
    try {
      return await this.#api.code(room, signal);
    } catch (error) {
      return error;
    }
  }

  #tell(text, isBad) {
    $("code").hidden = false;
    setText($("code-title"), `Code of ${this.#room}`);
    setText($("code-told"), text);
    $("code-told").classList.toggle("bad", isBad);
    $("code-parts").hidden = isBad;
  }

  #show(code, value) {
    const elsewhere = code.owner === null ? "not running" : `owned by node ${code.owner}`;
    const where = code.node === null ? elsewhere : `runs on ${code.node}`;
    this.#tell(`${code.class_name} · state version ${code.state_version} · ${where}`, false);
    const { state } = code;
    const by = state.stored_by === null ? "not stored yet" : `version ${state.version} of ${state.stored_by}`;
    setText($("code-state-told"), `${bytes(state.bytes)}, ${by}`);
    const text = JSON.stringify(value, null, 2);
    setText($("code-state"), text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}\n…` : text);
    const failure = code.last_failure;
    $("code-failure").hidden = failure === null;
    $("code-failure-none").hidden = failure !== null;
    if (failure) setText($("code-failure"), `${moment(failure.time)}, in a turn of ${failure.kind}: ${failure.error}: ${failure.text}`);
    this.#showTimers(code.timers);
    this.#showTurns(code.turns);
  }

  #showTimers(timers) {
    $("code-timers-none").hidden = timers.length > 0;
    keep($("code-timers"), timers, {
      key: (timer) => timer.name,
      create: ({ name }) => make("li", {}, make("span", { textContent: name }), " ", make("span", { className: "faint" })),
      update(line, timer) {
        const left = timer.due_in_ms < 0 ? `overdue for ${duration(-timer.due_in_ms)}` : `in ${duration(timer.due_in_ms)}`;
        setText(line.lastElementChild, left);
        line.lastElementChild.classList.toggle("bad", timer.due_in_ms < 0);
        line.title = moment(timer.due_time);
      },
    });
  }

  #showTurns(turns) {
    $("code-turns-table").hidden = !turns.length;
    $("code-turns-none").hidden = turns.length > 0;
    keep($("code-turns"), turns, {
      key: (turn) => turn.kind,
      create: ({ kind }) => make("tr", {}, make("td", { textContent: kind }),
        ...[...OUTCOMES, "mean", "longest"].map(() => make("td", { className: "number" }))),
      update(row, turn) {
        const cells = [...row.cells].slice(1);
        OUTCOMES.forEach((outcome, at) => setText(cells[at], count(turn[outcome])));
        cells[2].classList.toggle("bad", turn.failed > 0);
        const number = OUTCOMES.reduce((sum, outcome) => sum + turn[outcome], 0);
        setText(cells[4], time(turn.total_ms / number));
        setText(cells[5], time(turn.longest_ms));
      },
    });
  }
}

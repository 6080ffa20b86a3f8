// The nodes that share the engine: a line for each, and the choice of the one that the page shows.

import { $, keep, make, setText } from "./dom.js";
import { compact, count, delay, duration, plural } from "./format.js";

/** What the API calls all nodes together. */
export const ALL = "all";

function stateOf(node) {
  if (node.is_draining) return ["wait", "draining"];
  return node.is_ready ? ["good", "ready"] : ["bad", "not ready"];
}

export class NodeList {
  #onChoice;
  #chosen = null;   // null: not chosen by anybody, so all where there are several
  #isOne = true;

  /** `onChoice` is called when another node is to be shown. */
  constructor(onChoice) {
    this.#onChoice = onChoice;
  }

  /** Whom to ask for: "" is the node that answers, where there is one only. */
  get node() {
    return this.#chosen ?? (this.#isOne ? "" : ALL);
  }

  get isOne() {
    return this.#isOne;
  }

  /** Show all again, as when the chosen node is gone. */
  reset() {
    this.#choose(null);
  }

  show(state) {
    const { nodes, silent_nodes: silent } = state;
    const wasOne = this.#isOne;
    this.#isOne = nodes.length + silent <= 1;
    $("nodes").hidden = this.#isOne && this.#chosen === null;
    const told = silent ? `${plural(nodes.length, "node")} · ${silent} did not answer` : plural(nodes.length, "node");
    setText($("nodes-count"), told);
    $("nodes-count").classList.toggle("bad", silent > 0);
    const total = (field) => nodes.reduce((sum, node) => sum + node[field], 0);
    const all = {
      name: ALL,
      connections: total("connections"),
      members: total("members"),
      publishes_per_second: total("publishes_per_second"),
      deliveries_per_second: total("deliveries_per_second"),
      cpu: total("cpu"),
      p99_ms: nodes.reduce((most, node) => Math.max(most ?? 0, node.p99_ms ?? 0) || null, null),
    };
    keep($("nodes-body"), [all, ...nodes], {
      key: (node) => node.name,
      create: (node) => this.#create(node),
      update: (row, node) => this.#update(row, node),
    });
    if (wasOne !== this.#isOne) this.#onChoice();
  }

  #choose(name) {
    if (name === this.#chosen) return;
    this.#chosen = name;
    this.#mark();
    this.#onChoice();
  }

  #create({ name }) {
    const text = name === ALL ? "All nodes" : name;
    const pick = make("button", { type: "button", className: "quiet small", textContent: text });
    pick.addEventListener("click", () => this.#choose(name));
    const number = () => make("td", { className: "number" });
    return make("tr", {}, make("td", {}, pick, make("span", { className: "faint worker" })), make("td", {}, make("span", { className: "state" })),
      number(), number(), number(), number(), number(), number());
  }

  #update(row, node) {
    const [, state, connections, members, deliveries, p99, cpu, up] = row.cells;
    const isAll = node.name === ALL;
    setText(row.cells[0].lastElementChild, isAll ? "" : `worker ${node.worker}`);
    const [kind, text] = isAll ? ["", ""] : stateOf(node);
    state.firstElementChild.dataset.kind = kind;
    setText(state.firstElementChild, text);
    setText(connections, count(node.connections));
    setText(members, count(node.members));
    setText(deliveries, compact(node.deliveries_per_second));
    setText(p99, node.p99_ms === null ? "–" : delay(node.p99_ms).join(" "));
    setText(cpu, `${Math.round(node.cpu * 100)} %`);
    setText(up, isAll ? "" : duration(node.up_ms));
    row.title = isAll ? "" : `worker ${node.worker} on ${node.machine}, version ${node.version}`;
    this.#mark();
  }

  #mark() {
    for (const row of $("nodes-body").children) {
      row.querySelector("button").ariaPressed = String(row.dataset.key === this.node);
    }
  }
}

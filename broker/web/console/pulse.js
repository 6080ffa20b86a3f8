// Deliveries, connections and delays of the last five minutes.

import { $ } from "./dom.js";
import { compact, count, delay } from "./format.js";
import { ALL } from "./nodes.js";
import { Plot } from "./plot.js";

const MOST_POINTS = 300;

export class Pulse {
  #points = [];
  #node = "";
  #asked = "";
  #deliveries = new Plot($("plot-deliveries"), { title: "Deliveries per second", format: (n) => [compact(n), "/s"], least: 5 });
  #connections = new Plot($("plot-connections"), { title: "Users' connections", format: (n) => [count(n), ""], least: 5 });
  #p99 = new Plot($("plot-p99"), { title: "Delivery p99, last minute", format: delay, least: 0.1 });

  /** The number of the last point that is here of a node, to ask for those behind it. */
  lastOf(asked) {
    return asked === this.#asked ? this.#last : 0;
  }

  get #last() {
    return this.#points.at(-1)?.number ?? 0;
  }

  /** The newest point, undefined before there is one. */
  get now() {
    return this.#points.at(-1);
  }

  /** `asked` is the node that was asked for, as `lastOf` takes it. */
  show(state, asked) {
    // All nodes together go on whichever of them come and go.
    const node = asked === ALL ? ALL : `${state.name} ${state.started_ms}`;
    const known = this.#last;
    // A server that started anew counts from 1 again.
    if (node !== this.#node || state.traffic[0]?.number <= known) this.#points = [];
    this.#node = node;
    this.#asked = asked;
    this.#points.push(...state.traffic);
    this.#points.splice(0, this.#points.length - MOST_POINTS);
    const series = (field) => this.#points.map((point) => [point.time_ms, point[field]]);
    this.#deliveries.show(series("deliveries_per_second"));
    this.#connections.show(series("connections"));
    // A quiet second has none; the last minute mostly has.
    const minutes = state.nodes.filter((one) => asked === ALL || one.name === state.name).map((one) => one.p99_ms ?? 0);
    this.#p99.show(series("p99_ms"), Math.max(0, ...minutes) || null);
  }

  clear() {
    this.#points = [];
    this.#node = "";
  }
}

// What there is to know of the node and its engine, and the line in the head of the page.

import { $, make, setText } from "./dom.js";
import { bytes, count, duration, plural } from "./format.js";
import { ALL } from "./nodes.js";

const ENGINE_WORDS = { commits: "Commits", messages: "Messages in them", waiting: "Appends waiting", history_bytes: "Histories", rooms_evicted: "Rooms evicted" };

export function showFacts(state) {
  const uptime = duration(state.up_ms);
  const name = state.name === ALL ? plural(state.nodes.length, "node") : state.name;
  setText($("node-line"), `${name} · ${state.version} · ${state.engine.name} · up ${uptime}`);
  $("node-line").hidden = false;
  const last = state.traffic_now;
  // The memory engine commits nothing and has nothing to tell.
  const isTold = Object.values(state.engine.statistics).some(Boolean);
  const facts = [
    ["Node", name],
    ["Machine", state.machine],
    ["Version", state.version],
    ["Up", uptime],
    ["Ready", state.is_ready ? "yes" : `no: ${state.reasons.join("; ")}`, !state.is_ready],
    ["Processor", last ? `${Math.round(last.cpu * 100)} % of a core` : "–"],
    ["Publishes", last ? `${count(last.publishes_per_second)}/s` : "–"],
    ["Deliveries", count(state.deliveries)],
    ["Deliveries lost", count(state.deliveries_lost), state.deliveries_lost > 0],
    ["Engine", state.engine.name],
    ...(isTold ? Object.entries(state.engine.statistics) : []).map(([name, value]) => [
      ENGINE_WORDS[name] ?? name.replaceAll("_", " "),
      typeof value !== "number" ? String(value) : name.endsWith("_bytes") ? bytes(value) : count(value),
    ]),
  ];
  $("facts").replaceChildren(...facts.map(([name, value, isBad]) => make("div", {},
    make("dt", { textContent: name }),
    make("dd", { textContent: value, className: isBad ? "bad" : "" }))));
}

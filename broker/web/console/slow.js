// Connections that read more slowly than they are written to.

import { $, keep, make, setName, setText } from "./dom.js";
import { bytes, plural } from "./format.js";
import { askToRemove } from "./confirm.js";

const isListener = (reader) => reader.user_id.startsWith("api/");

function create(api) {
  return () => {
    const meter = make("meter", { min: 0, max: 1, optimum: 0, low: 0.5, high: 0.8 });
    const end = make("button", { type: "button", className: "risky small", textContent: "Disconnect" });
    const row = make("tr", {}, make("td"), make("td", { className: "number" }), make("td", {}, meter), make("td", {}, end));
    end.addEventListener("click", () => askToRemove(api, { user: row.dataset.user }));
    return row;
  };
}

export function showSlowReaders(api, slow) {
  const reads = slow.count === 1 ? "connection reads" : "connections read";
  setText($("slow-count"), slow.count ? `${plural(slow.count, "connection")}, ${bytes(slow.queued_bytes)} in all` : "");
  $("slow-none").hidden = slow.count > 0;
  $("slow-table").hidden = slow.count === 0;
  $("slow-table").setAttribute("aria-label", `${slow.count} ${reads} slowly`);
  // A user may be slow on several connections: the place among them makes the key.
  const seen = new Map();
  const readers = slow.top.map((reader) => {
    const number = (seen.get(reader.user_id) ?? 0) + 1;
    seen.set(reader.user_id, number);
    return { ...reader, key: `${number} ${reader.user_id}` };
  });
  keep($("slow-body"), readers, {
    key: (reader) => reader.key,
    create: create(api),
    update(row, reader) {
      row.dataset.user = reader.user_id;
      const [who, queued, share, action] = row.cells;
      setName(who, isListener(reader) ? "a listener with the API key" : reader.user_id);
      who.title = reader.user_id;
      setText(queued, bytes(reader.queued_bytes));
      share.firstElementChild.value = reader.queued_bytes / slow.limit_bytes;
      share.firstElementChild.setAttribute("aria-label", `${Math.round((100 * reader.queued_bytes) / slow.limit_bytes)} % of its limit`);
      action.firstElementChild.hidden = isListener(reader);
      action.firstElementChild.setAttribute("aria-label", `Disconnect ${reader.user_id}`);
    },
  });
}

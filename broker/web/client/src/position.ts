// What of a room has been heard. Pure.

import type { Position } from "./types.js";

/** What an event is to one who has heard all up to `last`: the next, heard before, or one with a gap before it. */
export function placeOf(last: Position, event: Position): "next" | "old" | "after gap" {
  if (event.epoch !== last.epoch || event.offset > last.offset + 1) return "after gap";
  return event.offset > last.offset ? "next" : "old";
}

/** Whether nothing is missing between the position we came back with and the room's own. */
export function isComplete(since: Position, joined: Position & { readonly recovered: boolean }): boolean {
  return joined.recovered || (joined.epoch === since.epoch && joined.offset === since.offset);
}

// Asks before something is done that cannot be undone, and does it.

import { $, setText } from "./dom.js";
import { plural } from "./format.js";

/** Ask; `values` are those of the buttons that are offered. Resolves to the one that was chosen, "" for none. */
async function ask(title, text, values) {
  const dialog = $("confirm");
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  for (const button of dialog.querySelectorAll("button")) button.hidden = button.value !== "" && !values.includes(button.value);
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue;
}

/**
 * Ask whether to remove a user: from `room` if there is one, or from everywhere. Resolves to what became of it as
 * a text, null if it was not done.
 */
export async function askToRemove(api, { user, room = null }) {
  const text = room === null
    ? "All its connections are closed with 4004, which tells clients not to come back."
    : `From ${room} only: its clients may join again. Or close all its connections with 4004, which tells clients not to come back.`;
  const chosen = await ask(`Remove ${user}?`, text, room === null ? ["all"] : ["room", "all"]);
  try {
    if (chosen === "room") {
      const { removed } = await api.removeFromRoom(room, user);
      return `${plural(removed, "connection")} of ${user} removed from ${room}`;
    }
    if (chosen === "all") {
      const { disconnected } = await api.disconnect(user);
      return `${plural(disconnected, "connection")} of ${user} closed`;
    }
  } catch (error) {
    return `${user} was not removed: ${error.message}`;
  }
  return null;
}

/**
 * Ask whether to deliver entries of a webhook again that were put aside: the one of `id`, or all for null. Resolves to
 * what became of it as `{text, kind}` for `tell`, null if it was not done.
 */
export async function askToRepeat(api, { webhook, id = null }) {
  const what = id === null ? "All entries that were put aside come" : `The entry ${id} comes`;
  const text = `${what} before all that waits for ${webhook}, and the application may get entries that it has had already.`;
  if (await ask("Repeat?", text, ["repeat"]) !== "repeat") return null;
  try {
    const { repeated } = await api.repeatEntries(webhook, id === null ? { all: true } : { ids: [id] });
    return { text: `${plural(repeated, "entry", "entries")} of ${webhook} in the queue again`, kind: "good" };
  } catch (error) {
    return { text: `Nothing was repeated: ${error.message}`, kind: "bad" };
  }
}

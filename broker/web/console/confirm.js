// Asks before somebody is removed, and does it.

import { $, setText } from "./dom.js";
import { plural } from "./format.js";

/**
 * Ask whether to remove a user: from `room` if there is one, or from everywhere. Resolves to what became of it as
 * a text, null if it was not done.
 */
export async function askToRemove(api, { user, room = null }) {
  const dialog = $("confirm");
  setText($("confirm-title"), `Remove ${user}?`);
  setText($("confirm-text"), room === null
    ? "All its connections are closed with 4004, which tells clients not to come back."
    : `From ${room} only: its clients may join again. Or close all its connections with 4004, which tells clients not to come back.`);
  $("confirm-room").hidden = room === null;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  try {
    if (dialog.returnValue === "room") {
      const { removed } = await api.removeFromRoom(room, user);
      return `${plural(removed, "connection")} of ${user} removed from ${room}`;
    }
    if (dialog.returnValue === "all") {
      const { disconnected } = await api.disconnect(user);
      return `${plural(disconnected, "connection")} of ${user} closed`;
    }
  } catch (error) {
    return `${user} was not removed: ${error.message}`;
  }
  return null;
}

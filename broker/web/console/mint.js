// Makes client tokens, where the server lets us.

import { $, tell } from "./dom.js";
import { duration } from "./format.js";

export function openMint(api, signal) {
  const from = (id, kind, act) => $(id).addEventListener(kind, act, { signal });
  const show = (token) => {
    $("mint-token").value = token;
    $("mint-result").hidden = $("mint-copy").hidden = !token;
  };
  from("open-mint", "click", () => {
    show("");
    tell($("mint-told"), "");
    $("mint").showModal();
  });
  from("mint-close", "click", () => $("mint").close());
  // A token that was shown is not left behind in the page.
  from("mint", "close", () => show(""));
  from("mint-copy", "click", () => copy());
  from("mint-form", "submit", async (event) => {
    event.preventDefault();
    const [rooms, auto_join] = ["mint-rooms", "mint-auto"].map(names);
    const ttl_seconds = Number($("mint-ttl").value);
    try {
      const made = await api.makeToken({ user_id: $("mint-user").value, ttl_seconds, ...(rooms.length && { rooms }), ...(auto_join.length && { auto_join }) });
      show(made.token);
      tell($("mint-told"), `For ${made.user_id}, good for ${duration(ttl_seconds * 1000)}.`);
    } catch (error) {
      show("");
      tell($("mint-told"), error.message, "bad");
    }
  });
}

function names(id) {
  return $(id).value.split(",").map((room) => room.trim()).filter(Boolean);
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("mint-token").value);
    tell($("mint-told"), "Copied.");
  } catch {
    // There is no clipboard without https, but on this machine.
    $("mint-token").select();
    tell($("mint-told"), "Marked: copy it by hand.");
  }
}

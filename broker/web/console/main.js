// The console: signs in, keeps asking the node how it is, and shows it.

import { Api, Refusal } from "./api.js";
import { $, setText } from "./dom.js";
import { showFacts } from "./facts.js";
import { clock } from "./format.js";
import { bringsKey, forgetKey, keepKey, takeKey } from "./key.js";
import { openMint } from "./mint.js";
import { ALL, NodeList } from "./nodes.js";
import { Poll } from "./poll.js";
import { Pulse } from "./pulse.js";
import { RoomView } from "./room.js";
import { RoomList, roomHash } from "./rooms.js";
import { showSlowReaders } from "./slow.js";
import { WebhookList } from "./webhooks.js";

const pulse = new Pulse();
let end = null;   // ends what runs while signed in

function showState(kind, text) {
  $("state").dataset.kind = kind;
  setText($("state"), text);
}

function roomOfAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("room") || null;
}

/** Look whether the key is good, and then begin. */
async function signIn(key) {
  const api = new Api(key);
  showState("wait", "signing in");
  try {
    const state = await api.node({ rooms: 0, since: 0 });
    keepKey(key);
    begin(api, state);
  } catch (error) {
    // Only a key that was refused is forgotten: a server that is away comes back.
    const why = error instanceof Refusal ? error.message : `The server did not answer: ${error.message}`;
    signOut(error.status === 401 ? "This key is not accepted." : why, error.status === 401);
  }
}

function signOut(why, isForgotten = true) {
  end?.abort();
  end = null;
  if (isForgotten) forgetKey();
  pulse.clear();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  $("console").hidden = $("tools").hidden = $("node-line").hidden = true;
  $("door").hidden = false;
  setText($("sign-in-error"), why);
  showState("idle", "signed out");
  $("key").value = "";
  $("key").focus();
}

function begin(api, first) {
  end?.abort();
  end = new AbortController();
  const { signal } = end;
  $("door").hidden = true;
  $("console").hidden = $("tools").hidden = false;
  const nodes = new NodeList(() => poll.hurry());
  const rooms = new RoomList(api, () => poll.hurry());
  const view = new RoomView(api, signal);
  const webhooks = new WebhookList(api, { now: () => pulse.now?.time_ms ?? Date.now(), signal });
  const poll = new Poll(api, {
    query: () => ({ node: nodes.node, since: pulse.lastOf(nodes.node), ...rooms.query }),
    // An answer that was asked for before another node was chosen is of no use.
    onState: (state, query) => query.node === nodes.node && show(state, query.node),
    onFailure(error, isRefused) {
      if (error.status === 401) signOut("The key is no longer accepted.");
      else if (error.status === 404) nodes.reset();
      else {
        showState("bad", isRefused ? error.message : "no answer");
        showAway(true);
      }
    },
    onWait: (left) => setText($("away-again"), `Again in ${left} s.`),
  });

  let answeredAt = Date.now();

  /** What is shown is of the last answer: grey, and dated. */
  function showAway(isAway) {
    $("away").hidden = !isAway;
    $("console").classList.toggle("stale", isAway);
    setText($("away-since"), clock(answeredAt));
  }

  function show(state, node) {
    answeredAt = Date.now();
    showAway(false);
    pulse.show(state, node);
    nodes.show(state);
    rooms.show(state);
    view.showState(state);
    showSlowReaders(api, state.slow_readers);
    webhooks.refresh();
    showFacts({ ...state, traffic_now: pulse.now });
    $("open-mint").hidden = !state.makes_tokens;
    const ready = state.nodes.filter((one) => one.is_ready).length;
    if (state.is_draining) showState("wait", "draining");
    else if (state.is_ready) showState("good", "ready");
    else if (ready > 0 && node === ALL) showState("wait", `${ready} of ${state.nodes.length} ready`);
    else showState("bad", "not ready");
  }

  function follow() {
    const before = view.room;
    const room = roomOfAddress();
    rooms.choose(room);
    view.show(room);
    if (room === null && before !== null) rooms.focus(before);
  }

  rooms.start(signal);
  openMint(api, signal);
  window.addEventListener("hashchange", follow, { signal });
  $("away-now").addEventListener("click", () => poll.hurry(), { signal });
  $("sign-out").addEventListener("click", () => signOut(""), { signal });
  $("room-open").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = roomHash($("room-name").value);
  }, { signal });
  show(first, "");
  follow();
  poll.run(signal);
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn($("key").value.trim());
});

/** Sign in with the key that the address brought, or that this tab had before a reload. */
function enter() {
  const key = takeKey();
  if (key) signIn(key);
  else signOut("");
}

// An address with a key that is pasted into an open console loads nothing anew.
window.addEventListener("hashchange", () => {
  if (bringsKey()) enter();
});
enter();

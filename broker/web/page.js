// A plain page on which tabs can talk in a room. All text is put in as text, never as HTML.

const MOST_LINES = 500;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;

// 40xx and 1000 are final; after every other code the page comes back.
const FINAL = {
  1000: "closed",
  4001: "the token was not accepted",
  4003: "the token does not allow this room",
  4004: "removed by the application",
};

const $ = (id) => document.getElementById(id);

let place = null;      // { token, room, user }: where this page is, or wants to be
let socket = null;
let position = null;   // { offset, epoch }: the last that was heard of the room
let failures = 0;      // in a row
let comeBackMs = null; // what a stopping server asked for
let timer = null;

function show(kind, text) {
  $("state").dataset.kind = kind;
  $("state").textContent = text;
  $("say").querySelector("button").disabled = kind !== "open";
}

function add(kind, text, { who = null, time = null } = {}) {
  const list = $("said");
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const line = document.createElement("li");
  line.className = kind;
  if (time !== null) {
    const when = document.createElement("time");
    const date = new Date(time);
    when.dateTime = date.toISOString();
    when.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    line.append(when);
  }
  if (who !== null) {
    const name = document.createElement("b");
    name.textContent = who;
    line.append(name);
  }
  line.append(text);
  list.append(line);
  while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function showCount(size) {
  $("count").textContent = size === 1 ? "1 connection" : `${size} connections`;
}

function userOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).sub;
  } catch {
    return null;
  }
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const address = new URL(`${scheme}://${location.host}/ws/${encodeURIComponent(place.room)}`);
  if (position !== null) {
    address.searchParams.set("offset", position.offset);
    address.searchParams.set("epoch", position.epoch);
  }
  show("waiting", failures ? "reconnecting" : "connecting");
  try {
    // As a subprotocol the token stays out of addresses, and so out of logs.
    socket = new WebSocket(address, ["greenroom.v1", `bearer.${place.token}`]);
  } catch {
    end("the token holds characters that no token has");
    return;
  }
  socket.onmessage = (event) => obey(JSON.parse(event.data));
  socket.onclose = (event) => closed(event.code, event.reason);
}

function obey(message) {
  if (message.type !== "joined" && message.offset !== undefined) {
    position = { offset: message.offset, epoch: message.epoch };
  }
  if (message.room_size !== undefined) showCount(message.room_size);
  switch (message.type) {
    case "joined": joined(message); break;
    case "chat":
      add(message.user_id === place.user ? "mine" : "theirs",
        message.text + (message.truncated ? " …" : ""), { who: message.user_id, time: message.time });
      break;
    case "user_joined": add("note", `${message.user_id} came in`); break;
    case "user_left": add("note", `${message.user_id} left`); break;
    case "presence_changed":
      add("note", `${message.joined.length} came in, ${message.left.length} left`);
      break;
    case "error": add("bad", `${message.code}: ${message.message}`); break;
    case "gap": add("bad", `messages ${message.from} to ${message.to} were not sent: this page reads too slowly`); break;
    case "reconnect": comeBackMs = message.after_ms; break;
    case "left": break;
    default: application(message);
  }
}

function joined(message) {
  const wasHere = position !== null;
  failures = 0;
  comeBackMs = null;
  show("open", "connected");
  message.messages.forEach(obey);
  position = { offset: message.offset, epoch: message.epoch };
  if (wasHere && !message.recovered) add("bad", "back again; some messages may be missing");
}

// What an application or another client published, as it is.
function application({ type, event, data, user_id, room, offset, epoch, time, ...rest }) {
  const name = type === "event" ? event : type;
  add("note", `${name} ${JSON.stringify(type === "event" ? data : rest)}`, { who: user_id ?? null, time });
}

function closed(code, reason) {
  socket = null;
  if (place === null) return;
  if (code === 1000 || (code >= 4000 && code < 4100)) {
    end(`${FINAL[code] ?? "closed"} (${code}${reason && reason !== FINAL[code] ? `: ${reason}` : ""})`);
    return;
  }
  failures += 1;
  const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
  // With jitter, so that the clients of a failed server do not come back all at once.
  const delay = comeBackMs ?? longest * (0.5 + Math.random() / 2);
  comeBackMs = null;
  show("waiting", `connection lost (${code}${reason ? `: ${reason}` : ""}); again in ${Math.ceil(delay / 1000)} s`);
  timer = setTimeout(connect, delay);
}

// No way back: say why, and ask for a token and a room again.
function end(why) {
  leave();
  show("ended", why);
}

function leave() {
  clearTimeout(timer);
  const open = socket;
  place = socket = position = null;
  failures = 0;
  open?.close(1000);
  sessionStorage.removeItem("token");
  $("inside").hidden = true;
  $("enter").hidden = false;
  show("idle", "not connected");
  $($("room").value ? "token" : "room").focus();
}

function enter(token, room) {
  place = { token, room, user: userOf(token) };
  // Out of the address, but kept for a reload of this tab.
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", `#room=${encodeURIComponent(room)}`);
  document.title = `${room} · Greenroom`;
  $("name").textContent = room;
  $("said").replaceChildren();
  $("count").textContent = "";
  $("enter").hidden = true;
  $("inside").hidden = false;
  $("text").focus();
  connect();
}

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value.trim(), $("room").value);
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (socket?.readyState !== WebSocket.OPEN || !text.trim()) return;
  socket.send(JSON.stringify({ type: "chat", text }));
  $("text").value = "";
});

$("leave").addEventListener("click", leave);

const given = new URLSearchParams(location.hash.slice(1));
const token = given.get("token") ?? sessionStorage.getItem("token");
const room = given.get("room") || "lobby";
$("room").value = room;
if (token) {
  enter(token, room);
} else {
  $("enter").hidden = false;
  $("token").focus();
}

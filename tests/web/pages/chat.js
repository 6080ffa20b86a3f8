// A page of another origin than the server's, as an application would have it; the test reads `heard` and `states`.

const { server, user, tokenUrl, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const { connect } = await import(`${server}/greenroom.js`);

window.token = token;
window.states = [];
window.asked = 0;
window.acks = [];
window.failed = [];

// With this the page is ready.
window.heard = [];

const client = connect(server, {
  token: async () => {
    window.asked += 1;
    return tokenUrl ? (await fetch(`${tokenUrl}?user=${user}`)).text() : window.token;
  },
});
window.client = client;
const room = client.room("lobby");
window.room = room;

function show(text, kind) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = kind;
  document.getElementById("said").append(line);
}

client.on("state", (event) => {
  window.states.push(event);
  document.getElementById("state").textContent = event.reason ? `${event.state}: ${event.reason}` : event.state;
});
room.on("*", (event) => window.heard.push(event));
room.on("chat", ({ user_id, text }) => show(`${user_id}: ${text}`, "chat"));
room.on("user_joined", ({ user_id }) => show(`${user_id} came in`, "note"));
room.on("user_left", ({ user_id }) => show(`${user_id} left`, "note"));
room.on("left", ({ error }) => show(error ? error.message : "left", "note"));

window.say = (text) => room.chat(text).then(
  ({ offset }) => window.acks.push(offset),
  (error) => window.failed.push(error.code),
);

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("text");
  window.say(field.value);
  field.value = "";
});

// The browser client under test, for `greenroom conformance -- node --experimental-websocket browser_client.mjs` in Node 20.
// With --many, one process has a client for each line {"case", "environ"} of its input, and prints {"case", "line"}.

import { createInterface } from "node:readline";
import { connect } from "../../broker/web/greenroom.js";

if (process.argv.includes("--many")) {
  const clients = new Map();
  for await (const line of createInterface(process.stdin)) {
    const { case: name, environ } = JSON.parse(line);
    clients.get(name)?.close();
    if (environ) clients.set(name, follow(environ, (line) => console.log(JSON.stringify({ case: name, line }))));
  }
} else {
  follow(process.env, (line) => console.log(JSON.stringify(line)));
}

function follow(environ, print) {
  const silenceMs = 1000 * environ.GREENROOM_SILENCE_SECONDS;
  const client = connect(environ.GREENROOM_URL, {
    token: async () => (await fetch(environ.GREENROOM_TOKEN_URL)).text(),
    pingMs: silenceMs / 4,
    pongMs: silenceMs / 4,
  });
  const room = client.room(environ.GREENROOM_ROOM);
  room.on("*", (event) => {
    if (event.type === "gap") print({ gap: event });
    else if (event.type !== "left") print({ event });
    else if (event.error?.code === "removed") print({ left: true });
    else if (event.error) print({ refused: event.error.code });
    if (event.text?.startsWith("say: ")) say(event.text.slice("say: ".length));
  });
  client.on("state", ({ state, error }) => {
    if (state === "closed" && error) print({ closed: error.closeCode });
  });

  async function say(text) {
    try {
      await room.chat(text);
      print({ stored: text });
    } catch (error) {
      print({ refused: error.code });
    }
  }

  return client;
}

// A room's event stream, read with fetch: an EventSource cannot send the key in a header.

import { Refusal, roomPath } from "./api.js";

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 15_000;

/** Turns the text of an event stream (HTML standard, section 9.2.6) into events, whatever pieces it comes in. */
export class EventParser {
  #rest = "";

  feed(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    return blocks.map(parseEvent);
  }
}

function parseEvent(block) {
  const event = { type: "message", data: "", id: null };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const value = line.slice(colon + 1).replace(/^ /, "");
    switch (line.slice(0, colon)) {
      case "data": event.data += value; break;
      case "event": event.type = value; break;
      case "id": event.id = value; break;
    }
  }
  return event;
}

/**
 * Follow a room until `signal` aborts, or `onNotice` returns false. It gets what a WebSocket in the room would get;
 * `onState` gets a kind (wait, good, bad) and a text. Comes back after a lost connection, with what was missed. Throws Refusal when the
 * server does not let us listen.
 */
export async function follow(api, room, lastId, { onNotice, onState, signal }) {
  let failures = 0;
  const listen = async () => {
    const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
    const response = await api.open("GET", roomPath(room, "/events"), { headers, signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    while (true) {
      const { value, done } = await reader.read();
      if (done) return true;
      for (const event of parser.feed(value)) {
        if (event.id !== null) lastId = event.id;
        if (event.type === "close") return true;
        if (!event.data) continue;
        failures = 0;
        if (onNotice(JSON.parse(event.data)) === false) {
          await reader.cancel();
          return false;
        }
      }
    }
  };
  while (!signal.aborted) {
    try {
      onState("wait", failures ? "reconnecting" : "connecting");
      if (!(await listen())) return;
    } catch (error) {
      if (signal.aborted) return;
      // 503 passes: the engine cannot serve just now, or the server is stopping.
      if (error instanceof Refusal && error.status !== 503) throw error;
    }
    failures += 1;
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
    await countDown(longest * (0.5 + Math.random() / 2), signal, (left) => onState("wait", `connection lost, again in ${left} s`));
  }
}

/** Wait; an abort ends it. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

/** Wait as `pause` does, and tell each second how many are left. */
export async function countDown(ms, signal, onLeft) {
  const end = performance.now() + ms;
  for (let left = ms; left > 0 && !signal.aborted; left = end - performance.now()) {
    onLeft(Math.ceil(left / 1000));
    await pause(left % 1000 || 1000, signal);
  }
}

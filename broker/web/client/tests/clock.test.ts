// The client while the wall clock is set, and while the machine sleeps.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";
import { sleepingClock } from "../src/clock.js";
import type { StateEvent } from "../src/index.js";
import { closeAll, open, pause, test, until } from "./helpers.js";

const HOUR_MS = 3_600_000;

const realDate = Date.now;
const realMonotonic = performance.now.bind(performance);
/** By how much the wall clock is off. */
let off = 0;

let server: WebSocketServer;
let obey: (socket: WebSocket, message: any) => void;
let sockets: WebSocket[];

before(async () => {
  server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "greenroom.v1" });
  server.on("connection", (socket) => {
    sockets.push(socket);
    socket.on("message", (data) => obey(socket, JSON.parse(String(data))));
  });
  await once(server, "listening");
});
after(() => server.close());
beforeEach(() => {
  sockets = [];
  obey = friendly;
  off = 0;
  Date.now = () => realDate() + off;
});
afterEach(() => {
  Date.now = realDate;
  performance.now = realMonotonic;
  closeAll();
  for (const socket of server.clients) socket.terminate();
});

function friendly(socket: WebSocket, { type, id, room }: any): void {
  const where = { room, offset: 5, epoch: "e" };
  if (type === "ping") say(socket, { type: "pong" });
  if (type === "join") say(socket, { type: "joined", id, ...where, room_size: 1, recovered: false, messages: [] });
  if (type === "chat") say(socket, { type: "ack", id, ...where });
}

function say(socket: WebSocket, message: object): void {
  socket.send(JSON.stringify(message));
}

const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

test("a sleep counts, a clock that is set back does not, and nothing goes back", () => {
  let monotonic = 1000;
  performance.now = () => monotonic;
  Date.now = () => 1_700_000_000_000 + monotonic + off;
  const clock = sleepingClock();
  const began = clock();
  let expected = 0;
  for (const [passed, step] of [[10, 0], [500, HOUR_MS], [20, -3 * HOUR_MS], [30, 0], [40, 600_000], [5, 900], [5, -900], [7, -HOUR_MS], [1, 2000]] as const) {
    monotonic += passed;
    off += step;
    expected += passed + (step >= 1000 ? step : 0);
    assert.equal(clock() - began, expected);
    assert.equal(clock() - began, expected, "counted once");
  }
});

for (const step of [-HOUR_MS, 0, HOUR_MS]) {
  test(`after a step of ${step} ms the client comes back when the server said, and not before`, async () => {
    const client = open(url(), { token: "t", backoffMs: [10_000, 10_000] });
    await client.join("lobby");
    const told = realMonotonic();
    say(sockets[0]!, { type: "reconnect", after_ms: 600 });
    await pause(100);
    off = step;
    sockets[0]!.close(1012);
    await until(() => sockets.length === 2);
    assert.ok(realMonotonic() - told >= 595);
  });

  test(`after a step of ${step} ms a lost connection is made again, and a silent one is given up`, async () => {
    const client = open(url(), { token: "t", pingMs: 200, pongMs: 200 });
    const states: StateEvent[] = [];
    client.on("state", (event) => states.push(event));
    await client.join("lobby");
    off = step;
    sockets[0]!.terminate();
    await until(() => client.state === "open" && sockets.length === 2);
    obey = () => {};
    off = 2 * step;
    await until(() => states.some((event) => event.reason === "the server does not answer"));
  });
}

for (const [slept, isSaidAgain] of [[0, true], [180_000, true], [250_000, false], [600_000, false]] as const) {
  test(`a chat under way is ${isSaidAgain ? "" : "not "}said again after ${slept} ms of sleep`, async () => {
    const ids: unknown[] = [];
    obey = (socket, message) => {
      if (message.type !== "chat") return friendly(socket, message);
      ids.push(message.id);
      if (ids.length > 1) return friendly(socket, message);
      // Stored; the answer never comes. The monotonic clock knows nothing of the sleep.
      off += slept;
      socket.terminate();
    };
    const room = await open(url(), { token: "t" }).join("lobby");
    const outcome = await room.chat("once").then(() => "ack", (error) => error.code);
    assert.equal(outcome, isSaidAgain ? "ack" : "uncertain");
    assert.equal(ids.length, isSaidAgain ? 2 : 1);
  });
}

test("after a sleep the server is asked, and has the time to answer", async () => {
  const client = open(url(), { token: "t", pingMs: 300, pongMs: 400 });
  await client.join("lobby");
  let pings = 0;
  obey = (socket, message) => {
    if (message.type === "ping") pings += 1;
    setTimeout(() => friendly(socket, message), 50);
  };
  off += HOUR_MS;
  await until(() => pings >= 2);
  assert.equal(sockets.length, 1);
});

// The client against a server that does what a good one seldom does, over real sockets.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach } from "node:test";
import { inspect } from "node:util";
import { type WebSocket, WebSocketServer } from "ws";
import { type GapEvent, GreenroomError, type Options, type StateEvent } from "../src/index.js";
import { closeAll, open, pause, test, until } from "./helpers.js";

let server: WebSocketServer;
/** What the server does with each message it gets. */
let obey: (socket: WebSocket, message: any) => void;
let connections: Array<{ socket: WebSocket; protocols: string; path: string; at: number }>;

before(async () => {
  server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "greenroom.v1" });
  server.on("connection", (socket, request) => {
    const protocols = request.headers["sec-websocket-protocol"]!;
    connections.push({ socket, protocols, path: request.url!, at: Date.now() });
    socket.on("message", (data) => obey(socket, JSON.parse(String(data))));
  });
  await once(server, "listening");
});
after(() => server.close());
beforeEach(() => {
  connections = [];
  obey = friendly;
});
afterEach(() => {
  closeAll();
  for (const socket of server.clients) socket.terminate();
});

function url(): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function say(socket: WebSocket, message: object): void {
  socket.send(JSON.stringify(message));
}

function friendly(socket: WebSocket, { type, id, room }: any): void {
  const where = { room, offset: 5, epoch: "e" };
  if (type === "ping") say(socket, { type: "pong" });
  if (type === "join") say(socket, { type: "joined", id, ...where, room_size: 1, recovered: false, messages: [] });
  if (type === "chat") say(socket, { type: "ack", id, ...where });
}

const chat = (offset: number, epoch = "e") => ({ type: "chat", room: "lobby", user_id: "x", text: `${offset}`, offset, epoch, time: 0 });

test("the token is no part of the address", async () => {
  await open(url(), { token: "a.b.c" }).join("lobby");
  assert.deepEqual([connections[0]!.path, connections[0]!.protocols], ["/ws", "greenroom.v1,bearer.a.b.c"]);
});

test("what comes twice is told once, and what does not come is told as a gap", async () => {
  const room = await open(url(), { token: "t" }).join("lobby");
  const heard: unknown[] = [];
  room.on("*", (event) => heard.push(event.type === "chat" ? event.text : [event.type, (event as GapEvent).since, (event as GapEvent).until]));
  const { socket } = connections[0]!;
  for (const offset of [5, 6, 6, 4, 7, 9]) say(socket, chat(offset));
  say(socket, { type: "gap", room: "lobby", from: 10, to: 12 });
  for (const [offset, epoch] of [[12, "e"], [13, "e"], [1, "f"], [2, "f"]] as const) say(socket, chat(offset, epoch));
  say(socket, { type: "chat", room: "another", user_id: "x", text: "not for us", offset: 1, epoch: "e", time: 0 });
  await until(() => heard.includes("2"));
  assert.deepEqual(heard, [
    "6",
    "7",
    ["gap", { offset: 7, epoch: "e" }, { offset: 8, epoch: "e" }],
    "9",
    ["gap", { offset: 9, epoch: "e" }, { offset: 12, epoch: "e" }],
    "13",
    ["gap", { offset: 13, epoch: "e" }, { offset: 0, epoch: "f" }],
    "1",
    "2",
  ]);
});

test("an ack that was lost is asked for again with the same id", async () => {
  const ids: unknown[] = [];
  obey = (socket, message) => {
    if (message.type !== "chat") return friendly(socket, message);
    ids.push(message.id);
    if (ids.length < 3) socket.terminate();
    else friendly(socket, message);
  };
  const room = await open(url(), { token: "t" }).join("lobby");
  assert.equal((await room.chat("x")).offset, 5);
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
});

test("an unavailable engine is asked again when it says, for sends and for joins", async () => {
  const refused = new Set<string>();
  const times: Record<string, number[]> = { join: [], chat: [] };
  obey = (socket, message) => {
    times[message.type]?.push(Date.now());
    if (message.type === "ping" || refused.has(message.type)) return friendly(socket, message);
    refused.add(message.type);
    say(socket, { type: "error", code: "unavailable", message: "later", id: message.id, retry_after_ms: 300 });
  };
  const room = await open(url(), { token: "t" }).join("lobby");
  await room.chat("x");
  for (const [first, second, ...others] of Object.values(times) as [number, number, ...number[]][]) {
    assert.ok(second - first >= 299, `${second - first}`);
    assert.equal(others.length, 0);
  }
});

test("the server's wish when to come back is obeyed", async () => {
  const client = open(url(), { token: "t", backoffMs: [10_000, 10_000] });
  await client.join("lobby");
  const { socket } = connections[0]!;
  const told = Date.now();
  say(socket, { type: "reconnect", after_ms: 400 });
  socket.close(1012);
  await until(() => connections.length === 2);
  const waited = connections[1]!.at - told;
  assert.ok(waited >= 395 && waited < 3000, `${waited}`);
  // It holds once; the next loss is an ordinary one.
  await until(() => client.state === "open");
  const states: StateEvent[] = [];
  client.on("state", (event) => states.push(event));
  const random = Math.random;
  Math.random = () => 0.5;
  try {
    connections[1]!.socket.terminate();
    await until(() => states.length > 0);
  } finally {
    Math.random = random;
  }
  assert.ok(states[0]!.retryInMs! > 4000, `${states[0]!.retryInMs}`);
});

for (const [code, isLast] of [[1000, true], [4001, true], [4003, true], [4042, true], [1001, false], [1008, false], [1011, false], [1013, false], [4101, false], [4108, false], [4129, false]] as const) {
  test(`after ${code} the client ${isLast ? "stays away" : "comes back"}`, async () => {
    const client = open(url(), { token: "t", backoffMs: [20, 20] });
    const room = await client.join("lobby");
    connections[0]!.socket.close(code, "so it is");
    if (!isLast) {
      await until(() => connections.length === 2 && room.state === "joined");
      return;
    }
    await until(() => client.state === "closed");
    await pause(200);
    assert.equal(connections.length, 1);
    await assert.rejects(room.joined(), { code: "left" });
    await assert.rejects(client.join("x"), { code: "refused", closeCode: code });
  });
}

/** Run with the longest wait each time, and note how long that is. */
async function noteWaits(options: Partial<Options>, until: (waits: number[]) => Promise<void>): Promise<number[]> {
  const waits: number[] = [];
  const random = Math.random;
  Math.random = () => 1;
  try {
    const client = open(url(), { token: "t", ...options });
    client.on("state", ({ retryInMs }) => retryInMs !== undefined && waits.push(retryInMs));
    await until(waits);
  } finally {
    Math.random = random;
  }
  return waits;
}

function refuse(socket: WebSocket, message: any): void {
  friendly(socket, message);
  socket.close(4129);
}

test("waits grow while connections do not last", async () => {
  obey = refuse;
  const waits = await noteWaits({ backoffMs: [20, 100] }, (waits) => until(() => waits.length === 5));
  assert.deepEqual(waits, [20, 40, 80, 100, 100]);
});

test("after a connection that lasted, waits begin anew", async () => {
  obey = refuse;
  const waits = await noteWaits({ backoffMs: [20, 100] }, async (waits) => {
    await until(() => waits.length === 2);
    obey = friendly;
    await until(() => connections.length === 3);
    await pause(5_100);
    connections[2]!.socket.terminate();
    await until(() => waits.length === 3);
  });
  assert.deepEqual(waits, [20, 40, 20]);
});

test("a browser that is online again, or looked at, does not wait for long", async () => {
  const page = new EventTarget();
  const own = globalThis as any;
  own.addEventListener = page.addEventListener.bind(page);
  own.removeEventListener = page.removeEventListener.bind(page);
  own.document = { visibilityState: "visible" };
  try {
    obey = refuse;
    for (const event of ["online", "visibilitychange"]) {
      connections = [];
      const waits = await noteWaits({ backoffMs: [100, 60_000], pingMs: 60_000 }, async (waits) => {
        await until(() => waits.length === 4);
        // Again and again does not put it off.
        await until(() => (page.dispatchEvent(new Event(event)), connections.length === 5));
      });
      assert.deepEqual(waits.slice(0, 5), [100, 200, 400, 500, 100]);
      closeAll();
    }
    // An open connection is asked for a sign of life instead, and what went offline is not open.
    obey = friendly;
    connections = [];
    const pings: number[] = [];
    const client = open(url(), { token: "t" });
    await client.join("lobby");
    obey = (socket, message) => (pings.push(message.type), friendly(socket, message));
    page.dispatchEvent(new Event("online"));
    await until(() => pings.length === 1);
    page.dispatchEvent(new Event("offline"));
    assert.equal(client.state, "waiting");
  } finally {
    for (const name of ["addEventListener", "removeEventListener", "document"]) delete own[name];
  }
});

test("a server that accepts and then says nothing is given up", async () => {
  obey = () => {};
  const client = open(url(), { token: "t", connectMs: 100 });
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  await until(() => connections.length >= 2);
  assert.ok(!states.includes("open"), states.join());
});

test("a token that takes for ever is asked for anew", async () => {
  let asked = 0;
  const token = () => (++asked === 1 ? new Promise<string>(() => {}) : "t");
  await open(url(), { token, connectMs: 100 }).join("lobby");
  assert.equal(asked, 2);
});

test("a token that comes after close opens nothing", async () => {
  let give = (_: string): void => {};
  const client = open(url(), { token: () => new Promise<string>((resolve) => (give = resolve)) });
  await until(() => client.state === "connecting");
  client.close();
  give("t");
  await pause(100);
  assert.equal(connections.length, 0);
});

for (const bad of ["<html>Bad Gateway</html>", "", " \n", "a.b c", "a,b", "a+b=", "bé", undefined, 7]) {
  test(`what can be no token is asked for again: ${JSON.stringify(bad)}`, async () => {
    let asked = 0;
    const waits = await noteWaits({ token: () => (++asked < 4 ? (bad as string) : "a.b.c"), backoffMs: [20, 40] }, async () => {
      await until(() => connections.length > 0);
    });
    assert.deepEqual([asked, waits], [4, [20, 40, 40]]);
    assert.equal(connections[0]!.protocols, "greenroom.v1,bearer.a.b.c");
  });
}

test("what can be no token is told without it", async () => {
  let asked = 0;
  const client = open(url(), { token: () => (++asked === 1 ? "<secret>" : "t") });
  const told: any[] = [];
  client.on("error", (error) => told.push(error));
  client.on("state", (event) => told.push(event));
  await client.join("lobby");
  const [error, waiting] = told.filter(({ state }) => state !== "connecting");
  assert.ok(error instanceof GreenroomError);
  assert.deepEqual([error.code, error.message, waiting.reason], ["bad_token", "the token is malformed", "no token"]);
  assert.doesNotMatch(told.map((event) => inspect(event)).join(), /secret/);
});

test("whoever closes when told that there is no token is left alone", async () => {
  let asked = 0;
  const client = open(url(), { token: () => (++asked === 1 ? "<html>" : "t"), backoffMs: [1, 1] });
  client.on("error", () => client.close());
  await until(() => asked === 1);
  await pause(100);
  assert.deepEqual([asked, client.state, connections.length], [1, "closed", 0]);
});

for (const bad of ["<secret>", "secret b", "", undefined]) {
  test(`a string that can be no token ends it at once, without it being told: ${JSON.stringify(bad)}`, async () => {
    const client = open(url(), { token: bad as string });
    const told: any[] = [];
    client.on("error", (error) => told.push(error));
    client.on("state", (event) => told.push(event));
    const refused = await client.join("lobby").catch((error) => error);
    assert.ok(refused instanceof GreenroomError);
    assert.deepEqual([refused.code, refused.closeCode, refused.message], ["refused", 4001, "the token is malformed (4001)"]);
    assert.deepEqual(told, [{ state: "closed", code: 4001, reason: "the token is malformed", error: refused }]);
    assert.doesNotMatch(inspect(told), /secret/);
    assert.equal(connections.length, 0);
  });
}

test("a page that may not use the address is told so, and not that its token is bad", async () => {
  // As browsers do with ws: on a page of https:.
  class WebSocket {
    constructor() {
      throw new Error("An insecure connection may not be initiated");
    }
  }
  const client = open(url(), { token: () => "t", WebSocket: WebSocket as unknown as Options["WebSocket"] & {} });
  const refused = await client.join("lobby").catch((error) => error);
  assert.deepEqual([refused.code, refused.closeCode], ["refused", undefined]);
  assert.match(refused.message, /may not be initiated/);
  assert.equal(client.state, "closed");
});

test("a complaint about nothing we asked for is told", async () => {
  const client = open(url(), { token: "t" });
  const errors: any[] = [];
  client.on("error", (error) => errors.push(error));
  await client.join("lobby");
  say(connections[0]!.socket, { type: "error", code: "rate_limited", message: "too many messages", retry_after_ms: 10 });
  say(connections[0]!.socket, { type: "error", code: "invalid_json", message: "Invalid JSON" });
  await until(() => errors.length > 0);
  assert.deepEqual(errors.map(({ code }) => code), ["invalid_json"]);
});

test("a message that cannot be read is passed over, and is a gap if it was stored", async () => {
  const client = open(url(), { token: "t" });
  const told: any[] = [];
  client.on("error", (error) => told.push(error));
  const room = await client.join("lobby");
  const heard: unknown[] = [];
  room.on("*", (event) => heard.push(event.type === "chat" ? event.text : [event.type, (event as GapEvent).since?.offset, (event as GapEvent).until?.offset]));
  const { socket } = connections[0]!;
  const unread = (offset: number) => `{"type":"event","data":NaN,"room":"lobby","offset":${offset},"epoch":"e","time":1}`;
  say(socket, chat(6));
  for (const text of [unread(7), unread(7), unread(6), "nonsense", "null", "[1]", '{"type":7}', '{"type":"event","data":NaN}']) socket.send(text);
  say(socket, { type: "joined" });
  say(socket, chat(8));
  await until(() => heard.includes("8"));
  assert.deepEqual(heard, ["6", ["gap", 6, 7], "8"]);
  assert.deepEqual(told.map(({ code }) => code), Array(5).fill("unreadable"));
  assert.equal(connections.length, 1);
});

test("a refusal that does not say of what is of the requests that are left", async () => {
  const asked: any[] = [];
  obey = (socket, message) => {
    if (message.type !== "chat") return friendly(socket, message);
    asked.push(message);
    if (message.text.startsWith("bad")) say(socket, { type: "error", code: "invalid_json", message: "Invalid JSON" });
    else setTimeout(() => friendly(socket, message), 20);
  };
  const room = await open(url(), { token: "t" }).join("lobby");
  // Many more than may be under way at once.
  const texts = Array.from({ length: 100 }, (_, i) => `${i % 3 ? "bad" : "good"} ${i}`);
  const settled = await Promise.allSettled(texts.map((text) => room.chat(text)));
  const outcomes = settled.map((outcome) => (outcome.status === "rejected" ? outcome.reason.code : "stored"));
  assert.deepEqual(outcomes, texts.map((text) => (text.startsWith("bad") ? "invalid_json" : "stored")));
  assert.equal((await room.chat("after")).offset, 5);
  assert.equal(connections.length, 1);
});

test("a ping that is refused is no request", async () => {
  obey = (socket, message) => {
    if (message.type === "ping") say(socket, { type: "error", code: "rate_limited", message: "too many", id: message.id, retry_after_ms: 10 });
    else setTimeout(() => friendly(socket, message), 50);
  };
  const room = await open(url(), { token: "t" }).join("lobby");
  assert.equal((await room.chat("x")).offset, 5);
});

test("what has no JSON is the fault of one call, with a code", async () => {
  const room = await open(url(), { token: "t" }).join("lobby");
  const cycle: any = {};
  cycle.self = cycle;
  let deep: any = 0;
  for (let level = 0; level < 50_000; level++) deep = [deep];
  const angry = { toJSON: () => { throw new RangeError("no"); } };
  for (let round = 0; round < 20; round++) {
    for (const data of [10n, cycle, deep, angry]) {
      await assert.rejects(room.publish("e", data), { name: "GreenroomError", code: "invalid_message" });
    }
  }
  assert.equal((await room.chat("after")).offset, 5);
});

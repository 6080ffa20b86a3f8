// The client against servers that are killed, drained or busy, and through a network that cuts connections.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server as TcpServer, type Socket, connect as tcpConnect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach } from "node:test";
import type { GapEvent, RoomEvent, StateEvent } from "../src/index.js";
import { closeAll, open, pause, test, textsOf, until } from "./helpers.js";
import { Server, token } from "./server.js";

const servers: Server[] = [];
const folder = mkdtempSync(join(tmpdir(), "greenroom-"));
afterEach(async () => {
  closeAll();
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});
after(() => rmSync(folder, { recursive: true }));

async function started(starting: Promise<Server>): Promise<Server> {
  const server = await starting;
  servers.push(server);
  return server;
}

function numbers(count: number): string[] {
  return [...Array(count).keys()].map(String);
}

/** Between clients and a server; `cut` ends every connection at once, `hole` swallows all bytes of those there are. */
class Network {
  readonly #sockets = new Set<Socket>();
  private constructor(private readonly listener: TcpServer) {}

  static async before(server: Server): Promise<Network> {
    const listener = createServer((near) => {
      const far = tcpConnect(server.port, "127.0.0.1");
      for (const [one, other] of [[near, far], [far, near]] as const) {
        network.#sockets.add(one);
        one.on("error", () => {}).on("close", () => (network.#sockets.delete(one), other.destroy()));
        one.pipe(other);
      }
    });
    const network = new Network(listener);
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return network;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.listener.address() as AddressInfo).port}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  hole(): void {
    for (const socket of this.#sockets) socket.unpipe().resume();
  }

  close(): void {
    this.listener.close();
    this.cut();
  }
}

test("through a server killed again and again, everything sent is heard once and in order", async () => {
  let server = await started(Server.start({ engine: `sqlite:///${join(folder, "kills.db")}` }));
  const heard: RoomEvent[] = [];
  const reader = await open(server.url, { token: () => token("reader") }).join("log");
  reader.on("*", (event) => heard.push(event));
  const writer = await open(server.url, { token: () => token("writer") }).join("log");
  const sends: Array<Promise<number>> = [];
  for (let kill = 0; kill < 3; kill += 1) {
    for (let number = 0; number < 60; number += 1) {
      sends.push(writer.chat(`${sends.length}`).then(({ offset }) => offset!));
      await pause(2);
    }
    await server.stop("SIGKILL");
    for (let number = 0; number < 20; number += 1) sends.push(writer.chat(`${sends.length}`).then(({ offset }) => offset!));
    server = await started(server.again());
  }
  const offsets = await Promise.all(sends);
  await until(() => textsOf(heard).length >= sends.length, "the last event");
  assert.deepEqual(offsets, offsets.map((_, index) => index + 1));
  assert.deepEqual(textsOf(heard), numbers(sends.length));
  assert.equal(heard.filter(({ type }) => type === "gap").length, 0);
});

test("through a network that cuts connections, everything sent is heard once and in order", async () => {
  const server = await started(Server.start());
  const network = await Network.before(server);
  try {
    const heard: RoomEvent[] = [];
    const reader = await open(network.url, { token: token("reader"), backoffMs: [5, 20] }).join("log");
    reader.on("*", (event) => heard.push(event));
    const writer = await open(network.url, { token: token("writer"), backoffMs: [5, 20] }).join("log");
    const offsets: number[] = [];
    for (let number = 0; number < 500; number += 1) {
      void writer.chat(`${number}`).then(({ offset }) => offsets.push(offset!));
      if (number % 25 === 0) network.cut();
      await pause(Math.random() * 6);
    }
    await until(() => offsets.length === 500 && textsOf(heard).length >= 500, "the last event");
    assert.deepEqual(offsets, numbers(500).map((number) => Number(number) + 1));
    assert.deepEqual(textsOf(heard), numbers(500));
    assert.equal(heard.filter(({ type }) => type === "gap").length, 0);
  } finally {
    network.close();
  }
});

test("a connection that swallows everything is noticed by its silence", async () => {
  const server = await started(Server.start());
  const network = await Network.before(server);
  try {
    const client = open(network.url, { token: token("ann"), pingMs: 300, pongMs: 200 });
    const states: StateEvent[] = [];
    const room = await client.join("lobby");
    client.on("state", (event) => states.push(event));
    await pause(1000);
    // Pings are answered: nothing happened.
    assert.equal(states.length, 0);
    network.hole();
    const sent = await room.chat("out of the hole");
    assert.equal(sent.offset, 1);
    assert.deepEqual(states.map(({ state }) => state), ["waiting", "connecting", "open"]);
    assert.equal(states[0]!.reason, "the server does not answer");
  } finally {
    network.close();
  }
});

test("a server that has forgotten says so as a gap, and life goes on", async () => {
  const server = await started(Server.start());
  const room = await open(server.url, { token: token("ann") }).join("lobby");
  const gaps: GapEvent[] = [];
  room.on("gap", (event) => gaps.push(event));
  const before = await room.chat("before");
  await until(() => room.position!.offset === 1);
  await server.stop();
  await started(server.again());
  const again = await room.chat("after");
  assert.notEqual(again.epoch, before.epoch);
  assert.deepEqual(gaps, [
    { type: "gap", room: "lobby", since: { offset: 1, epoch: before.epoch }, until: { offset: 0, epoch: again.epoch } },
  ]);
  assert.deepEqual(room.position, { offset: 1, epoch: again.epoch });
});

test("what a short history no longer holds is a gap", async () => {
  const server = await started(Server.start({ settings: { GREENROOM_HISTORY__MESSAGES: "3" } }));
  const network = await Network.before(server);
  try {
    const reader = open(network.url, { token: token("reader"), backoffMs: [400, 400] });
    const room = await reader.join("lobby");
    const heard: RoomEvent[] = [];
    room.on("*", (event) => heard.push(event));
    const writer = await open(server.url, { token: token("writer") }).join("lobby");
    await writer.chat("0");
    await until(() => textsOf(heard).length === 1);
    // The token server is slow, and so there is time to be away.
    network.cut();
    await until(() => reader.state !== "open");
    for (let number = 1; number < 20; number += 1) await writer.chat(`${number}`);
    await until(() => room.state === "joined");
    await writer.chat("20");
    await until(() => textsOf(heard).includes("20"));
    const gaps = heard.filter((event) => event.type === "gap");
    const texts = textsOf(heard);
    // Whenever it came back: what it heard and what it was told to have missed make up everything.
    assert.equal(gaps.length, 1);
    const { since, until: end } = gaps[0] as GapEvent;
    assert.deepEqual(texts, numbers(21).filter((_, index) => index < since.offset || index >= end.offset));
  } finally {
    network.close();
  }
});

test("a drained server is left when it says, and sends made meanwhile are kept", async () => {
  const serving = {
    engine: `sqlite:///${join(folder, "drain.db")}`,
    settings: { GREENROOM_SERVER__DRAIN_SECONDS: "1" },
  };
  const server = await started(Server.start(serving));
  const client = open(server.url, { token: token("ann") });
  const states: StateEvent[] = [];
  const room = await client.join("lobby");
  client.on("state", (event) => states.push(event));
  const stopping = server.stop("SIGTERM");
  const sends: Array<Promise<unknown>> = [];
  while (client.state === "open") {
    sends.push(room.chat(`${sends.length}`));
    await pause(20);
  }
  await stopping;
  sends.push(room.chat(`${sends.length}`));
  assert.equal(states[0]!.code, 1012);
  // It waited as long as it was asked to; what comes then is the ordinary backoff.
  assert.ok(states[0]!.retryInMs! < 50, `${states[0]!.retryInMs}`);
  await started(server.again());
  await Promise.all(sends);
  assert.deepEqual(textsOf((await room.history()).messages), numbers(sends.length));
});

test("whoever cannot wait comes back at once", async () => {
  const server = await started(Server.start());
  const client = open(server.url, { token: token("ann"), backoffMs: [3_600_000, 3_600_000] });
  const room = await client.join("lobby");
  await server.stop();
  await until(() => client.state === "waiting");
  client.reconnectNow();
  await until(() => client.state === "waiting");
  await started(server.again());
  client.reconnectNow();
  await room.joined();
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  client.reconnectNow();
  await room.presence();
  client.close();
  client.reconnectNow();
  assert.deepEqual(states, ["closed"]);
});

test("after a clean stop the first waits are short again, however often there was none before", async () => {
  const server = await started(Server.start({ settings: { GREENROOM_SERVER__DRAIN_SECONDS: "0.2" } }));
  const serving = { port: server.port };
  await server.stop();
  const client = open(server.url, { token: token("ann"), backoffMs: [20, 100_000] });
  const waits: number[] = [];
  client.on("state", ({ retryInMs }) => retryInMs !== undefined && waits.push(retryInMs));
  await until(() => waits.length >= 3);
  const again = await started(Server.start(serving));
  await client.join("lobby");
  waits.length = 0;
  await again.stop("SIGTERM");
  await until(() => waits.length >= 2);
  assert.ok(waits[1]! <= 20, `${waits}`);
});

test("what is refused for its rate is sent later and once, and what was not under way keeps its order", async () => {
  const settings = { GREENROOM_LIMITS__MESSAGES_PER_SECOND: "100", GREENROOM_LIMITS__MESSAGES_BURST: "20" };
  const server = await started(Server.start({ settings }));
  const client = open(server.url, { token: token("ann") });
  const room = await client.join("lobby");
  const states: StateEvent[] = [];
  client.on("state", (event) => states.push(event));
  const acks = await Promise.all(numbers(150).map((text) => room.chat(text)));
  const texts = textsOf((await room.history()).messages);
  // Each at the offset that it was told.
  assert.deepEqual(acks.map(({ offset }) => texts[offset! - 1]), numbers(150));
  assert.equal(texts.length, 150);
  // Up to 32 were under way when the first was refused; only those may have changed places.
  assert.deepEqual(texts.filter((text) => Number(text) >= 100), numbers(150).slice(100));
  assert.deepEqual(states, []);
});

test("more rooms than the rate allows are all joined in the end", async () => {
  const settings = { GREENROOM_LIMITS__MESSAGES_PER_SECOND: "50", GREENROOM_LIMITS__MESSAGES_BURST: "5" };
  const server = await started(Server.start({ settings }));
  const client = open(server.url, { token: token("ann") });
  const rooms = numbers(30).map((name) => client.join(name));
  await Promise.all(rooms);
  assert.equal(client.state, "open");
  // A leave that is refused for its rate is made good, too.
  await Promise.all((await Promise.all(rooms)).slice(1).map((room) => room.leave()));
  await until(() => client.room("0").state === "joined");
  const left = await server.api("GET", "/api/rooms?limit=100");
  assert.equal(left.rooms.filter((room: any) => (room.size ?? room.room_size) > 0).length, 1);
});

test("an ephemeral event is not kept for later", async () => {
  const server = await started(Server.start());
  const room = await open(server.url, { token: token("ann") }).join("lobby");
  await server.stop();
  await until(() => room.state === "joining");
  // Whoever does not look meets no unhandled rejection.
  void room.publish("typing", null, { ephemeral: true });
  await assert.rejects(room.publish("typing", null, { ephemeral: true }), { code: "disconnected" });
});

test("a room left while away is not joined again", async () => {
  const server = await started(Server.start());
  const client = open(server.url, { token: token("ann") });
  const [room, other] = await Promise.all([client.join("left"), client.join("kept")]);
  await server.stop();
  await until(() => room.state === "joining");
  const sending = assert.rejects(room.chat("never"), { code: "left" });
  await room.leave();
  await sending;
  const again = await started(server.again());
  await other.chat("x");
  const { rooms } = await again.api("GET", "/api/rooms");
  assert.deepEqual(rooms.map(({ room: name }: any) => name), ["kept"]);
});

test("a room with a filter recovers what matches through lost connections, and is told of no gap", async () => {
  const server = await started(Server.start());
  const network = await Network.before(server);
  try {
    const post = (kind: string, n: number, more = "") =>
      server.api("POST", `/api/rooms/den/messages?tags=${encodeURIComponent(JSON.stringify({ kind }))}${more}`, { type: "note", from: "ann", n });
    const heard: RoomEvent[] = [];
    const numbersOf = () => heard.flatMap((event: any) => (event.type === "note" ? [event.n] : []));
    const room = await open(network.url, { token: token("bob") }).join("den", { tags: { kind: ["goal", "card"] } });
    room.on("*", (event) => heard.push(event));
    let n = 0;
    const wanted: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      for (const kind of ["other", "goal", "other", "card", "other"]) {
        n += 1;
        await post(kind, n);
        if (kind !== "other") wanted.push(n);
        if (n % 5 === 2) network.cut();
      }
    }
    await until(() => numbersOf().length === wanted.length && room.position?.offset === n, "all that matches");
    await post("goal", ++n, "&exclude_user=bob");
    await until(() => room.position?.offset === n, "the one that it is excluded from");
    assert.deepEqual(numbersOf(), wanted);
    assert.deepEqual(heard.filter(({ type }) => ["gap", "withheld"].includes(type)), []);
    const { messages } = await room.history({ limit: 3 });
    assert.deepEqual(messages.map(({ type, offset }: any) => [type, offset]), [["withheld", 1], ["note", 2], ["withheld", 3]]);

    const late = await open(server.url, { token: token("cas") }).join("den", { last: 2, tags: { kind: ["card"] } });
    const shown: RoomEvent[] = [];
    late.on("*", (event) => shown.push(event));
    await late.chat("a goal", { tags: { kind: "card" } });
    await late.publish("own", 1, { tags: { kind: "card" }, echo: false });
    await late.chat("the end", { tags: { kind: "card" } });
    await until(() => shown.some((event) => event.type === "chat" && event.text === "the end"), "the end");
    assert.deepEqual(
      shown.flatMap((event: any) => (event.type === "user_joined" ? [] : [event.n ?? event.text ?? event.type])),
      [14, 19, "a goal", "the end"],
    );
  } finally {
    network.close();
  }
});

// The client against a real server that runs all the time.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before } from "node:test";
import type { GreenroomError, Options, RoomEvent, StateEvent } from "../src/index.js";
import { closeAll, open, pause, test, textsOf, until } from "./helpers.js";
import { Server, token } from "./server.js";

let server: Server;
before(async () => {
  server = await Server.start({
    settings: { GREENROOM_WEBSOCKET__MESSAGE_BYTES: "10000", GREENROOM_LIMITS__TEXT_CHARACTERS: "10000" },
  });
});
after(() => server.stop());
afterEach(closeAll);

function fails(code: string): (error: unknown) => boolean {
  return (error) => (error as GreenroomError).code === code;
}

test("two clients talk, and see each other come and go", async () => {
  const ann = open(server.url, { token: token("ann") });
  const room = await ann.join("lobby");
  const heard: RoomEvent[] = [];
  room.on("*", (event) => heard.push(event));
  const bob = open(server.url, { token: async () => token("bob") });
  const bobs = await bob.join("lobby");
  const said = await bobs.chat("hello");
  assert.deepEqual(said, { room: "lobby", offset: 1, epoch: said.epoch });
  await bobs.leave();
  await until(() => heard.length === 4);
  assert.deepEqual(
    heard.map((event) => event.type),
    ["user_joined", "user_joined", "chat", "user_left"],
  );
  const [own, other, chat] = heard as any[];
  assert.deepEqual([own.user_id, own.room_size, other.user_id, other.room_size], ["ann", 1, "bob", 2]);
  assert.deepEqual([chat.user_id, chat.text, chat.offset, chat.epoch], ["bob", "hello", 1, said.epoch]);
  assert.deepEqual(room.position, { offset: 1, epoch: said.epoch });
});

test("published events carry any value; ephemeral ones are heard and not kept", async () => {
  const room = await open(server.url, { token: token("ann") }).join("values");
  const heard: unknown[] = [];
  room.on("event", ({ event, data, offset }) => heard.push([event, data, offset]));
  assert.equal((await room.publish("a", { x: [1, null, "é"] })).offset, 1);
  assert.equal((await room.publish("b", undefined)).offset, 2);
  assert.equal((await room.publish("c", 3, { ephemeral: true })).offset, undefined);
  assert.deepEqual(heard, [
    ["a", { x: [1, null, "é"] }, 1],
    ["b", null, 2],
    ["c", 3, undefined],
  ]);
  assert.deepEqual((await room.history()).messages.map(({ offset }) => offset), [1, 2]);
});

test("info and state", async () => {
  const ann = open(server.url, { token: token("ann", { info: { name: "Ann" } }) });
  const room = await ann.join("stage");
  const updates: any[] = [];
  room.on("presence_update", ({ type, ...update }) => updates.push(update));
  await room.setState({ typing: true });
  await room.setState(undefined);
  const { connections } = await room.presence({ by: "connection" });
  const connection = connections[0]!.connection;
  const shown = { user_id: "ann", connection, info: { name: "Ann" } };
  assert.deepEqual(connections, [shown]);
  assert.deepEqual(updates, [{ room: "stage", ...shown, state: { typing: true } }, { room: "stage", ...shown }]);
  assert.equal((await room.presence({ by: "count" })).user_count, 1);
  assert.deepEqual((await room.presence()).users, [{ user_id: "ann", connections: 1, info: { name: "Ann" } }]);
});

test("presence and history", async () => {
  const ann = open(server.url, { token: token("ann") });
  const room = await ann.join("past");
  const bob = open(server.url, { token: token("bob") });
  await Promise.all([bob.join("past"), open(server.url, { token: token("bob") }).join("past")]);
  const { users, room_size } = await room.presence();
  assert.equal(room_size, 3);
  assert.deepEqual(
    [...users].sort((a, b) => a.user_id.localeCompare(b.user_id)),
    [
      { user_id: "ann", connections: 1 },
      { user_id: "bob", connections: 2 },
    ],
  );
  await Promise.all(["1", "2", "3", "4"].map((text) => room.chat(text)));
  const all = await room.history();
  assert.deepEqual(textsOf(all.messages), ["1", "2", "3", "4"]);
  assert.deepEqual({ offset: all.offset, epoch: all.epoch }, room.position);
  const since = { offset: 1, epoch: all.epoch };
  assert.deepEqual(textsOf((await room.history({ since, limit: 2 })).messages), ["2", "3"]);
  assert.deepEqual(textsOf((await room.history({ reverse: true, limit: 1 })).messages), ["4"]);
});

test("many rooms share a connection, each with its own order", async () => {
  const client = open(server.url, { token: token("ann") });
  const names = Array.from({ length: 50 }, (_, number) => `many.${number}`);
  const rooms = await Promise.all(names.map((name) => client.join(name)));
  const acks = await Promise.all(rooms.flatMap((room) => [room.chat(`${room.name} 1`), room.chat(`${room.name} 2`)]));
  assert.deepEqual([acks[0]!.offset, acks[1]!.offset, acks[98]!.offset, acks[99]!.offset], [1, 2, 1, 2]);
  assert.deepEqual(textsOf((await rooms[7]!.history()).messages), ["many.7 1", "many.7 2"]);
  const { rooms: [one] } = await server.api("GET", "/api/rooms?prefix=many.7&limit=1");
  assert.equal(one.size ?? one.room_size, 1);
});

test("a room is the same object until it is left, and another one after", async () => {
  const client = open(server.url, { token: token("ann") });
  const room = client.room("twice");
  assert.equal(client.room("twice"), room);
  assert.equal(room.state, "joining");
  await room.joined();
  const leaving = room.leave();
  // At once, while the leave is under way.
  const again = client.room("twice");
  assert.notEqual(again, room);
  await Promise.all([leaving, again.joined()]);
  assert.deepEqual([room.state, again.state], ["left", "joined"]);
  assert.equal((await again.presence()).room_size, 1);
  await assert.rejects(room.chat("x"), fails("left"));
  await assert.rejects(room.joined(), fails("left"));
  assert.equal((await again.chat("y")).offset, 1);
});

test("what an application publishes comes under its own type", async () => {
  const room = await open(server.url, { token: token("7") }).join("user_7");
  const heard: any[] = [];
  room.on("order_update", (event) => heard.push(event));
  await server.api("POST", "/api/rooms/user_7/messages", { type: "order_update", order_id: 5 });
  await until(() => heard.length > 0);
  assert.deepEqual([heard[0].order_id, heard[0].offset], [5, 1]);
});

test("for await takes every event from the join on, and ends when we leave", async () => {
  const room = await open(server.url, { token: token("ann") }).join("loop");
  const heard: RoomEvent[] = [];
  const loop = (async () => {
    for await (const event of room) {
      heard.push(event);
      if (event.type === "chat" && event.text === "last") void room.leave();
    }
  })();
  for (const text of ["first", "second", "last"]) await room.chat(text);
  await loop;
  assert.deepEqual(
    heard.map((event) => event.type),
    ["user_joined", "chat", "chat", "chat", "left"],
  );
});

test("a loop that takes nothing is told that it is too slow", async () => {
  const room = await open(server.url, { token: token("ann") }).join("slow");
  const events = room.events({ buffer: 3 });
  for (const text of ["1", "2", "3", "4"]) await room.chat(text);
  const heard: RoomEvent[] = [];
  await assert.rejects(async () => {
    for await (const event of events) heard.push(event);
  }, fails("too_slow"));
  assert.deepEqual(textsOf(heard), ["1", "2"]);
});

test("whoever waits for a join hears what comes right after it", async () => {
  const bob = await open(server.url, { token: token("bob") }).join("race");
  let isOver = false;
  const talking = (async () => {
    while (!isOver) await bob.chat("x");
  })();
  for (let turn = 0; turn < 20; turn += 1) {
    const room = await open(server.url, { token: token("ann") }).join("race");
    const { offset } = room.position!;
    const first = await new Promise<number>((resolve) => room.on("chat", (event) => resolve(event.offset)));
    assert.equal(first, offset + 1);
  }
  isOver = true;
  await talking;
});

test("a room that the token does not allow is refused, and the others go on", async () => {
  const client = open(server.url, { token: token("ann", { rooms: ["a.*"] }) });
  const room = client.room("b");
  const left: unknown[] = [];
  room.on("left", ({ error }) => left.push(error?.code));
  await assert.rejects(client.join("b"), fails("forbidden"));
  assert.deepEqual([room.state, left], ["left", ["forbidden"]]);
  await assert.rejects(client.join(""), fails("invalid_message"));
  assert.equal((await client.join("a.1")).state, "joined");
});

test("what the token does not allow is refused with the server's code", async () => {
  const room = await open(server.url, { token: token("ann", { can: ["join"] }) }).join("quiet");
  await assert.rejects(room.chat("x"), fails("forbidden"));
  await assert.rejects(room.presence(), fails("forbidden"));
  await assert.rejects(room.history(), fails("forbidden"));
  await assert.rejects(room.publish("e", 1, { ephemeral: true }), fails("forbidden"));
});

test("a value that is no JSON is refused here", async () => {
  const room = await open(server.url, { token: token("ann") }).join("json");
  await assert.rejects(room.publish("big", 1n), fails("invalid_message"));
  assert.equal((await room.chat("x")).offset, 1);
});

test("a text cut within an emoji is said, however often, and so is every number", async () => {
  const room = await open(server.url, { token: token("ann") }).join("cut");
  const cut = ("x".repeat(9) + "💩").slice(0, 10);
  await Promise.all(Array.from({ length: 40 }, () => room.chat(cut)));
  await room.publish(cut, { [cut]: [cut, 2 ** 63, -(2 ** 64), 1e20, NaN] });
  const { messages } = await room.history();
  const whole = "x".repeat(9) + "\ufffd";
  assert.deepEqual(new Set(textsOf(messages)), new Set([whole]));
  const last = messages.at(-1) as any;
  assert.deepEqual([last.event, last.data], [whole, { [whole]: [whole, 2 ** 63, -(2 ** 64), 1e20, null] }]);
});

test("what no client could read is refused, for each request alone", async () => {
  const room = await open(server.url, { token: token("ann") }).join("odd");
  let deep: unknown = 1;
  for (let i = 0; i < 64; i += 1) deep = [deep];
  const refused = Array.from({ length: 40 }, () => room.publish("deep", deep));
  for (const { reason } of (await Promise.allSettled(refused)) as PromiseRejectedResult[]) assert.equal(reason.code, "invalid_message");
  await assert.rejects(open(server.url, { token: token("ann") }).join("\ud800"), fails("invalid_message"));
  assert.equal((await room.publish("not so deep", (deep as unknown[])[0])).offset, 1);
});

test("a message too big is rejected, and the others are sent", async () => {
  const room = await open(server.url, { token: token("ann") }).join("big");
  const sends = ["1", "x".repeat(20_000), "3"].map((text) => room.chat(text));
  const [first, second, third] = await Promise.allSettled(sends);
  assert.deepEqual([first!.status, second!.status, third!.status], ["fulfilled", "rejected", "fulfilled"]);
  assert.equal((second as PromiseRejectedResult).reason.code, "too_big");
  assert.deepEqual(textsOf((await room.history()).messages), ["1", "3"]);
});

test("being removed from a room ends that room only", async () => {
  const client = open(server.url, { token: token("eve") });
  const [room, other] = await Promise.all([client.join("out"), client.join("in")]);
  const loop = assert.rejects(async () => {
    for await (const _ of room);
  }, fails("removed"));
  await server.api("DELETE", "/api/rooms/out/users/eve");
  await loop;
  await assert.rejects(room.chat("x"), fails("left"));
  await other.chat("still here");
  assert.deepEqual([room.state, client.state], ["left", "open"]);
});

test("being removed from the server is for good", async () => {
  let asked = 0;
  const client = open(server.url, { token: () => (++asked, token("mallory")) });
  const states: StateEvent[] = [];
  client.on("state", (event) => states.push(event));
  const room = await client.join("gone");
  await server.api("DELETE", "/api/users/mallory");
  await until(() => client.state === "closed");
  const [last] = states.slice(-1);
  assert.deepEqual([last!.code, last!.error?.code, last!.error?.closeCode], [4004, "refused", 4004]);
  assert.equal(room.state, "left");
  await pause(500);
  assert.equal(asked, 1);
  assert.throws(() => client.room("x"), fails("refused"));
  await assert.rejects(client.join("x"), fails("refused"));
});

for (const [what, bad] of [
  ["a token of another secret", `${token("ann").slice(0, -3)}AAA`],
  ["no token at all", "nonsense"],
  ["null", null],
] as const) {
  test(`${what} stops the client for good`, async () => {
    let asked = 0;
    const client = open(server.url, { token: () => (++asked, bad) });
    const states: string[] = [];
    client.on("state", ({ state }) => states.push(state));
    await assert.rejects(client.join("lobby"), (error: any) => error.code === "refused" && error.closeCode === 4001);
    await pause(500);
    assert.deepEqual([asked, states.at(-1), states.includes("open")], [1, "closed", false]);
  });
}

test("a string that is a token that ran out stops the client for good", async () => {
  const client = open(server.url, { token: token("ann", { ttl: -10 }) });
  await assert.rejects(client.join("lobby"), (error: any) => error.code === "refused" && error.closeCode === 4001);
});

test("a token out of its time is asked for again, and told", async () => {
  let asked = 0;
  const client = open(server.url, { token: () => token("ann", { ttl: ++asked < 4 ? -10 : 60 }) });
  const errors: any[] = [];
  client.on("error", (error) => errors.push(error));
  await client.join("late");
  assert.equal(asked, 4);
  assert.deepEqual(errors.map(({ code, closeCode }) => [code, closeCode]), Array(3).fill(["bad_token", 4001]));
});

test("a token is replaced before it runs out, and nobody is told that its user left and came", async () => {
  let asked = 0;
  const others = await open(server.url, { token: token("bob") }).join("replaced");
  const heard: string[] = [];
  others.on("*", (event) => heard.push(event.type));
  const client = open(server.url, { token: () => token("ann", { ttl: ++asked === 1 ? 3 : 60 }) });
  const states: string[] = [];
  client.on("state", ({ state }) => states.push(state));
  const room = await client.join("replaced");
  await pause(4_500);
  await room.chat("still here");
  assert.deepEqual([asked, states, heard], [2, ["open"], ["user_joined", "user_joined", "chat"]]);
});

test("a room that the new token does not allow is left, and the others are not", async () => {
  let asked = 0;
  const client = open(server.url, { token: () => token("ann", ++asked === 1 ? { ttl: 2 } : { rooms: ["kept"] }) });
  const [kept, dropped] = await Promise.all([client.join("kept"), client.join("dropped")]);
  const errors: any[] = [];
  dropped.on("left", ({ error }) => errors.push(error?.code));
  await until(() => dropped.state === "left");
  await kept.chat("here");
  assert.deepEqual([errors, asked], [["removed"], 2]);
});

test("a page that was loaded anew goes on from the position that it kept", async () => {
  const before = open(server.url, { token: token("ann") });
  const first = await before.join("reload");
  await first.chat("1");
  const kept = JSON.parse(JSON.stringify(first.position));
  before.close();
  const bob = await open(server.url, { token: token("bob") }).join("reload");
  for (const text of ["2", "3"]) await bob.chat(text);
  const room = open(server.url, { token: token("ann") }).room("reload", { since: kept });
  assert.deepEqual(room.position, kept);
  const heard: RoomEvent[] = [];
  room.on("*", (event) => heard.push(event));
  await until(() => textsOf(heard).length === 2);
  assert.deepEqual([textsOf(heard), (heard[0] as any).recovered], [["2", "3"], true]);
  // One of another epoch is told as a gap, and nothing kept (null) is a first visit.
  const stale = open(server.url, { token: token("ann") }).room("reload", { since: { offset: 1, epoch: "gone" } });
  const types: string[] = [];
  stale.on("*", (event) => types.push(event.type));
  await stale.joined();
  const fresh = await open(server.url, { token: token("ann") }).join("reload", { since: null });
  assert.deepEqual([types.slice(0, 2), stale.position, fresh.position], [["joined", "gap"], room.position, room.position]);
});

test("a join brings the newest events, for those who wait for it as well, and none twice", async () => {
  const bob = await open(server.url, { token: token("bob") }).join("newest");
  for (const text of ["1", "2", "3"]) await bob.chat(text);
  const client = open(server.url, { token: token("ann") });
  const room = await client.join("newest", { last: 2 });
  const heard: RoomEvent[] = [];
  room.on("*", (event) => heard.push(event));
  await bob.chat("4");
  await until(() => textsOf(heard).length === 3);
  assert.deepEqual([textsOf(heard), heard.some((event) => event.type === "gap")], [["2", "3", "4"], false]);
  const other = open(server.url, { token: token("cas") }).room("newest", { last: 1 });
  const types: string[] = [];
  other.on("*", (event) => types.push(event.type));
  await other.joined();
  await until(() => types.length > 1);
  assert.deepEqual(types.slice(0, 2), ["joined", "chat"]);
});

test("a token that ran out, as no other was to be had, is replaced, and nothing is lost or heard twice", async () => {
  let asked = 0;
  let isOpen = false;
  const client = open(server.url, {
    token: () => {
      if (isOpen) throw new Error("no other token now");
      return token("ann", { ttl: ++asked === 1 ? 2 : 60 });
    },
  });
  client.on("state", ({ state }) => (isOpen = state === "open"));
  const room = await client.join("expiry");
  const heard: RoomEvent[] = [];
  const codes: unknown[] = [];
  room.on("*", (event) => heard.push(event));
  client.on("state", ({ state, code }) => state === "waiting" && codes.push(code));
  const bob = await open(server.url, { token: token("bob") }).join("expiry");
  for (let number = 0; asked < 2 || number < 5; number += 1) {
    await bob.chat(`${number}`);
    await pause(50);
  }
  await bob.chat("end");
  await until(() => textsOf(heard).includes("end"));
  assert.deepEqual(codes, [4101]);
  const texts = textsOf(heard);
  assert.deepEqual(texts, [...texts.slice(0, -1).keys()].map(String).concat("end"));
  assert.equal(heard.filter((event) => event.type === "gap").length, 0);
});

test("a callback that fails is asked again", async () => {
  const errors: unknown[] = [];
  let asked = 0;
  const client = open(server.url, {
    token: async () => {
      if (++asked < 3) throw new Error("the token service is away");
      return token("ann");
    },
  });
  client.on("error", (error) => errors.push(String(error)));
  await client.join("lobby");
  assert.equal(asked, 3);
  assert.deepEqual(new Set(errors), new Set(["Error: the token service is away"]));
});

test("white space around a token does no harm, whether it is given or asked for", async () => {
  const padded = `\n ${token("ann")} \r\n`;
  for (const given of [padded, () => padded]) {
    assert.equal((await open(server.url, { token: given }).join("padded")).state, "joined");
  }
});

test("the README's example talks, though at first there is no token to be had", async () => {
  // Tests are built to .tests/, beside the README.
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const example = /```js\n(.*?)```/s.exec(readme)![1]!.replace(/^import .*\n/, "");
  let asked = 0;
  const get = async () => (++asked === 1 ? new Response("unavailable", { status: 503 }) : new Response(`${token("ann")}\n`));
  const connect = (_: string, options: Options) => open(server.url, options);
  const bob = await open(server.url, { token: token("bob") }).join("lobby");
  const heard: RoomEvent[] = [];
  bob.on("*", (event) => heard.push(event));
  const AsyncFunction = (async () => {}).constructor as any;
  const logged: unknown[][] = [];
  const log = (...line: unknown[]) => logged.push(line);
  const running = new AsyncFunction("connect", "fetch", "console", example)(connect, get, { log, error() {} });
  // The last thing it does before it listens for as long as there is a client.
  await until(() => logged.some(([presence]: any) => presence.room_size === 2));
  assert.deepEqual([textsOf(heard), heard.at(-1)?.type, asked], [["hello"], "event", 2]);
  closeAll();
  await running;
});

test("close ends everything, once", async () => {
  const client = open(server.url, { token: token("ann") });
  const room = await client.join("closing");
  const states: StateEvent[] = [];
  client.on("state", (event) => states.push(event));
  const loop = (async () => {
    for await (const _ of room);
  })();
  const sending = room.chat("x");
  client.close();
  client.close();
  await assert.rejects(sending, fails("closed"));
  await loop;
  assert.deepEqual([states, client.state, room.state], [[{ state: "closed" }], "closed", "left"]);
  assert.throws(() => client.room("closing"), fails("closed"));
  const watcher = await open(server.url, { token: token("bob") }).join("closing");
  await until(() => watcher.position !== null);
  assert.equal((await watcher.presence()).room_size, 1);
});

test("without any WebSocket there is a clear error", async () => {
  const { connect } = await import("../src/index.js");
  assert.throws(() => connect(server.url, { token: "x" }), /give one as an option/);
}, { skip: "WebSocket" in globalThis });

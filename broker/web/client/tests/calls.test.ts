// Calls of methods of a room, which an application beside the server answers through a hook.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before } from "node:test";
import type { RoomEvent } from "../src/index.js";
import { closeAll, open, test } from "./helpers.js";
import { Server, token } from "./server.js";

let server: Server;
/** What the application answers to a question; it may take its time. */
let answer: (ask: any) => Promise<object> | object;
const folder = mkdtempSync(join(tmpdir(), "calls-"));
const application = createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  response.end(JSON.stringify(await answer(JSON.parse(body))));
});

before(async () => {
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  const config = join(folder, "greenroom.toml");
  const lines = [
    "[[hooks]]",
    'on = ["call"]',
    'rooms = ["shop*"]',
    `url = "http://127.0.0.1:${(application.address() as AddressInfo).port}/"`,
    'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"',
    "timeout_seconds = 60",
  ];
  writeFileSync(config, lines.join("\n"), { mode: 0o600 });
  server = await Server.start({ config });
});
after(async () => {
  await server.stop();
  application.close();
  application.closeAllConnections();
  rmSync(folder, { recursive: true });
});
afterEach(closeAll);

test("a call is answered or refused by the application, and is no event", async () => {
  const client = open(server.url, { token: token("ann") });
  const room = await client.join("shop");
  const events: RoomEvent[] = [];
  room.on("*", (event) => events.push(event));
  answer = ({ call: { id: _id, ...call }, room, user_id }) => ({ allow: true, data: { call, room, user_id } });
  assert.deepEqual(await room.call<object>("status", { order: 5 }), {
    call: { method: "status", data: { order: 5 } },
    room: "shop",
    user_id: "ann",
  });
  answer = ({ call }) => ({ allow: true, data: call.data });
  for (const data of [0, false, "", null, []]) assert.deepEqual(await room.call("echo", data), data);
  assert.equal(await room.call("echo"), null);
  answer = () => ({ allow: false, reason: "no such order" });
  await assert.rejects(room.call("status", { order: 6 }), { code: "forbidden", message: "no such order" });
  await assert.rejects(room.call(""), { code: "invalid_message" });
  const other = await client.join("lobby");
  await assert.rejects(other.call("status"), { code: "forbidden", message: "nothing answers calls in this room" });
  assert.deepEqual(events.filter(({ type }) => type !== "user_joined"), []);
});

test("a service's message of the type result is an event, and answers no call that waits", async () => {
  const room = await open(server.url, { token: token("bob") }).join("shop 2");
  const heard = new Promise<any>((resolve) => room.on("result", resolve));
  answer = async ({ call }) => {
    await server.api("POST", "/api/rooms/shop 2/messages", { type: "result", id: call.id, data: "of a service" });
    await heard;
    return { allow: true, data: "of the application" };
  };
  assert.equal(await room.call("status"), "of the application");
  const { type, data, room: name, offset } = await heard;
  assert.deepEqual({ type, data, name, offset }, { type: "result", data: "of a service", name: "shop 2", offset: 1 });
});

test("a call whose answer was lost with the connection is repeated with its id", async () => {
  const room = await open(server.url, { token: token("cid") }).join("shop 3");
  const ids: string[] = [];
  answer = async ({ call }) => {
    ids.push(call.id);
    if (ids.length === 1) {
      await server.stop();
      server = await server.again();
    }
    return { allow: true, data: ids.length };
  };
  assert.equal(await room.call("count"), 2);
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
});

// The reasons of an application whose hooks refuse something, as a page gets them.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before } from "node:test";
import { GreenroomError, type StateEvent } from "../src/index.js";
import { closeAll, open, test, until } from "./helpers.js";
import { Server, token } from "./server.js";

const folder = mkdtempSync(join(tmpdir(), "hooks-"));
let server: Server | undefined;

/** Refuses the user `eve`, the room `closed` and each message that says or is named `bad`. */
function decide({ type, user_id, room, message }: any): object {
  if (type === "connect") return { allow: user_id !== "eve", reason: "your account is closed" };
  if (type === "join") return { allow: room !== "closed", reason: "the order is paid" };
  return { allow: ![message.text, message.event].includes("bad"), reason: "mind your words" };
}

const application = createServer(async (request, response) => {
  let question = "";
  for await (const part of request.setEncoding("utf8")) question += part;
  response.end(JSON.stringify(decide(JSON.parse(question))));
});

before(async () => {
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  const url = `http://127.0.0.1:${(application.address() as AddressInfo).port}`;
  const config = join(folder, "greenroom.toml");
  const secret = `whsec_${randomBytes(32).toString("base64")}`;
  writeFileSync(config, `[[hooks]]\non = ["connect", "join", "publish"]\nurl = "${url}"\nsecret = "${secret}"\ntimeout_seconds = 30\n`);
  server = await Server.start({ config });
});
afterEach(closeAll);
after(async () => {
  await server?.stop();
  application.close();
  application.closeAllConnections();
  rmSync(folder, { recursive: true });
});

const refusal = (code: string, message: string, closeCode?: number) => (error: unknown) => {
  assert.ok(error instanceof GreenroomError);
  assert.deepEqual([error.code, error.message, error.closeCode], [code, message, closeCode]);
  return true;
};

test("a join that the application refuses rejects with its reason, and the others go on", async () => {
  const client = open(server!.url, { token: token("ann") });
  const left: unknown[] = [];
  const room = client.room("closed");
  room.on("left", ({ error }) => left.push(error?.message));
  await assert.rejects(client.join("closed"), refusal("forbidden", "the order is paid"));
  assert.deepEqual([room.state, left], ["left", ["the order is paid"]]);
  assert.equal((await client.join("lobby")).state, "joined");
});

test("a message that the application refuses rejects with its reason, and the next is published", async () => {
  const room = await open(server!.url, { token: token("ann") }).join("talk");
  await assert.rejects(room.chat("bad"), refusal("forbidden", "mind your words"));
  await assert.rejects(room.publish("bad", 1), refusal("forbidden", "mind your words"));
  await assert.rejects(room.publish("bad", 1, { ephemeral: true }), refusal("forbidden", "mind your words"));
  assert.equal((await room.chat("good")).offset, 1);
});

test("a connection that the application refuses is closed for good, with its reason", async () => {
  const client = open(server!.url, { token: token("eve") });
  const states: StateEvent[] = [];
  client.on("state", (event) => states.push(event));
  const isRefused = refusal("refused", "your account is closed (4003)", 4003);
  await assert.rejects(client.join("lobby"), isRefused);
  await until(() => client.state === "closed");
  const { error, ...closed } = states.at(-1)!;
  assert.deepEqual(closed, { state: "closed", code: 4003, reason: "your account is closed" });
  assert.ok(isRefused(error));
});

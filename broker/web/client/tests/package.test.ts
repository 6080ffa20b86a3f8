// What `npm pack` makes, as somebody who installed it has it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { test } from "./helpers.js";

// Tests are built to .tests/, beside the package's own files.
const OWN = fileURLToPath(new URL("..", import.meta.url));
let folder: string;
let archive: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "greenroom-package-"));
  const installed = join(folder, "node_modules", "greenroom-client");
  mkdirSync(installed, { recursive: true });
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: OWN, stdio: ["ignore", "pipe", "ignore"] });
  const { version } = JSON.parse(readFileSync(join(OWN, "package.json"), "utf8"));
  archive = join(folder, `greenroom-client-${version}.tgz`);
  execFileSync("tar", ["-xzf", archive, "-C", installed, "--strip-components=1"]);
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
});
after(() => rmSync(folder, { recursive: true }));

test("it is an ES module with two exports", () => {
  const script = 'import * as all from "greenroom-client"; console.log(Object.keys(all).sort().join())';
  const printed = execFileSync("node", ["--input-type=module", "--eval", script], { cwd: folder, encoding: "utf8" });
  assert.equal(printed.trim(), "GreenroomError,connect");
});

test("it holds what is needed and nothing else", () => {
  const files = execFileSync("tar", ["-tzf", archive], { encoding: "utf8" });
  const names = files.trim().split("\n").sort();
  assert.deepEqual(names, ["README.md", "dist/greenroom.d.ts", "dist/greenroom.js", "package.json"].map((name) => `package/${name}`));
});

const GOOD = `
import { connect, type Client, type GapEvent, type Room } from "greenroom-client";
declare module "greenroom-client" { interface RoomEvents { order_update: { type: "order_update"; order_id: number } } }
const client: Client = connect("/", { token: async () => "t", WebSocket });
const room: Room = await client.join("lobby");
room.on("chat", ({ text, offset }) => text.repeat(offset));
room.on("gap", (gap: GapEvent) => gap.since.offset);
room.on("order_update", ({ order_id }) => order_id.toFixed());
room.on("something_else", (event) => event.offset);
for await (const event of room) if (event.type === "chat") event.text.trim(); else if (event.type === "left") event.error?.code;
const { offset } = await room.publish("e", {}, { ephemeral: true });
export const next: number = (offset ?? 0) + 1;
`;

for (const [what, source, isRight] of [
  ["are what a strict program can use", GOOD, true],
  ["refuse a text that is none", 'import type { Room } from "greenroom-client"; export const f = (room: Room) => room.chat(1);', false],
  ["refuse a client without a token", 'import { connect } from "greenroom-client"; connect("/", {});', false],
] as const) {
  test(`its types ${what}`, () => {
    const file = join(folder, "user.ts");
    writeFileSync(file, source);
    const options = "--noEmit --strict --module nodenext --target es2022 --lib es2022,dom --types node".split(" ");
    const run = () => execFileSync(join(OWN, "node_modules/.bin/tsc"), ["--ignoreConfig", ...options, "--typeRoots", join(OWN, "node_modules/@types"), file], { cwd: folder, stdio: "pipe" });
    if (isRight) run();
    else assert.throws(run, /Command failed/);
  });
}

// A token that is replaced on an open connection: when, with what, and what happens when there is no better one.

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { expiryOf, Refresh } from "../src/refresh.js";
import { test } from "./helpers.js";

const jwt = (claims: object | string) =>
  `h.${Buffer.from(typeof claims === "string" ? claims : JSON.stringify(claims)).toString("base64url")}.s`;

/** A Refresh whose tokens, errors and timers are the test's. */
function begin(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
  const seen = {
    sent: [] as string[],
    errors: [] as unknown[],
    asked: 0,
    ended: 0,
    next: (): string | null | Promise<string | null> => null,
    /** Let time pass, and what waits for tokens go on. */
    async pass(ms: number) {
      t.mock.timers.tick(ms);
      for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    },
  };
  const refresh = new Refresh({
    token: async () => (seen.asked++, seen.next()),
    send: (text) => seen.sent.push(JSON.parse(text).token),
    failed: (error) => seen.errors.push(error),
    ended: () => (seen.ended += 1),
    backoffMs: (failures) => 1_000 * 2 ** failures,
  });
  return { refresh, seen };
}

test("the expiry of a token", () => {
  assert.equal(expiryOf(jwt({ sub: "é€😀", exp: 17 })), 17);
  assert.equal(expiryOf(jwt({ sub: "ann" })), Infinity);
  for (const bad of ["", "t", "a.b.c", jwt("null"), jwt("{")]) assert.ok(Number.isNaN(expiryOf(bad)), bad);
});

test("a token is replaced when 75 to 85 % of its time are over, again and again, and no more without an end", async (t) => {
  const { refresh, seen } = begin(t);
  const [first, second, third] = [jwt({ exp: 100 }), jwt({ exp: 200 }), jwt({})];
  refresh.start(first);
  refresh.answered({ expires_at: 100, expires_in_ms: 60_000 });
  seen.next = () => second;
  await seen.pass(50_990);
  assert.deepEqual(seen.sent, [first]);
  await seen.pass(20);
  assert.deepEqual(seen.sent, [first, second]);
  refresh.answered({ expires_at: 200, expires_in_ms: 60_000 });
  seen.next = () => third;
  await seen.pass(51_000);
  refresh.answered({ expires_at: null as unknown as number });
  await seen.pass(10 ** 9);
  assert.deepEqual([seen.sent, seen.errors], [[first, second, third], []]);
});

test("a token that holds for months does not overrun the timer", async (t) => {
  const { refresh, seen } = begin(t);
  refresh.start(jwt({ exp: 10 ** 9 }));
  refresh.answered({ expires_at: 10 ** 9, expires_in_ms: 10 ** 11 });
  await seen.pass(2 ** 31 - 2);
  assert.equal(seen.asked, 0);
});

test("what is no better is never sent: it is asked for again, with backoff, and each time told", async (t) => {
  const { refresh, seen } = begin(t);
  const first = jwt({ exp: 100 });
  const given: Array<() => string | Promise<string>> = [
    () => first,
    () => jwt({ exp: 99 }),
    () => "error",
    () => Promise.reject(new Error("away")),
    () => jwt({ exp: 101 }),
  ];
  seen.next = () => given[seen.asked - 1]!();
  refresh.start(first);
  refresh.answered({ expires_at: 100, expires_in_ms: 10_000 });
  for (const [ms, asked] of [[8_500, 1], [990, 1], [10, 2], [2_000, 3], [4_000, 4], [8_000, 5]] as const) {
    await seen.pass(ms);
    assert.equal(seen.asked, asked);
  }
  assert.deepEqual(seen.sent, [first, jwt({ exp: 101 })]);
  assert.deepEqual(
    seen.errors.map((error: any) => error.code ?? error.message),
    ["bad_token", "bad_token", "bad_token", "away"],
  );
});

test("tokens that hold for a moment only are not asked for without pause", async (t) => {
  const { refresh, seen } = begin(t);
  let exp = 100;
  seen.next = () => jwt({ exp: ++exp });
  refresh.start(jwt({ exp }));
  for (let turn = 0; turn < 10; turn += 1) {
    refresh.answered({ expires_at: exp, expires_in_ms: -5 });
    await seen.pass(999);
  }
  assert.equal(seen.asked, 0);
});

test("a refresh that is not answered is made again", async (t) => {
  const { refresh, seen } = begin(t);
  seen.next = () => jwt({ exp: 200 });
  refresh.start(jwt({ exp: 100 }));
  await seen.pass(10_000);
  assert.deepEqual(seen.sent, [jwt({ exp: 100 }), jwt({ exp: 200 })]);
});

test("a token that comes when its connection is gone is not sent, and null ends the client", async (t) => {
  const { refresh, seen } = begin(t);
  let give: (token: string | null) => void = () => {};
  seen.next = () => new Promise((resolve) => (give = resolve));
  refresh.start(jwt({ exp: 100 }));
  await seen.pass(10_000);
  refresh.stop();
  refresh.start(jwt({ exp: 100 }));
  give(jwt({ exp: 200 }));
  await seen.pass(0);
  assert.deepEqual([seen.sent.length, seen.ended], [2, 0]);
  await seen.pass(10_000);
  give(null);
  await seen.pass(10 ** 6);
  assert.deepEqual([seen.sent.length, seen.ended, seen.errors], [2, 1, []]);
});

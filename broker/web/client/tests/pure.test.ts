import assert from "node:assert/strict";
import { addressOf } from "../src/address.js";
import { backoffMs, isCleanStop, isFinal, isOutOfTime } from "../src/backoff.js";
import { Emitter } from "../src/emitter.js";
import { look } from "../src/liveness.js";
import { isComplete, placeOf } from "../src/position.js";
import { EventStream } from "../src/stream.js";
import { GreenroomError } from "../src/types.js";
import { test } from "./helpers.js";

test("40xx and 1000 are final, and nothing else", () => {
  for (const code of [1000, 4000, 4001, 4003, 4004, 4099]) assert.equal(isFinal(code), true, `${code}`);
  for (const code of [1001, 1006, 1009, 1011, 1012, 1013, 3000, 3999, 4100, 4101, 4108, 4110, 4129]) {
    assert.equal(isFinal(code), false, `${code}`);
  }
});

test("the longest wait doubles from the first limit to the last, and any shorter one may come", () => {
  const longest = [0, 1, 2, 3, 4, 5, 6, 1000, 5000].map((failures) => backoffMs(failures, [1000, 30_000], 1, Infinity));
  assert.deepEqual(longest, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
  assert.equal(backoffMs(3, [1000, 30_000], 0, Infinity), 0);
  assert.equal(backoffMs(3, [1000, 30_000], 0.25, Infinity), 2000);
});

test("no wait is longer than five times the first, or a quarter of the time without a connection", () => {
  const longest = [0, 10_000, 20_000, 24_000, 60_000, 120_000, 10 ** 9].map((down) => backoffMs(50, [1000, 30_000], 1, down));
  assert.deepEqual(longest, [5000, 5000, 5000, 6000, 15_000, 30_000, 30_000]);
  assert.equal(backoffMs(50, [1000, 3000], 1, 0), 3000);
  // However long a server was away, and whatever is drawn, nobody comes back more than that after it.
  for (let trial = 0; trial < 500; trial += 1) {
    const returnsAt = Math.random() * 100_000;
    let now = 0;
    for (let failures = 0; now < returnsAt; failures += 1) now += backoffMs(failures, [1000, 30_000], Math.random(), now);
    assert.ok(now - returnsAt <= Math.max(5000, returnsAt / 4), `${returnsAt}: ${now}`);
  }
});

test("a token that is out of its time is told from one that never fits, by the server's reason", () => {
  for (const reason of ["token has expired (exp)", "token is not valid yet (nbf)"]) {
    assert.equal(isOutOfTime(4001, reason), true);
    assert.equal(isOutOfTime(4003, reason), false);
  }
  for (const reason of ["", "token signature is wrong", "no token has expired"]) assert.equal(isOutOfTime(4001, reason), false);
});

test("a server that stops in order says so by its code", () => {
  assert.deepEqual([1001, 1006, 1011, 1012, 1013, 4101].filter(isCleanStop), [1001, 1012]);
});

test("a silent server is asked, and given up when it does not answer in time", () => {
  const looked = (now: number, heardAt: number, askedAt: number | null) =>
    look(now - heardAt, askedAt === null ? null : now - askedAt, 25, 10);
  assert.deepEqual(looked(100, 90, null), { todo: "wait", nextLookMs: 15 });
  assert.deepEqual(looked(115, 90, null), { todo: "ask", nextLookMs: 10 });
  assert.deepEqual(looked(118, 90, 115), { todo: "wait", nextLookMs: 7 });
  assert.deepEqual(looked(125, 90, 115), { todo: "give up" });
  // It answered: the silence begins anew.
  assert.deepEqual(looked(125, 116, null), { todo: "wait", nextLookMs: 16 });
});

test("an event is the next, was heard before, or has a gap before it", () => {
  const last = { offset: 5, epoch: "a" };
  assert.equal(placeOf(last, { offset: 6, epoch: "a" }), "next");
  for (const offset of [1, 5]) assert.equal(placeOf(last, { offset, epoch: "a" }), "old");
  assert.equal(placeOf(last, { offset: 7, epoch: "a" }), "after gap");
  for (const offset of [1, 5, 6]) assert.equal(placeOf(last, { offset, epoch: "b" }), "after gap");
});

test("coming back to where one was misses nothing, whether the server kept a history or not", () => {
  const since = { offset: 5, epoch: "a" };
  assert.equal(isComplete(since, { offset: 9, epoch: "a", recovered: true }), true);
  assert.equal(isComplete(since, { offset: 5, epoch: "a", recovered: false }), true);
  assert.equal(isComplete(since, { offset: 9, epoch: "a", recovered: false }), false);
  assert.equal(isComplete(since, { offset: 5, epoch: "b", recovered: false }), false);
});

test("addresses", () => {
  const pairs = {
    "http://a.example": "ws://a.example/ws",
    "https://a.example:8443/": "wss://a.example:8443/ws",
    "ws://a.example/ws": "ws://a.example/ws",
    "wss://a.example/rooms/": "wss://a.example/rooms/ws",
    "https://a.example/ws/?x=1#y": "wss://a.example/ws?x=1",
  };
  for (const [given, made] of Object.entries(pairs)) assert.equal(addressOf(given), made);
  for (const bad of ["ftp://a.example", "a.example", ""]) assert.throws(() => addressOf(bad), TypeError);
});

test("a listener that throws hinders no other, and its error is not swallowed", ({ mock }) => {
  const emitter = new Emitter();
  const heard: unknown[] = [];
  const later = mock.method(globalThis, "queueMicrotask", () => {});
  const stop = emitter.on("a", () => {
    stop();
    throw new Error("mine");
  });
  emitter.on("a", (event) => heard.push(event));
  emitter.emit("a", 1);
  emitter.emit("a", 2);
  assert.deepEqual(heard, [1, 2]);
  assert.equal(later.mock.callCount(), 1);
  assert.throws(later.mock.calls[0]!.arguments[0] as () => void, /mine/);
});

test("a stream gives out what is queued before it ends", async () => {
  let ends = 0;
  const stream = new EventStream<number>(10, () => (ends += 1));
  const first = stream.next();
  for (const value of [1, 2, 3]) stream.push(value);
  stream.end();
  stream.push(4);
  const heard = [(await first).value];
  for await (const value of stream) heard.push(value);
  assert.deepEqual(heard, [1, 2, 3]);
  assert.equal(ends, 1);
});

test("a stream that nobody empties fails once it is full, after what it holds", async () => {
  const stream = new EventStream<number>(2, () => {});
  for (const value of [1, 2, 3, 4]) stream.push(value);
  const heard: number[] = [];
  await assert.rejects(
    async () => {
      for await (const value of stream) heard.push(value);
    },
    (error) => error instanceof GreenroomError && error.code === "too_slow",
  );
  assert.deepEqual(heard, [1, 2]);
  assert.deepEqual(await stream.next(), { value: undefined, done: true });
});

test("leaving a loop ends its stream", async () => {
  let ends = 0;
  const stream = new EventStream<number>(2, () => (ends += 1));
  stream.push(1);
  for await (const _ of stream) break;
  assert.equal(ends, 1);
  stream.push(2);
  assert.deepEqual(await stream.next(), { value: undefined, done: true });
});

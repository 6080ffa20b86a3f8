import assert from "node:assert/strict";
import { type Kind, Requests } from "../src/requests.js";
import { GreenroomError } from "../src/types.js";
import { test } from "./helpers.js";

/** Requests, and what became of each: its answer, or the code of its error. */
function world() {
  const requests = new Requests();
  const ended: Record<string, unknown> = {};
  const rooms: Record<string, "now" | "later" | "never"> = {};
  const add = (id: string, kind: Kind = "send", room = "lobby", text = id) =>
    requests.add({
      id,
      room,
      kind,
      text,
      when: () => rooms[room] ?? "now",
      resolve: (answer) => (ended[id] = answer),
      reject: (error) => (ended[id] = error.code),
    });
  return { requests, ended, rooms, add };
}

const left = new GreenroomError("left", "left");

test("each is written once, in order, and settled by its id", () => {
  const { requests, ended, add } = world();
  for (const id of ["1", "2", "3"]) add(id);
  assert.deepEqual(requests.take(0), ["1", "2", "3"]);
  assert.deepEqual(requests.take(0), []);
  requests.settle("2", "ok");
  requests.settle("2", "again");
  requests.settle("9", "unknown");
  assert.deepEqual(ended, { 2: "ok" });
});

test("no more than 32 are unanswered at once", () => {
  const { requests, add } = world();
  for (let id = 0; id < 100; id += 1) add(`${id}`);
  assert.equal(requests.take(0).length, 32);
  requests.settle("0", "ok");
  assert.deepEqual(requests.take(0), ["32"]);
});

test("after a refusal everything waits, then goes one by one and in order until nothing waits", () => {
  const { requests, add } = world();
  for (const id of ["1", "2", "3", "4"]) add(id);
  requests.take(0);
  requests.settle("1", "ok");
  const pauses = ["2", "3", "4"].map((id) => requests.postpone(id)!);
  for (const pause of pauses) {
    assert.deepEqual(requests.take(100), []);
    requests.resume(pause);
  }
  assert.deepEqual(requests.take(100), ["2"]);
  assert.deepEqual(requests.take(100), []);
  for (const [id, next] of [["2", "3"], ["3", "4"]] as const) {
    requests.settle(id, "ok");
    assert.deepEqual(requests.take(100), [next]);
  }
  requests.settle("4", "ok");
  for (const id of ["5", "6"]) add(id);
  assert.deepEqual(requests.take(100), ["5", "6"]);
  assert.equal(requests.postpone("9"), null);
});

test("a pause is over with its connection, and resumed late it ends no other", () => {
  const { requests, add } = world();
  add("1");
  requests.take(0);
  const late = requests.postpone("1")!;
  requests.lose();
  assert.deepEqual(requests.take(0), ["1"]);
  requests.postpone("1");
  requests.resume(late);
  assert.deepEqual(requests.take(0), []);
});

test("after a lost connection what was not answered is written again, but not what is stale", () => {
  const { requests, ended, add } = world();
  add("send");
  add("ask", "ask");
  add("once", "once");
  requests.take(0);
  add("unsent");
  requests.lose();
  assert.deepEqual(ended, { once: "disconnected" });
  assert.deepEqual(requests.take(1000), ["send", "ask", "unsent"]);
});

test("what the server may have stored and will not know again is given up", () => {
  const { requests, ended, add } = world();
  add("send");
  add("ask", "ask");
  requests.take(1000);
  add("unsent");
  requests.lose();
  requests.lose();
  assert.deepEqual(requests.take(241_001), ["ask", "unsent"]);
  assert.deepEqual(ended, { send: "uncertain" });
});

test("what the server refused was not stored: it may wait as long as it takes", () => {
  const { requests, ended, add } = world();
  add("send");
  requests.take(0);
  requests.postpone("send");
  requests.lose();
  assert.deepEqual(requests.take(1_000_000), ["send"]);
  assert.deepEqual(ended, {});
});

test("rooms that are not joined yet hold up no other", () => {
  const { requests, ended, rooms, add } = world();
  Object.assign(rooms, { a: "later", b: "now", c: "never" });
  for (const room of ["a", "b", "c"]) add(room, "send", room);
  assert.deepEqual(requests.take(0), ["b"]);
  assert.deepEqual(ended, { c: "left" });
  rooms.a = "now";
  assert.deepEqual(requests.take(0), ["a"]);
});

test("going out of a room gives up what was not written; being put out, everything of that room", () => {
  const { requests, ended, add } = world();
  add("written", "send", "a");
  add("other", "send", "b");
  requests.take(0);
  add("unwritten", "send", "a");
  requests.giveUp("a", left, false);
  assert.deepEqual(ended, { unwritten: "left" });
  requests.giveUp("a", left, true);
  assert.deepEqual(ended, { unwritten: "left", written: "left" });
  requests.giveUp(null, left, true);
  assert.deepEqual(Object.keys(ended).length, 3);
});

test("of a message too big, the largest under way is taken to be the one", () => {
  const { requests, ended, add } = world();
  add("small", "send", "a", "x");
  add("large", "send", "a", "x".repeat(100));
  requests.take(0);
  add("later", "send", "a", "x".repeat(1000));
  requests.failLargest();
  assert.deepEqual(ended, { large: "too_big" });
});

test("there is a bound to what waits", () => {
  const { ended, add } = world();
  for (let id = 0; id <= 10_000; id += 1) add(`${id}`);
  assert.deepEqual(ended, { 10000: "too_many" });
});

test("an id that fails is told, and an unknown one is not known", () => {
  const { requests, ended, add } = world();
  add("1");
  requests.take(0);
  assert.equal(requests.fail("1", new GreenroomError("forbidden", "no")), true);
  assert.equal(requests.fail("1", new GreenroomError("forbidden", "no")), false);
  assert.deepEqual(ended, { 1: "forbidden" });
});

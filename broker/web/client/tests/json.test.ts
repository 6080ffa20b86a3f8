// What is written can be read by every server, and what cannot be read harms nobody.

import assert from "node:assert/strict";
import { fromJson, toJson } from "../src/json.js";
import { test } from "./helpers.js";

/** Draws the same texts each time. */
function* drawn(alphabet: string[], count: number): Generator<string> {
  let state = 1;
  const draw = (limit: number) => {
    state = (state * 48271) % 2147483647;
    return state % limit;
  };
  for (let i = 0; i < count; i += 1) yield Array.from({ length: draw(8) }, () => alphabet[draw(alphabet.length)]!).join("");
}

test("half of a surrogate pair is replaced, in values and in names, and nothing else is", () => {
  const alphabet = ["\ud800", "\udbff", "\udc00", "\udfff", "💩", "\\", "\\u", "\\ud800", "ud800", '"', "\n", "1234567890123456789012", "é", "x"];
  for (const text of drawn(alphabet, 5000)) {
    const whole = text.replace(/\p{Surrogate}/gu, "\ufffd");
    assert.deepEqual(JSON.parse(toJson({ text, list: [text], [text]: 1 })), { text: whole, list: [whole], [whole]: 1 });
    if (whole === text) assert.equal(toJson([text]), JSON.stringify([text]));
  }
});

test("a number stays the same number, and is written so that 64 bits hold it if it is whole", () => {
  const near = [2 ** 63, -(2 ** 63), 2 ** 64, 1e20, 1e18, 2 ** 53, 9e18, 9223372036854774784, 1e21, 1e308, 5e-324, 1.2345678901234567e-7];
  const numbers = near.flatMap((n) => [n, -n, n + 0.5, n * 1.0000001, n / 3, -0]);
  for (const number of numbers) {
    const text = toJson({ number, twice: [number, number], text: `${number} 9223372036854775808` });
    assert.deepEqual(JSON.parse(text), { number: number === 0 ? 0 : number, twice: [number, number].map((n) => n || 0), text: `${number} 9223372036854775808` });
    for (const [token] of text.replace(/"(?:[^"\\]|\\.)*"/g, "").matchAll(/-?\d+(?![\d.eE])/g)) {
      if (/(?<![.\d+eE-])-?\d{19,}$/.test(token)) assert.ok(BigInt.asIntN(64, BigInt(token)) === BigInt(token), token);
    }
  }
  assert.equal(toJson([2 ** 63, -(2 ** 63), 1e18]), "[9.223372036854776e+18,-9.223372036854776e+18,1000000000000000000]");
});

test("a stored event that cannot be read is a gap, and anything else is nothing", () => {
  const place = ',"room":"a\\"b","offset":7,"epoch":"e","time":1}';
  for (const data of ["NaN", "Infinity", '"\u0001"', "01", '"', "[[", "{]"]) {
    assert.deepEqual(fromJson(`{"type":"event","data":${data}${place}`), { type: "gap", room: 'a"b', from: 7, to: 7, epoch: "e" });
    assert.equal(fromJson(`{"type":"event","data":${data},"room":"a","time":1}`), null);
  }
  for (const text of ["", "x", "null", "1", "[]", "{}", '{"type":1}', new ArrayBuffer(3), undefined]) assert.equal(fromJson(text), null);
  const event = { type: "event", data: 1, room: "a", offset: 7, epoch: "e", time: 1 };
  assert.deepEqual(fromJson(JSON.stringify(event)), event);
});

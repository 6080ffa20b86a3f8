// Messages as text. Pure.

import { GreenroomError } from "./types.js";

/** What of a text may need repair: half of a surrogate pair, which JSON.stringify escapes, or a long whole number. */
const SUSPECT = /\\ud[89a-f]|\d{19}/;
const STRINGS_AND_NUMBERS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/**
 * Return a value as JSON that every server and client can read: U+FFFD stands for half of a surrogate pair, as when text is
 * written as UTF-8, and a whole number beyond 64 bits has an exponent. Throws a GreenroomError for what has no JSON.
 */
export function toJson(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    // A BigInt, a cycle, a toJSON that throws, nesting beyond the engine's stack.
    throw new GreenroomError("invalid_message", `this cannot be written as JSON: ${error}`);
  }
  if (!SUSPECT.test(text)) return text;
  return text.replace(STRINGS_AND_NUMBERS, (token) => {
    if (token[0] === '"') return token.replace(/\\(?:(ud[89a-f]..)|.)/g, (escape, half) => (half ? "\ufffd" : escape));
    return /^-?\d{19,}$/.test(token) && Math.abs(Number(token)) >= 2 ** 63 ? Number(token).toExponential() : token;
  });
}

/** How the server ends every stored event. */
const PLACE = /,"room":("(?:[^"\\]|\\.)*"),"offset":(\d+),"epoch":("[^"\\]*"),"time":\d+}$/;

/** Return a message; the gap that it leaves, if it is a stored event that cannot be read; null for anything else. */
export function fromJson(text: unknown): any {
  try {
    const message = JSON.parse(text as string);
    if (message && typeof message.type === "string") return message;
  } catch {
    const [, room, offset, epoch] = PLACE.exec(String(text)) ?? [];
    if (room) {
      return { type: "gap", room: JSON.parse(room), from: Number(offset), to: Number(offset), epoch: JSON.parse(epoch!) };
    }
  }
  return null;
}

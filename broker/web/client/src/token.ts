import { GreenroomError } from "./types.js";

/**
 * Return a token without the white space around it, null for null. Throws if its characters make it none: a JWT is parts of
 * base64url with dots between them (RFC 7515 section 7.1). Others could not be sent, as the token travels as a subprotocol,
 * which is one word (RFC 6455 section 4.1). What was given is not told: it may hold a secret.
 */
export function tokenOf(given: unknown): string | null {
  if (given === null) return null;
  const token = typeof given === "string" ? given.trim() : "";
  if (/^[\w.-]+$/.test(token)) return token;
  throw new GreenroomError("bad_token", "the token is malformed");
}

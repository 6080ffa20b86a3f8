// When to ask a silent server for a sign of life, and when to give it up. Pure; all times in milliseconds.

export type Look = { readonly todo: "wait" | "ask"; readonly nextLookMs: number } | { readonly todo: "give up" };

/** `silentMs`: since anything was heard. `askedMs`: since the server was asked, null if it has answered. */
export function look(silentMs: number, askedMs: number | null, pingMs: number, pongMs: number): Look {
  if (askedMs !== null) {
    const left = pongMs - askedMs;
    return left > 0 ? { todo: "wait", nextLookMs: left } : { todo: "give up" };
  }
  const left = pingMs - silentMs;
  return left > 0 ? { todo: "wait", nextLookMs: left } : { todo: "ask", nextLookMs: pongMs };
}

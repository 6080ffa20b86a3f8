// When to ask a silent server for a sign of life, and when to give it up. Pure; all times in milliseconds.

export interface Signs {
  /** When anything was last heard. */
  heardAt: number;
  /** When it was last asked, null if it has answered since. */
  askedAt: number | null;
}

export type Look = { readonly todo: "wait" | "ask"; readonly nextLookMs: number } | { readonly todo: "give up" };

export function look(now: number, { heardAt, askedAt }: Signs, pingMs: number, pongMs: number): Look {
  if (askedAt !== null) {
    const left = askedAt + pongMs - now;
    return left > 0 ? { todo: "wait", nextLookMs: Math.min(left, pongMs) } : { todo: "give up" };
  }
  const left = heardAt + pingMs - now;
  // A clock that was set back must not make us wait for longer.
  return left > 0 ? { todo: "wait", nextLookMs: Math.min(left, pingMs) } : { todo: "ask", nextLookMs: pongMs };
}

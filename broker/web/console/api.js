// The broker's HTTP API, with the key in a header.

/** The server answered, and it was no. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `status ${status}`);
    this.status = status;
  }
}

// A name as one segment of a path. The server has no "." and "..": browsers take them, also encoded, for steps.
const segment = (name) => {
  if (name === "." || name === "..") throw new Refusal(400, { detail: `no room and no user is named ${name}` });
  return encodeURIComponent(name.toWellFormed?.() ?? name);
};

export const roomPath = (room, rest = "") => `/api/rooms/${segment(room)}${rest}`;
export const userPath = (user) => `/api/users/${segment(user)}`;
export const webhookPath = (webhook, rest) => `/api/webhooks/${segment(webhook)}${rest}`;
export const memberPath = (room, user) => roomPath(room, `/users/${segment(user)}`);

// Not crypto.randomUUID: browsers have it only on https and on this machine.
const newKey = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");

export class Api {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** Ask, and return the response once its head is there; throws Refusal, or TypeError if nobody answers. */
  async open(method, path, { query = {}, body, headers = {}, signal } = {}) {
    const parameters = new URLSearchParams(query);
    const response = await fetch(parameters.size ? `${path}?${parameters}` : path, {
      method,
      signal,
      headers: {
        Authorization: `Bearer ${this.#key}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (!response.ok) throw new Refusal(response.status, await response.json().catch(() => null));
    return response;
  }

  async ask(method, path, options) {
    return (await this.open(method, path, options)).json();
  }

  node = (query, signal) => this.ask("GET", "/api/node", { query, signal });
  listRooms = (query, signal) => this.ask("GET", "/api/rooms", { query, signal });
  room = async (room, signal) => this.ask("GET", roomPath(room), { signal });
  code = async (room, signal) => (await this.open("GET", roomPath(room, "/code"), { signal })).text();
  history = async (room, limit, signal) => this.ask("GET", roomPath(room, "/messages"), { query: { limit, reverse: true }, signal });
  removeFromRoom = async (room, user) => this.ask("DELETE", memberPath(room, user));
  disconnect = async (user) => this.ask("DELETE", userPath(user));
  webhooks = (signal) => this.ask("GET", "/api/webhooks", { signal });
  asideEntries = async (webhook, limit, signal) => this.ask("GET", webhookPath(webhook, "/aside"), { query: { limit }, signal });
  repeatEntries = async (webhook, body) => this.ask("POST", webhookPath(webhook, "/repeat"), { body });
  makeToken = (body) => this.ask("POST", "/api/dev/tokens", { body });

  async publish(room, message, isEphemeral) {
    return this.ask("POST", roomPath(room, "/messages"), {
      body: message,
      query: isEphemeral ? { ephemeral: true } : {},
      headers: { "Idempotency-Key": newKey() },
    });
  }
}

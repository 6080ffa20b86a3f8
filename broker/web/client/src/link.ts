// The connection: made, watched, and made again after it was lost.

import { backoffMs, isCleanStop, isFinal, isOutOfTime } from "./backoff.js";
import { monotonicMs } from "./clock.js";
import { fromJson } from "./json.js";
import { look } from "./liveness.js";
import { watchPage } from "./page.js";
import { expiryOf, Refresh } from "./refresh.js";
import { tokenOf } from "./token.js";
import { GreenroomError, type Options, type StateEvent, type WebSocketLike } from "./types.js";

/** After so long a connection is good, and the next failure is the first again. */
const STABLE_MS = 5_000;
/** What a connection that ended without a close frame is said to have been closed with (RFC 6455 section 7.1.5). */
const NO_CODE = 1006;
const NO_TOKEN = "there is no token";
/** With an id, a refusal of it is not taken for one of a request. */
const PING = '{"type":"ping","id":0}';

export interface LinkEvents {
  state(event: StateEvent): void;
  /** Something can be sent; nothing was heard yet. */
  opened(): void;
  message(message: any): void;
  lost(code: number): void;
  /** No more comes; said once. */
  stopped(error: GreenroomError): void;
  failed(error: unknown): void;
}

export class Link {
  readonly #address: string;
  readonly #options: Options;
  readonly #events: LinkEvents;
  /** Counts sleep, in which the server hears nothing of us. */
  readonly #clock: () => number;
  readonly #unwatchPage: () => void;
  readonly #WebSocket: NonNullable<Options["WebSocket"]>;
  readonly #refresh: Refresh;
  #state: StateEvent = { state: "connecting" };
  #socket: WebSocketLike | null = null;
  /** Rises with each attempt, so that what belongs to an older one can be told. */
  #turn = 0;
  #failures = 0;
  /** When the first of these failures was. */
  #downSince = 0;
  #openedAt = 0;
  #comeBackAt: number | null = null;
  #retryAt = Infinity;
  /** When anything was last heard, by the clock that counts sleep. */
  #heardAt = 0;
  /** When the server was last asked, null if it has answered. Not by that clock: awake, it gets the time to answer. */
  #askedAt: number | null = null;
  /** The one timer: for the next attempt, for the end of this one, or for the next look at the connection. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(address: string, options: Options, clock: () => number, events: LinkEvents) {
    const WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: Options["WebSocket"] }).WebSocket;
    if (!WebSocket) throw new TypeError("there is no WebSocket here: give one as an option");
    this.#WebSocket = WebSocket;
    this.#address = address;
    this.#options = options;
    this.#events = events;
    this.#clock = clock;
    this.#unwatchPage = watchPage({
      offline: () => this.#socket && this.#lose(NO_CODE, "offline"),
      online: () => this.#hurry(),
      hide: () => this.#hide(),
      show: () => this.#show(),
    });
    this.#refresh = new Refresh({
      token: () => this.#token(),
      send: (text) => this.#ask(text),
      failed: events.failed,
      ended: () => this.#refused(4001, NO_TOKEN),
      backoffMs: (failures) => backoffMs(failures, this.#limits(), Math.random(), 0),
    });
    void this.#connect();
  }

  get state(): StateEvent {
    return this.#state;
  }

  send(text: string): void {
    this.#socket?.send(text);
  }

  /** The server asked us to come back in so long. It will close the connection. */
  comeBackIn(ms: number): void {
    this.#comeBackAt = monotonicMs() + ms;
  }

  /** Somebody cannot wait: try again at once, or see whether the connection lives. */
  reconnectNow(): void {
    if (this.#state.state !== "waiting") return this.#hurry();
    this.#failures = 0;
    void this.#connect();
  }

  stop(error: GreenroomError, shown: Partial<StateEvent> = {}): void {
    if (this.#state.state === "closed") return;
    this.#unwatchPage();
    this.#drop();
    this.#setState({ state: "closed", ...shown });
    this.#events.stopped(error);
  }

  async #connect(): Promise<void> {
    const { connectMs = 15_000 } = this.#options;
    const turn = ++this.#turn;
    this.#comeBackAt = null;
    this.#arm(connectMs, () => this.#lose(NO_CODE, "no connection in time"));
    this.#setState({ state: "connecting" });
    let bearer: string | null;
    try {
      bearer = await this.#token();
    } catch (error) {
      if (turn === this.#turn) this.#lackToken(error);
      return;
    }
    if (turn !== this.#turn) return;
    if (bearer === null) this.#refused(4001, NO_TOKEN);
    else this.#open(bearer);
  }

  async #token(): Promise<string | null> {
    const { token } = this.#options;
    return tokenOf(await (typeof token === "function" ? token() : token));
  }

  /** Whether another token can be had. */
  get #canRenew(): boolean {
    return typeof this.#options.token === "function";
  }

  /** Ask for a token again later; but one that was given stays what it is. */
  #lackToken(error: unknown): void {
    if (!this.#canRenew) {
      this.#refused(4001, (error as Error).message);
      return;
    }
    const turn = this.#turn;
    this.#events.failed(error);
    // Whoever was told may have closed the client.
    if (turn === this.#turn) this.#lose(NO_CODE, "no token");
  }

  #open(bearer: string): void {
    let socket: WebSocketLike;
    try {
      // As a subprotocol the token stays out of addresses, and so out of logs.
      socket = new this.#WebSocket(this.#address, ["greenroom.v1", `bearer.${bearer}`]);
    } catch (error) {
      // The address is one that this page may not use, as ws: from https:; a next attempt would end like this one.
      const refused = new GreenroomError("refused", String(error));
      this.stop(refused, { error: refused });
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      // A browser cannot tell a refused token from an open connection until something comes.
      if (this.#canRenew && expiryOf(bearer) < Infinity) this.#refresh.start(bearer);
      else this.#ask(PING);
      this.#events.opened();
    };
    socket.onmessage = ({ data }) => {
      this.#heardAt = this.#clock();
      this.#askedAt = null;
      if (this.#state.state === "connecting") this.#welcome();
      const message = fromJson(data);
      if (message?.type === "refreshed") this.#refresh.answered(message);
      if (message) this.#events.message(message);
      else this.#events.failed(new GreenroomError("unreadable", "a message of the server cannot be read"));
    };
    socket.onclose = ({ code, reason }) => this.#lose(code, reason);
    // What follows it is `close`; but in Node an error that nobody listens to ends the process.
    socket.onerror = () => {};
  }

  #welcome(): void {
    this.#openedAt = monotonicMs();
    this.#look();
    this.#setState({ state: "open" });
  }

  /** Look at the connection now, and again when the time comes. */
  #look(): void {
    const { pingMs = 25_000, pongMs = 10_000 } = this.#options;
    const askedMs = this.#askedAt === null ? null : monotonicMs() - this.#askedAt;
    const seen = look(this.#clock() - this.#heardAt, askedMs, pingMs, pongMs);
    if (seen.todo === "give up") {
      this.#lose(NO_CODE, "the server does not answer");
      return;
    }
    if (seen.todo === "ask") this.#ask(PING);
    this.#arm(seen.nextLookMs, () => this.#look());
  }

  /** Send what the server answers in any case. */
  #ask(text: string): void {
    this.#askedAt = monotonicMs();
    this.send(text);
  }

  #lose(code: number, reason: string): void {
    const isRenewable = this.#canRenew && isOutOfTime(code, reason);
    if (isFinal(code) && !isRenewable) {
      this.#refused(code, reason);
      return;
    }
    const now = monotonicMs();
    const wasGood = now - this.#openedAt >= STABLE_MS || isCleanStop(code);
    if (this.#state.state === "open" && wasGood) this.#failures = 0;
    this.#drop();
    const turn = this.#turn;
    if (isRenewable) this.#events.failed(new GreenroomError("bad_token", reason, code));
    // Whoever was told may have closed the client.
    if (turn !== this.#turn) return;
    const wait = this.#comeBackAt === null ? this.#backoffMs() : Math.max(0, this.#comeBackAt - now);
    this.#events.lost(code);
    this.#wait({ state: "waiting", code, reason, retryInMs: wait });
  }

  #backoffMs(): number {
    const now = monotonicMs();
    if (!this.#failures) this.#downSince = now;
    return backoffMs(this.#failures++, this.#limits(), Math.random(), now - this.#downSince);
  }

  #limits(): readonly [number, number] {
    return this.#options.backoffMs ?? [1_000, 30_000];
  }

  #wait(state: StateEvent & { retryInMs: number }): void {
    this.#retryAt = monotonicMs() + state.retryInMs;
    this.#arm(state.retryInMs, () => this.#connect());
    this.#setState(state);
  }

  #refused(code: number, reason: string): void {
    const error = new GreenroomError("refused", `${reason || "closed by the server"} (${code})`, code);
    this.stop(error, { code, reason, error });
  }

  /** End this attempt or connection, and be deaf to whatever still comes of it. */
  #drop(): void {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#refresh.stop();
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  /** The network is back, or somebody looks: ask whether the connection lives, or try again sooner. */
  #hurry(): void {
    if (this.#state.state === "open") {
      if (this.#askedAt === null) this.#ask(PING);
      this.#look();
    } else if (this.#state.state === "waiting" && this.#comeBackAt === null) {
      this.#failures = 0;
      const retryInMs = this.#backoffMs();
      if (monotonicMs() + retryInMs < this.#retryAt) this.#wait({ ...this.#state, retryInMs });
    }
  }

  /** The page is put away; an open connection would keep it from coming back as it was. */
  #hide(): void {
    if (this.#state.state === "closed") return;
    this.#drop();
    this.#comeBackAt = null;
    this.#retryAt = Infinity;
    this.#events.lost(NO_CODE);
    this.#setState({ state: "waiting" });
  }

  #show(): void {
    if (this.#state.state === "waiting") void this.#connect();
  }

  #arm(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #setState(state: StateEvent): void {
    this.#state = state;
    this.#events.state(state);
  }
}

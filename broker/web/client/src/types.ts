// All that a user of this package meets, in one file without imports: it is what becomes greenroom.d.ts.

/** A place in a room's history. An epoch begins anew when the server has lost what came before. */
export interface Position {
  readonly offset: number;
  readonly epoch: string;
}

/** What every stored event of a room carries. `time` is in Unix milliseconds. */
export interface Stored extends Position {
  readonly room: string;
  readonly time: number;
}

/** Names and values of an event: at most 8, each of 1 to 64 characters. */
export type Tags = Readonly<Record<string, string>>;

/** A text that somebody said. */
export interface ChatEvent extends Stored {
  readonly type: "chat";
  readonly user_id: string;
  /** The claim of the user's token, shown to all members. */
  readonly info?: unknown;
  readonly text: string;
  /** The text was longer than the server's limit, and was cut. */
  readonly truncated?: boolean;
  /** Names and values, for filters. */
  readonly tags?: Tags;
}

/** What somebody published; an ephemeral one has no offset and is in no history. */
export interface PublishedEvent extends Partial<Position> {
  readonly type: "event";
  readonly room: string;
  readonly event: string;
  readonly user_id: string;
  readonly info?: unknown;
  readonly data: unknown;
  readonly tags?: Tags;
  readonly time: number;
}

/** A connection, and its info and state, each absent if it shows none. */
export interface MemberConnection {
  readonly user_id: string;
  readonly connection?: string;
  readonly info?: unknown;
  readonly state?: unknown;
}

/** A connection came in (`user_joined`, oneself included) or went away (`user_left`); with its id if it shows info or state. */
export interface UserEvent extends MemberConnection {
  readonly type: "user_joined" | "user_left";
  readonly room: string;
  /** Connections in the room, on all nodes. */
  readonly room_size: number;
}

/** A connection shows another info or state: all that it shows now. */
export interface PresenceUpdateEvent extends MemberConnection {
  readonly type: "presence_update";
  readonly room: string;
  readonly connection: string;
}

/** Joins and leaves of a large room, gathered; a user stands in them once for each connection. */
export interface PresenceChangedEvent {
  readonly type: "presence_changed";
  readonly room: string;
  readonly joined: readonly string[];
  readonly left: readonly string[];
  readonly room_size: number;
  /** Connections that showed something and left; they come before `updates`. */
  readonly gone?: readonly string[];
  /** Connections that joined with something to show, or show something else. */
  readonly updates?: readonly MemberConnection[];
}

/** We are in the room, for the first time or again. What was missed meanwhile comes right after it. */
export interface JoinedEvent extends Position {
  readonly type: "joined";
  readonly room: string;
  readonly room_size: number;
  /** The id of this connection. */
  readonly connection?: string;
  /** Nothing was missed. False the first time too, when there was nothing to be recovered. */
  readonly recovered: boolean;
}

/**
 * Events are missing here: those after `since`, up to and with `until`. The server no longer held them when we came
 * back, began a new epoch, or did not write them because we read too slowly; or they cannot be read.
 */
export interface GapEvent {
  readonly type: "gap";
  readonly room: string;
  readonly since: Position;
  readonly until: Position;
}

/** We are out of the room for good: without `error` because we left, with it because we may not be in it. */
export interface LeftEvent {
  readonly type: "left";
  readonly room: string;
  readonly error?: GreenroomError;
}

/** What an application published over HTTP: its own object with its own `type`. */
export interface ApplicationEvent extends Partial<Position> {
  readonly type: string;
  readonly room: string;
  readonly [field: string]: unknown;
}

/**
 * Events of a room, by type. Add your application's own:
 * `declare module "greenroom-client" { interface RoomEvents { order_update: { type: "order_update"; order_id: number } } }`
 */
export interface RoomEvents {
  chat: ChatEvent;
  event: PublishedEvent;
  user_joined: UserEvent;
  user_left: UserEvent;
  presence_changed: PresenceChangedEvent;
  presence_update: PresenceUpdateEvent;
  joined: JoinedEvent;
  gap: GapEvent;
  left: LeftEvent;
}

/** Any event of a room; narrow it by its `type`. There can be ApplicationEvents of types not named in RoomEvents. */
export type RoomEvent = RoomEvents[keyof RoomEvents];

type Passing = "user_joined" | "user_left" | "presence_changed" | "presence_update" | "joined" | "gap" | "left";

/** What is stored, and so may stand in a history. */
export type StoredEvent = RoomEvents[Exclude<keyof RoomEvents, Passing>];

/** Where a stored event stands; an ephemeral one stands nowhere. */
export interface Ack extends Partial<Position> {
  readonly room: string;
}

/** Who is in a room. */
export interface Presence {
  readonly room: string;
  readonly room_size: number;
  readonly users: ReadonlyArray<{ readonly user_id: string; readonly connections: number; readonly info?: unknown }>;
}

/** The connections in a room. */
export interface Connections {
  readonly room: string;
  readonly room_size: number;
  readonly connections: readonly MemberConnection[];
}

/** The numbers of connections and of users in a room. */
export interface Counts {
  readonly room: string;
  readonly room_size: number;
  readonly user_count: number;
}

/**
 * Some of a room's events, and the position that the room is at. In the place of events that are not for this connection
 * is a `{ type: "withheld", from, offset, epoch }`, which StoredEvent does not name.
 */
export interface History extends Position {
  readonly room: string;
  readonly messages: readonly StoredEvent[];
}

export interface HistoryOptions {
  /** Only what came after. */
  since?: Position;
  /** At most so many; the server has a limit of its own. */
  limit?: number;
  /** The newest first, instead of the oldest. */
  reverse?: boolean;
}

export interface ChatOptions {
  /** For members that joined with a filter. */
  tags?: Tags;
  /** False: the event does not come back to this connection. */
  echo?: boolean;
}

export interface PublishOptions extends ChatOptions {
  /** Kept in no history, and not sent again after a lost connection: for what is stale in a second. */
  ephemeral?: boolean;
}

export interface RoomOptions {
  /**
   * A `position` that the page has kept, as over a reload: the room goes on from it as after a lost connection. A room
   * that this client is in already goes on from where it is.
   */
  since?: Position | null;
  /**
   * So many of the newest events that are held come first, in the same turn as the join: none is missing before the next
   * one. At most 1000 (a setting of the server); not together with `since`.
   */
  last?: number;
  /** Of all events only those that have, of each name here, one of the values as a tag. */
  tags?: Readonly<Record<string, readonly string[]>>;
}

export type RoomState = "joining" | "joined" | "left";

/** One room, for as long as one is in it; it outlives lost connections. */
export interface Room extends AsyncIterable<RoomEvent> {
  readonly name: string;
  readonly state: RoomState;
  /**
   * The last position heard of; in a listener, that of its event. Before the first `joined` the `since` that was given, or
   * null. Keep it, and give it to `room` as `since` after a reload.
   */
  readonly position: Position | null;
  /** Call `listener` for each event of a type, or for every event (`"*"`); returns what ends that. */
  on<Type extends keyof RoomEvents>(type: Type, listener: (event: RoomEvents[Type]) => void): () => void;
  on(type: "*", listener: (event: RoomEvent) => void): () => void;
  on(type: string, listener: (event: ApplicationEvent) => void): () => void;
  /** Settles once we are in the room, at once if we are. Rejects if we may not be. */
  joined(): Promise<void>;
  /**
   * Say a text; half of a surrogate pair in it (a string cut within an emoji) becomes U+FFFD. Settles when it is stored; until then it is sent again after each lost connection, and stored once.
   * Rejects with the code `uncertain` if it was away for longer than the server would know it again.
   */
  chat(text: string, options?: ChatOptions): Promise<Ack>;
  /** Publish any JSON value under an event name; as `chat`. At most 64 levels deep; NaN and infinities become null. */
  publish(event: string, data: unknown, options?: PublishOptions): Promise<Ack>;
  /**
   * Call a method of the room with any JSON value; settles with the answer of the application, or rejects with its reason. It is
   * sent again as a chat is, and the application may then be asked twice.
   */
  call<Result = unknown>(method: string, data?: unknown): Promise<Result>;
  /** Ask for the users in the room, for each connection with its info and state, or for the numbers alone. */
  presence(options?: { by?: "user" }): Promise<Presence>;
  presence(options: { by: "connection" }): Promise<Connections>;
  presence(options: { by: "count" }): Promise<Counts>;
  /** Show any JSON value beside this connection, null for nothing. A new connection shows nothing: set it again at each `joined`. */
  setState(state: unknown): Promise<void>;
  /** Ask for what was said before. */
  history(options?: HistoryOptions): Promise<History>;
  /** Go out. What was not sent yet is rejected with the code `left`. */
  leave(): Promise<void>;
  /**
   * Every event from now on. Ends when we leave or close; throws a GreenroomError if we are put out, or (`too_slow`)
   * if more than 1024 events (`buffer`) wait to be taken.
   */
  events(options?: { buffer?: number }): AsyncIterableIterator<RoomEvent>;
}

/** `waiting`: for the next attempt to connect. `closed`: for good. */
export type ClientState = "connecting" | "open" | "waiting" | "closed";

/** The client's state changed; after a connection, `code` and `reason` tell how it ended. */
export interface StateEvent {
  readonly state: ClientState;
  readonly code?: number;
  readonly reason?: string;
  /** When `waiting`: for so long. */
  readonly retryInMs?: number;
  /** When `closed`: why, if not by `close()`. */
  readonly error?: GreenroomError;
}

export interface ClientEvents {
  state: StateEvent;
  /**
   * What nobody waits for: a token that could not be had, a complaint of the server about no request of ours, or
   * (`unreadable`) a message of the server that cannot be read and was passed over.
   */
  error: unknown;
}

/** One connection to a server, made again whenever it is lost. */
export interface Client {
  readonly state: ClientState;
  on<Type extends keyof ClientEvents>(type: Type, listener: (event: ClientEvents[Type]) => void): () => void;
  /** A room by name, joined in the background; the same object until it is left. */
  room(name: string, options?: RoomOptions): Room;
  /** As `room`, and wait until we are in it. Whoever listens right after it hears everything from there on. */
  join(name: string, options?: RoomOptions): Promise<Room>;
  /** Do not wait for the next attempt to connect: make it now. With a connection, see whether it lives. */
  reconnectNow(): void;
  /** Leave everything, for good. */
  close(): void;
}

export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Options {
  /**
   * A token, or what gets one: it is called before each connection, and again when three quarters of the token's time
   * are over: the connection goes on with the new one, and nobody is told that its user left.
   * If it fails, or returns what can be no token (an error page, say) or one that is out of its time, it is called again
   * later, as if the connection had failed, and `error` tells why; if it returns null, the client closes. White space
   * around a token is taken off.
   */
  token: string | (() => string | null | Promise<string | null>);
  /** Where none is built in, as in Node 20: the one of the package `ws`, for example. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  /** Silence after which the server is asked for a sign of life, 25,000 ms. */
  pingMs?: number;
  /** How long it may take to answer, 10,000 ms. */
  pongMs?: number;
  /** How long the token and the connection may take together, 15,000 ms. */
  connectMs?: number;
  /**
   * The longest first and the longest last wait before a new attempt, 1,000 and 30,000 ms. None is longer than five times
   * the first, or a quarter of the time without a connection.
   */
  backoffMs?: readonly [first: number, last: number];
}

/**
 * Why a request failed. The server's codes: `invalid_message`, `not_in_room`, `forbidden`, `too_many_rooms`, `room_full`.
 * Ours: `left` the room; `removed` from it; `closed` (`close()` was called); `refused` (the server closed the
 * connection for good, or would: see `closeCode`; without one this page may not use the address); `bad_token` (an
 * `error`: what was returned can be no token, or is out of its time); `disconnected` (an ephemeral event while there is no connection);
 * `uncertain` (it may have been stored, or the call carried out); `too_big`; `too_many` (10,000 requests wait); `too_slow` (see `events`).
 */
export class GreenroomError extends Error {
  override readonly name = "GreenroomError";
  constructor(
    readonly code: string,
    message: string,
    /** How the connection was closed: 4001 for a bad token, 4003 for a room or origin not allowed, 4004 when removed. */
    readonly closeCode?: number,
  ) {
    super(message);
  }
}

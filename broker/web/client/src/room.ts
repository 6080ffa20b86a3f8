import { Emitter } from "./emitter.js";
import { isComplete, placeOf } from "./position.js";
import type { Kind } from "./requests.js";
import { EventStream } from "./stream.js";
import {
  type Ack,
  type ChatOptions,
  GreenroomError,
  type History,
  type HistoryOptions,
  type Position,
  type PublishOptions,
  type Room,
  type RoomEvent,
  type RoomOptions,
  type RoomState,
} from "./types.js";

/** What a room needs of its client. */
export interface Host {
  request(member: Member, kind: Kind, message: object): Promise<any>;
  leave(member: Member): Promise<void>;
}

/** A room, from being asked for until it is left. The client calls `enter`, `hear`, `lose` and `exit`. */
export class Member implements Room {
  readonly name: string;
  readonly #host: Host;
  readonly #options: RoomOptions;
  readonly #emitter = new Emitter();
  readonly #streams = new Set<EventStream<RoomEvent>>();
  #waiting: Array<{ resolve(): void; reject(error: GreenroomError): void }> = [];
  state: RoomState = "joining";
  position: Position | null;

  constructor(name: string, host: Host, options: RoomOptions) {
    this.name = name;
    this.#host = host;
    this.#options = options;
    this.position = options.since ?? null;
  }

  on(type: string, listener: (event: any) => void): () => void {
    return this.#emitter.on(type, listener);
  }

  /** The events with which a join is to be answered: those that are missing, or the newest ones. */
  startingPoint(): RoomOptions {
    const { last, tags } = this.#options;
    return { ...(this.position ? { since: this.position } : { last }), tags } as RoomOptions;
  }

  joined(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.state === "joined") resolve();
      else if (this.state === "left") reject(outOf(this.name));
      else this.#waiting.push({ resolve, reject });
    });
  }

  chat(text: string, { tags, echo }: ChatOptions = {}): Promise<Ack> {
    return this.#host.request(this, "send", { type: "chat", text, tags, echo });
  }

  publish(event: string, data: unknown, { ephemeral = false, tags, echo }: PublishOptions = {}): Promise<Ack> {
    const message = { type: "publish", event, data: data === undefined ? null : data, ephemeral, tags, echo };
    return this.#host.request(this, ephemeral ? "once" : "send", message);
  }

  call(method: string, data?: unknown): Promise<any> {
    return this.#host.request(this, "send", { type: "call", method, data });
  }

  presence(options: object = {}): Promise<any> {
    return this.#host.request(this, "ask", { type: "presence", ...options });
  }

  setState(state: unknown): Promise<void> {
    return this.#host.request(this, "ask", { type: "set_state", state: state ?? null });
  }

  history(options: HistoryOptions = {}): Promise<History> {
    return this.#host.request(this, "ask", { type: "history", ...options });
  }

  leave(): Promise<void> {
    return this.#host.leave(this);
  }

  events({ buffer = 1024 }: { buffer?: number } = {}): AsyncIterableIterator<RoomEvent> {
    const stream: EventStream<RoomEvent> = new EventStream(buffer, () => this.#streams.delete(stream));
    if (this.state === "left") stream.end();
    else this.#streams.add(stream);
    return stream;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<RoomEvent> {
    return this.events();
  }

  /** We are in. If somebody waited for it, returns the messages for `hear`, who has to be able to listen first. */
  enter({ room, room_size, recovered, offset, epoch, messages, connection }: any): object[] | null {
    const since = this.position;
    this.state = "joined";
    const first = messages[0];
    this.position = since ?? { offset: first ? (first.type === "withheld" ? first.from : first.offset) - 1 : offset, epoch };
    this.#tell({ type: "joined", room, room_size, recovered, offset, epoch, connection });
    if (since && !isComplete(since, { recovered, offset, epoch })) this.#miss({ offset, epoch });
    const waiting = this.#waiting.splice(0);
    for (const { resolve } of waiting) resolve();
    if (waiting.length) return messages;
    for (const message of messages) this.hear(message);
    this.position = { offset, epoch };
    return null;
  }

  hear(event: any): void {
    if (this.state !== "joined") return;
    if (event.type === "gap") {
      const until = { offset: event.to, epoch: event.epoch ?? this.position!.epoch };
      if (placeOf(this.position!, until) !== "old") this.#miss(until);
      return;
    }
    if (event.type === "withheld") {
      const { from, offset, epoch } = event;
      if (placeOf(this.position!, event) === "old") return;
      if (placeOf(this.position!, { offset: from, epoch }) === "after gap") this.#miss({ offset: from - 1, epoch });
      this.position = { offset, epoch };
      return;
    }
    if (event.offset !== undefined) {
      const place = placeOf(this.position!, event);
      if (place === "old") return;
      if (place === "after gap") this.#miss({ offset: event.offset - 1, epoch: event.epoch });
      this.position = { offset: event.offset, epoch: event.epoch };
    }
    this.#tell(event);
  }

  /** The connection is lost. */
  lose(): void {
    this.state = "joining";
  }

  /** We are out, for good; with the error that put us out, if one did. */
  exit(error?: GreenroomError): void {
    this.state = "left";
    for (const { reject } of this.#waiting.splice(0)) reject(error ?? outOf(this.name));
    this.#tell(error ? { type: "left", room: this.name, error } : { type: "left", room: this.name });
    for (const stream of [...this.#streams]) stream.end(error);
  }

  #miss(until: Position): void {
    const since = this.position!;
    this.position = until;
    this.#tell({ type: "gap", room: this.name, since, until });
  }

  #tell(event: RoomEvent): void {
    for (const stream of [...this.#streams]) stream.push(event);
    this.#emitter.emit(event.type, event);
    this.#emitter.emit("*", event);
  }
}

export function outOf(room: string): GreenroomError {
  return new GreenroomError("left", `not in room ${room} any more`);
}

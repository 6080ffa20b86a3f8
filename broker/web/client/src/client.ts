import { sleepingClock } from "./clock.js";
import { Emitter } from "./emitter.js";
import { toJson } from "./json.js";
import { Link } from "./link.js";
import { type Kind, Requests } from "./requests.js";
import { type Host, Member, outOf } from "./room.js";
import { type Client, type ClientState, GreenroomError, type Options, type Room, type RoomOptions } from "./types.js";

/** Joins the connection, the requests and the rooms. */
export class RoomsClient implements Client, Host {
  readonly #emitter = new Emitter();
  readonly #rooms = new Map<string, Member>();
  readonly #requests = new Requests();
  readonly #clock = sleepingClock();
  readonly #link: Link;
  readonly #idPrefix = crypto.getRandomValues(new Uint32Array(3)).join("-");
  #idCount = 0;
  /** Whether there is a connection to write to. */
  #isUp = false;
  #inbox: any[] = [];
  #isHeld = false;
  #end: GreenroomError | null = null;

  constructor(address: string, options: Options) {
    this.#link = new Link(address, options, this.#clock, {
      state: (event) => this.#emitter.emit("state", event),
      opened: () => this.#opened(),
      message: (message) => {
        // The connection itself is told at once: it may end before the inbox is emptied.
        if (message.type === "reconnect") this.#link.comeBackIn(message.after_ms);
        this.#inbox.push(message);
        this.#drain();
      },
      lost: (code) => this.#lost(code),
      stopped: (error) => this.#stopped(error),
      failed: (error) => this.#emitter.emit("error", error),
    });
  }

  get state(): ClientState {
    return this.#link.state.state;
  }

  on(type: string, listener: (event: any) => void): () => void {
    return this.#emitter.on(type, listener);
  }

  room(name: string, options: RoomOptions = {}): Room {
    return this.#member(name, options);
  }

  async join(name: string, options: RoomOptions = {}): Promise<Room> {
    const member = this.#member(name, options);
    await member.joined();
    return member;
  }

  reconnectNow(): void {
    this.#link.reconnectNow();
  }

  close(): void {
    this.#link.stop(new GreenroomError("closed", "the client was closed"));
  }

  request(member: Member, kind: Kind, message: object): Promise<any> {
    const promise = new Promise((resolve, reject) => {
      if (member.state === "left") throw outOf(member.name);
      if (kind === "once" && member.state !== "joined") {
        throw new GreenroomError("disconnected", "there is no connection now");
      }
      const id = this.#newId();
      const text = toJson({ ...message, room: member.name, id });
      const when = () => (member.state === "joined" ? "now" : member.state === "left" ? "never" : "later");
      this.#requests.add({ id, room: member.name, kind, text, when, resolve, reject });
      this.#flush();
    });
    // What is stale in a second may go unheard: whoever does not look must not get an unhandled rejection.
    if (kind === "once") promise.catch(() => {});
    return promise;
  }

  async leave(member: Member): Promise<void> {
    const room = member.name;
    if (this.#rooms.get(room) !== member) return;
    this.#rooms.delete(room);
    this.#requests.giveUp(room, outOf(room), false);
    member.exit();
    if (!this.#isUp) return;
    await new Promise<void>((resolve) => {
      const id = this.#newId();
      const text = JSON.stringify({ type: "leave", room, id });
      // Whoever has come back meanwhile must not be taken out by a late leave.
      const when = () => (this.#rooms.has(room) ? "never" : "now");
      this.#requests.add({ id, room, kind: "once", text, when, resolve, reject: () => resolve() });
      this.#flush();
    });
  }

  #member(name: string, options: RoomOptions): Member {
    if (this.#end) throw this.#end;
    let member = this.#rooms.get(name);
    if (!member) {
      member = new Member(name, this, options);
      this.#rooms.set(name, member);
      if (this.#isUp) this.#join(member);
      this.#flush();
    }
    return member;
  }

  #newId(): string {
    return `${this.#idPrefix}-${++this.#idCount}`;
  }

  #join(member: Member): void {
    const room = member.name;
    const id = this.#newId();
    const isCurrent = () => this.#rooms.get(room) === member;
    this.#requests.add({
      id,
      room,
      kind: "once",
      text: JSON.stringify({ type: "join", room, ...member.startingPoint(), id }),
      when: () => (isCurrent() ? "now" : "never"),
      resolve: (joined) => {
        const unheard = isCurrent() ? member.enter(joined) : null;
        if (!unheard) return;
        this.#inbox.unshift(...unheard);
        this.#hold();
      },
      reject: (error) => {
        // With the next connection it is asked for again.
        if (isCurrent() && error.code !== "disconnected") this.#putOut(member, error);
      },
    });
  }

  #flush(): void {
    if (!this.#isUp) return;
    for (const text of this.#requests.take(this.#clock())) this.#link.send(text);
  }

  #opened(): void {
    this.#isUp = true;
    for (const member of this.#rooms.values()) this.#join(member);
    this.#flush();
  }

  #lost(code: number): void {
    this.#isUp = false;
    // What is in it will be heard again, as nobody has taken note of it.
    this.#inbox = [];
    if (code === 1009) this.#requests.failLargest();
    this.#requests.lose();
    for (const member of this.#rooms.values()) member.lose();
  }

  #stopped(error: GreenroomError): void {
    this.#end = error;
    this.#isUp = false;
    this.#inbox = [];
    const members = [...this.#rooms.values()];
    this.#rooms.clear();
    this.#requests.giveUp(null, error, true);
    for (const member of members) member.exit(error.code === "closed" ? undefined : error);
  }

  #drain(): void {
    while (!this.#isHeld && this.#inbox.length) {
      try {
        this.#obey(this.#inbox.shift());
      } catch (error) {
        // One message that is not as it should be hinders no other.
        this.#emitter.emit("error", error);
      }
      const refused = this.#requests.takeRefused();
      if (!refused) continue;
      for (const refusal of refused) this.#complain(refusal);
      this.#flush();
    }
  }

  /** Whoever waited for a join gets to listen before the next message is told, which may be here already. */
  #hold(): void {
    this.#isHeld = true;
    setTimeout(() => {
      this.#isHeld = false;
      this.#drain();
    });
  }

  #obey(message: any): void {
    const { type, id, room } = message;
    const member = this.#rooms.get(room);
    switch (type) {
      case "joined":
        this.#settle(id, message);
        break;
      case "left":
        if (id !== undefined) this.#settle(id, undefined);
        else if (member) this.#putOut(member, new GreenroomError("removed", `removed from room ${room}`));
        break;
      case "ack":
      case "presence":
      case "history": {
        const { type: _type, id: _id, ...answer } = message;
        this.#settle(id, answer);
        break;
      }
      case "result":
        // One with a room is an event of a service, which may use the type too.
        if (room === undefined) this.#settle(id, message.data);
        else member?.hear(message);
        break;
      case "error":
        if (id !== undefined || !this.#requests.refuseOne(message)) this.#complain(message);
        break;
      case "reconnect":
      case "pong":
        break;
      default:
        member?.hear(message);
    }
  }

  #complain({ id, code, message, retry_after_ms: ms }: any): void {
    if (ms !== undefined) {
      const pause = this.#requests.postpone(id);
      if (pause) setTimeout(() => this.#resume(pause), ms);
    } else {
      const error = new GreenroomError(code, message);
      if (this.#requests.fail(id, error)) this.#flush();
      else if (id === undefined) this.#emitter.emit("error", error);
    }
  }

  #resume(pause: object): void {
    this.#requests.resume(pause);
    this.#flush();
  }

  #settle(id: unknown, answer: unknown): void {
    this.#requests.settle(id, answer);
    this.#flush();
  }

  #putOut(member: Member, error: GreenroomError): void {
    this.#rooms.delete(member.name);
    this.#requests.giveUp(member.name, error, true);
    member.exit(error);
  }
}

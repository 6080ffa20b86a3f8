// A real server, as a process of its own, and what a test asks of it over HTTP.

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

export const SECRET = "gVw3yTqOJ5hTnE0fXb2kRzLsM8uPcDiA";
const API_KEY = "k7Qx2mWv9RbTz4Ls";
// Tests are built to .tests/, beside this folder.
const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const PYTHON = process.env.GREENROOM_PYTHON ?? (existsSync(`${ROOT}.venv/bin/python`) ? `${ROOT}.venv/bin/python` : "python3");

export interface Serving {
  port?: number;
  engine?: string;
  settings?: Record<string, string>;
  /** The path of a file of settings. */
  config?: string;
}

export class Server {
  private constructor(
    readonly url: string,
    private readonly process: ChildProcess,
    private readonly serving: Serving,
  ) {}

  static async start(serving: Serving = {}): Promise<Server> {
    const { port = 0, engine = "memory://", settings = {}, config } = serving;
    const environ: Record<string, string | undefined> = { GREENROOM_SERVER__DRAIN_SECONDS: "0", ...settings };
    const options = config === undefined ? [] : ["--config", config];
    const process_ = spawn(PYTHON, ["-m", "broker", "serve", "--port", `${port}`, "--engine", engine, ...options], {
      cwd: ROOT,
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH, GREENROOM_SECRET: SECRET, GREENROOM_API_KEY: API_KEY, ...environ },
    });
    const lines: string[] = [];
    for await (const line of createInterface(process_.stderr!)) {
      lines.push(line);
      const entry = line.startsWith("{") ? JSON.parse(line) : {};
      if (entry.event === "listening") {
        // Nobody reads on, and it must not block on a full pipe.
        process_.stderr!.resume();
        return new Server(entry.url, process_, serving);
      }
    }
    throw new Error(`the server did not start:\n${lines.join("\n")}`);
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** End it, with SIGKILL as a crash does or with another signal, and wait for that. */
  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  }

  /** Start another with the same port and engine. */
  again(): Promise<Server> {
    return Server.start({ ...this.serving, port: this.port });
  }

  async api(method: string, path: string, body?: unknown): Promise<any> {
    const headers = { Authorization: `Bearer ${API_KEY}`, "Content-Type": "application/json" };
    const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const response = await fetch(this.url + path, init);
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response.json();
  }
}

/** Sign a token; `ttl` is in seconds. */
export function token(user: string, { ttl = 3600, ...claims }: { ttl?: number; rooms?: string[]; can?: string[]; info?: unknown } = {}): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: user, exp: Math.floor(Date.now() / 1000) + ttl, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

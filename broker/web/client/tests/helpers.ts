import { webcrypto } from "node:crypto";
import { type TestContext, test as unbounded } from "node:test";
import { WebSocket } from "ws";
import { type Client, connect, type Options, type RoomEvent } from "../src/index.js";

// Node 18 has it under another name.
(globalThis as any).crypto ??= webcrypto;

/** Far above what any test takes: one that waits for what never comes must not hold up the others for hours. */
const TEST_MS = 120_000;

/** A test that ends. */
export function test(name: string, body: (t: TestContext) => void | Promise<void>, options: { skip?: boolean } = {}): void {
  void unbounded(name, { timeout: TEST_MS, ...options }, body);
}

const clients: Client[] = [];

/** Connect with the package `ws` and with short waits. */
export function open(url: string, options: Partial<Options> & Pick<Options, "token">): Client {
  const client = connect(url, { WebSocket, backoffMs: [50, 200], ...options });
  clients.push(client);
  return client;
}

/** Close what `open` opened; for the end of a test. */
export function closeAll(): void {
  for (const client of clients.splice(0)) client.close();
}

/** Wait until something holds that tells nobody when it begins to. */
export async function until(holds: () => boolean, what = "it", ms = 20_000): Promise<void> {
  for (const end = performance.now() + ms; !holds(); await pause(5)) {
    if (performance.now() > end) throw new Error(`${what} did not happen in ${ms} ms`);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What was said in a room, as it was heard. */
export function textsOf(events: readonly RoomEvent[]): string[] {
  return events.flatMap((event) => (event.type === "chat" ? [event.text] : []));
}

import { addressOf } from "./address.js";
import { RoomsClient } from "./client.js";
import type { Client, Options } from "./types.js";

/**
 * Connect to a server, given as an `http(s):` or `ws(s):` address, or relative to the page (`"/"`).
 * Returns at once; throws a TypeError if the address is none, or if there is no WebSocket.
 */
export function connect(url: string | URL, options: Options): Client {
  return new RoomsClient(addressOf(url), options);
}

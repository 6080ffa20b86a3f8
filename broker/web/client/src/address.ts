/** Return the WebSocket address of a server given as http(s):// or ws(s)://, or relative to the page. Throws a TypeError. */
export function addressOf(url: string | URL): string {
  const page = (globalThis as { location?: { href: string } }).location?.href;
  const address = new URL(url, page);
  address.protocol = address.protocol.replace("http", "ws");
  if (!/^wss?:$/.test(address.protocol)) throw new TypeError(`${address} is no http, https, ws or wss address`);
  address.pathname = address.pathname.replace(/(\/ws)?\/*$/, "/ws");
  address.hash = "";
  return address.href;
}

// The API key: in this tab and nowhere else. Never in the address, never in storage that outlives the tab.

const NAME = "greenroom key";

export const bringsKey = () => new URLSearchParams(location.hash.slice(1)).has("key");

/** Return the key that the address brought (`--dev` prints one with it), or the one of this tab before a reload. */
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1));
  const key = given.get("key");
  if (key !== null) {
    given.delete("key");
    // At once: the address is what is shown, copied and remembered. A fragment is sent to no server.
    history.replaceState(null, "", given.size ? `#${given}` : location.pathname);
    // Before the server has answered: a reload meanwhile would lose it, as the address no longer has it.
    if (key) keepKey(key);
  }
  return key || sessionStorage.getItem(NAME);
}

export const keepKey = (key) => sessionStorage.setItem(NAME, key);
export const forgetKey = () => sessionStorage.removeItem(NAME);

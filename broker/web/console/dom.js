// The few things that are done with elements. All text goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** Make an element: properties are set as they are, children may be elements or texts. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  // Writing the same again would make screen readers say it again.
  if (element.textContent !== text) element.textContent = text;
}

const TAIL = 6;

/**
 * Show an id or a name in one line. Where that is too short the middle is left out of a long one: ids that are made one
 * after another (UUIDs of version 7, ULIDs) begin alike. Other scripts are not cut, as they may run from right to left.
 */
export function setName(element, name) {
  if (element.textContent === name) return;
  element.classList.add("name");
  const isLong = name.length > 3 * TAIL && /^[!-~]+$/.test(name);
  const head = make("span", { className: "head", textContent: isLong ? name.slice(0, -TAIL) : name });
  element.replaceChildren(head, ...(isLong ? [make("span", { className: "tail", textContent: name.slice(-TAIL) })] : []));
}

/** Tell what became of something, in a live region. */
export function tell(element, text, kind = "good") {
  element.dataset.kind = kind;
  setText(element, text);
}

/**
 * Make the children of `parent` be those of `items`, by key. Those that stay are kept, so that focus stays where it
 * is; while somebody points at the list or is in it, it keeps its order too.
 */
export function keep(parent, items, { key, create, update }) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const isHeld = parent.matches(":hover, :focus-within");
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = old.get(name);
    old.delete(name);
    const isNew = child === undefined;
    if (isNew) {
      child = create(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (isHeld) {
      if (isNew) parent.append(child);
    } else if (child === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(child, place);
    }
  }
  for (const child of old.values()) child.remove();
}

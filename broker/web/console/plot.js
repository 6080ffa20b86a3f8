// One measure over the last minutes, as a line; an SVG drawn anew with each point.

import { make, setText } from "./dom.js";
import { clock } from "./format.js";

const MINUTE_MS = 60_000;
const SPANS_MS = [1, 2, 5].map((minutes) => minutes * MINUTE_MS);
const ABOVE = 8, BELOW = 16;
const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The next of 1, 2, 5, 10, 20, … at or above. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.9999) * power;
}

/**
 * A plot in `place`. `format` makes [number, unit] of a value; `least` is the lowest top of the scale. Values may be
 * null, where the line has a hole.
 */
export class Plot {
  #format; #least; #title; #now; #beside; #svg;
  #points = [];
  #at = null;     // where the pointer is, in pixels

  constructor(place, { title, format, least }) {
    this.#format = format;
    this.#least = least;
    this.#title = title;
    this.#beside = make("p", { className: "beside" });
    this.#now = make("p", { className: "now", textContent: "–" });
    this.#svg = draw("svg", { role: "img", "aria-label": title });
    place.append(make("h2", { textContent: title }), make("div", {}, this.#beside, this.#now), this.#svg);
    new ResizeObserver(() => this.#render()).observe(this.#svg);
    this.#svg.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#svg.addEventListener("pointerleave", () => this.#point(null));
  }

  /** Show [time, value] points, the oldest first; `value` is the number beside them, else that of the last point. */
  show(points, value = points.at(-1)?.[1] ?? null) {
    this.#points = points;
    const most = this.#most();
    const [number, unit] = value === null ? ["–", ""] : this.#format(value);
    this.#now.replaceChildren(number, unit ? make("small", { textContent: ` ${unit}` }) : "");
    const peak = most === null ? "" : `highest ${this.#format(most).join(" ")}`;
    this.#svg.setAttribute("aria-label", `${this.#title}: now ${number} ${unit}${peak && `, ${peak}`} of the last minutes`);
    this.#render();
  }

  #most() {
    const values = this.#points.map(([, value]) => value).filter((value) => value !== null);
    return values.length ? Math.max(...values) : null;
  }

  #point(x) {
    this.#at = x;
    this.#render();
  }

  #render() {
    const { width, height } = this.#svg.getBoundingClientRect();
    const most = this.#most();
    if (!width) return;
    const top = roundUp(Math.max(most ?? 0, this.#least));
    const end = this.#points.at(-1)?.[0] ?? 0;
    const age = end - (this.#points[0]?.[0] ?? 0);
    // A server that has just started has not five minutes to show.
    const span = SPANS_MS.find((one) => one >= age) ?? SPANS_MS.at(-1);
    const x = (time) => width - ((end - time) / span) * width;
    const y = (value) => height - BELOW - (value / top) * (height - BELOW - ABOVE);
    this.#svg.replaceChildren(
      ...[0, 0.5, 1].map((share) => draw("line", { class: "grid", x1: 0, x2: width, y1: y(share * top), y2: y(share * top) })),
      ...this.#curves(x, y),
      draw("text", { x: 0, y: height - 3 }, `${span / MINUTE_MS} min ago`),
      draw("text", { x: width, y: height - 3, "text-anchor": "end" }, "now"),
      draw("text", { x: 0, y: y(top) + 11 }, this.#format(top).join(" ")),
    );
    const near = this.#at === null ? null : this.#nearest(x);
    if (near !== null) {
      this.#svg.append(
        draw("line", { class: "cross", x1: x(near[0]), x2: x(near[0]), y1: ABOVE, y2: height - BELOW }),
        draw("circle", { class: "point", cx: x(near[0]), cy: y(near[1]), r: 4.5 }),
      );
    }
    const said = near ? `${clock(near[0])}  ${this.#format(near[1]).join(" ")}` : most === null ? "" : `highest ${this.#format(most).join(" ")}`;
    setText(this.#beside, said);
  }

  #curves(x, y) {
    const runs = [];
    let run = null;
    for (const [time, value] of this.#points) {
      if (value === null) {
        run = null;
        continue;
      }
      if (run === null) runs.push(run = []);
      run.push([x(time), y(value)]);
    }
    const path = (points) => points.map(([px, py], at) => `${at ? "L" : "M"}${px.toFixed(1)},${py.toFixed(1)}`).join("");
    return runs.flatMap((points) => {
      const floor = y(0).toFixed(1);
      const under = `${path(points)}L${points.at(-1)[0].toFixed(1)},${floor}L${points[0][0].toFixed(1)},${floor}Z`;
      // A single point would be no line; this short one has round ends.
      const line = points.length > 1 ? path(points) : `${path(points)}h0.01`;
      return [draw("path", { class: "under", d: under }), draw("path", { class: "curve", d: line })];
    });
  }

  #nearest(x) {
    let best = null;
    for (const point of this.#points) {
      if (point[1] === null) continue;
      if (best === null || Math.abs(x(point[0]) - this.#at) < Math.abs(x(best[0]) - this.#at)) best = point;
    }
    return best !== null && Math.abs(x(best[0]) - this.#at) < 24 ? best : null;
  }
}

// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const oneDecimal = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number);
export function compact(number) {
  if (number >= 10_000) return short.format(number);
  return (number < 100 ? tenths : whole).format(number);
}

export function rate(number) {
  if (number === null || number === undefined) return "–";
  return number < 100 ? oneDecimal.format(number) : compact(number);
}

export function bytes(number) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${tenths.format(number / size)} ${unit}`;
  }
  return `${number} B`;
}

/** A time in milliseconds, with the unit that suits it, as [number, unit]. */
export function delay(ms) {
  if (ms < 1) return [whole.format(ms * 1000), "µs"];
  if (ms < 1000) return [ms < 10 ? tenths.format(ms) : whole.format(ms), "ms"];
  return [tenths.format(ms / 1000), "s"];
}

export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2)
    .map(([unit, size], at) => [at ? Math.floor((seconds % parts[first][1]) / size) : Math.floor(seconds / size), unit])
    .filter(([number], at) => number || !at)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** A time of today as `clock` has it, and any other with its day. */
export function moment(ms) {
  const day = (time) => new Date(time).toLocaleDateString("en-CA");
  return day(ms) === day(Date.now()) ? clock(ms) : `${day(ms)} ${clock(ms)}`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

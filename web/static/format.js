// Figures, times and axis steps as texts. Nothing here touches the page, so it can be run alone.

const GROUPED = new Map();

function grouped(least, most) {
  const key = least * 100 + most;
  if (!GROUPED.has(key)) {
    GROUPED.set(key, new Intl.NumberFormat("en-US", { minimumFractionDigits: least, maximumFractionDigits: most }));
  }
  return GROUPED.get(key);
}

const isMissing = (value) => value === null || value === undefined || value === "" || Number.isNaN(Number(value));

// An amount with a fixed number of places; the minus is a true one, as wide as the plus. "–" for no value.
export function amount(value, places = 2) {
  if (isMissing(value)) return "–";
  const text = grouped(places, places).format(Math.abs(Number(value)));
  return Number(value) < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

// An amount that always shows its sign, except zero.
export function signed(value, places = 2) {
  const text = amount(value, places);
  return Number(value) > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

// A quantity: as many places as it has, up to eight.
export function quantity(value) {
  if (isMissing(value)) return "–";
  const text = grouped(0, 8).format(Math.abs(Number(value)));
  return Number(value) < 0 ? `−${text}` : text;
}

// How many places a price is written with, at least two, so that a column of one instrument lines up. A
// double holds 15 digits: those behind were left by arithmetic, as in 183.98999999999998.
export function placesOf(price) {
  const isLong = typeof price === "number" && Number.isFinite(price);
  const text = String(isLong ? Number(price.toPrecision(15)) : price ?? "");
  const point = text.indexOf(".");
  return point < 0 || text.includes("e") ? 2 : Math.min(Math.max(text.length - point - 1, 2), 8);
}

// The colour of an amount as it is shown: one that rounds to zero has none.
export function tone(value, places = 8) {
  const shown = Math.round(Math.abs(Number(value)) * 10 ** places);
  return !(shown > 0) ? "" : Number(value) > 0 ? "up" : "down";
}

export const symbolOf = (instrument) => instrument.replace(/\.[^.]*$/, "");

const iso = (ns) => new Date(Number(ns) / 1e6).toISOString();

// The time of day, UTC.
export const clock = (ns) => ns ? iso(ns).slice(11, 19) : "–";

// Date and time of day, UTC.
export const instant = (ns) => ns ? iso(ns).slice(0, 19).replace("T", " ") : "";

// How long something took or takes: 8 s, 3 min, 2 h.
export function span(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

// Round values between `low` and `high`, about `count` of them, and the places they are written with.
export function valueTicks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  if (!(raw > 0)) return { ticks: [low], places: placesOf(low) };
  const power = Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * 10 ** power >= raw * (1 - 1e-9)) * 10 ** power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return { ticks, places: Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 8) };
}

const MINUTE = 60e9, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const TIME_STEPS = [
  1e9, 2e9, 5e9, 10e9, 15e9, 30e9, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 182 * DAY, 365 * DAY,
];

// Round instants (ns) between two, at most `count`, each with its text.
export function timeTicks(from, to, count) {
  const step = TIME_STEPS.find((s) => (to - from) / s <= count) ?? Math.ceil((to - from) / count / (365 * DAY)) * 365 * DAY;
  const write = step >= DAY ? (ns) => iso(ns).slice(0, 10)
    : step >= MINUTE ? (ns) => iso(ns).slice(11, 16) : (ns) => iso(ns).slice(11, 19);
  const ticks = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) ticks.push({ time, text: write(time) });
  return ticks;
}

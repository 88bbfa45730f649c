// Rows of the tables as cells [text, class, title]. Nothing here touches the page.
import { amount, clock, quantity, symbolOf, tone } from "./format.js";

// A target in words; how much only where it is not the whole weight.
function aim(target) {
  const word = target > 0 ? "long" : target < 0 ? "short" : "flat";
  return target === 0 || Math.abs(target) === 1 ? word : `${word} ${quantity(Math.abs(target))}`;
}

// What an order waits for: its stop price, its limit, or both.
export function priceOf(o, places) {
  const limit = o.limit_price ? amount(o.limit_price, places) : "";
  if (!o.stop_price) return limit || "–";
  const stop = `stop ${amount(o.stop_price, places)}`;
  return limit ? `${stop} / limit ${limit}` : stop;
}

const sideTone = (side) => side === "BUY" ? "up" : "down";

function statusTone(status) {
  if (status === "FILLED") return "";
  if (status === "DENIED" || status === "REJECTED") return "down";
  if (status === "CANCELED" || status === "EXPIRED") return "quiet";
  return status === "UNKNOWN" || status.startsWith("PENDING") ? "warn" : "open";
}

const accountCell = (item) => [item.account_id ?? "", "name account", item.account_id];

export function orderRow(o, places) {
  const status = o.code ? `${o.status} ${o.code}` : o.status;
  const type = o.order_type ?? "–";
  return [
    [clock(o.time)], accountCell(o), [symbolOf(o.instrument_id ?? "–")], [o.side ?? "–", sideTone(o.side)], [quantity(o.quantity), "n"],
    o.is_reduce_only ? [`${type} reduce-only`, "", "may only make the position smaller"] : [type], [priceOf(o, places), "n"],
    [status, `status ${statusTone(o.status)}`, o.detail || status], [quantity(o.filled), "n"],
    [o.average ? amount(o.average, Math.max(places, 4)) : "–", "n"],
    [o.strategy_id ?? "", "name", o.strategy_id], [o.client_order_id, "name extra", o.client_order_id],
  ];
}

export const signalRow = (s, places) => [
  [clock(s.time)], [symbolOf(s.instrument_id)], [aim(s.target), tone(s.target)],
  [amount(s.price, places), "n"], [s.strategy_id, "name", s.strategy_id],
];

export const fillRow = (f, places) => [
  [clock(f.time)], accountCell(f), [symbolOf(f.instrument_id)], [f.side, sideTone(f.side)], [quantity(f.quantity), "n"],
  [amount(f.price, places), "n"], [amount(f.fee), "n"],
];

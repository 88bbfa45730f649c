// What the page knows of a run, folded from records as they are published. Nothing here touches the page.
// Figures and positions are those of one account; of orders, fills and signals each account's newest are kept.
// Amounts arrive as exact decimal texts on topics and as numbers from /api, and are shown as they come; only the
// results of the strategies are added up, for display.
import { placesOf } from "./format.js";

export const TOPICS = [
  "market.events.v1", "strategy.signals.v1", "orders.events.v1", "orders.fills.v1", "account.inputs.v1",
  "portfolio.positions.v1", "portfolio.equity.v1", "risk.breaker.v1",
];
const POINTS = 2000;
const KEPT = 100;             // fills, and signals, of each account
const ORDERS = 500;           // of each account
const STATES = ["ACTIVE", "REDUCING", "HALTED"];
const LETS_PASS = { ACTIVE: "all orders may pass", REDUCING: "only orders that reduce", HALTED: "no order passes" };
const CLOSED = new Set(["FILLED", "CANCELED", "EXPIRED", "REJECTED", "DENIED"]);

export const isOpen = (order) => !CLOSED.has(order.status);

export class RunState {
  names = [];            // the accounts of the run
  owners = new Map();    // account by strategy
  prices = new Map();
  positions = new Map();
  orders = new Map();
  signals = [];
  fills = [];
  curve = [];
  initial = null;        // equity at the start of the run, null until it is known
  equity = null;         // the newest value of the account: a mark, or a valuation by /api if it is newer
  detail = null;         // the account as /api/portfolio gives it
  results = null;        // what all strategies made together, null where that has no one currency
  breaker = { state: "", reason: "" };
  denied = 0;
  now = 0;               // newest event time, ns

  // Without an account nothing of any is taken in for figures: whoever is heard first need not be the one meant.
  constructor(account = "") {
    this.account = account;
  }

  // Begin anew for an account, with what is the same for all of them.
  withAccount(account) {
    const next = new RunState(account);
    for (const name of ["names", "owners", "prices", "signals", "now"]) next[name] = this[name];
    return next;
  }

  // Those of some orders or fills that are of the account.
  own(items) {
    return [...items].filter((item) => !this.account || item.account_id === this.account);
  }

  // The signals of the account's strategies; one of a strategy that nobody knows is shown with every account.
  get ownSignals() {
    return this.signals.filter((s) => this.#isOwn(s.strategy_id));
  }

  // Fold one record. Return which figures that only /api knows have changed: "risk", "portfolio" or "".
  fold(topic, r) {
    this.now = Math.max(this.now, r.ts_event_ns || 0);
    switch (topic) {
      case "market.events.v1": this.#market(r); return this.#isHeld(r.instrument_id) ? "portfolio" : "";
      case "account.inputs.v1": this.#submitted(r); return "";
      case "orders.events.v1": this.#orderEvent(r); return r.type === "order_denied" || r.type === "order_submitted" ? "risk" : "";
      case "orders.fills.v1": this.#fill(r); return "portfolio";
      case "strategy.signals.v1": keep(this.signals, { ...r, time: r.ts_event_ns }, (s) => this.owners.get(s.strategy_id)); return "";
      case "portfolio.positions.v1": this.#position(r); return "portfolio";
      case "portfolio.equity.v1": this.#mark(r); return "portfolio";
      case "risk.breaker.v1": return "risk";
      default: return "";
    }
  }

  // Take the orders that stand, out of lists that come newest first. What the topics told meanwhile comes behind.
  loadOrders(...lists) {
    this.orders.clear();
    for (const o of merged(lists, orderKey, (order) => order.created_ns).reverse()) {
      this.orders.set(orderKey(o), { ...o, time: o.created_ns, filled: o.filled_quantity, average: o.average_price });
    }
  }

  // Take the newest fills, likewise.
  loadFills(...lists) {
    this.fills = merged(lists, fillKey, (fill) => fill.time_ns).map((f) => ({ ...f, time: f.time_ns }));
  }

  // Take the state of the breaker: the strictest of those that orders of the account meet.
  takeBreaker(scopes) {
    const met = scopes.filter(({ scope, scope_id }) => {
      if (scope === "ACCOUNT") return scope_id === this.account;
      return scope !== "STRATEGY" || this.#isOwn(scope_id);
    });
    const state = STATES[Math.max(0, ...met.map((s) => STATES.indexOf(s.state)))];
    const strictest = met.find((s) => s.state === state && state !== "ACTIVE");
    this.breaker = { state, reason: strictest?.reason || LETS_PASS[state] };
  }

  // Take the account as /api values it now, between two marks.
  value(account) {
    this.detail = account;
    this.initial = account.initial_equity ?? this.initial;
    if (account.as_of_ns <= (this.equity?.time ?? -1)) return;
    this.equity = {
      time: account.as_of_ns, equity: account.equity, drawdown: account.drawdown_pct,
      gross: account.gross_exposure, net: account.net_exposure,
    };
  }

  // Take the results by strategy, /api/portfolio/pnl.
  takeResults(groups) {
    const sum = (name) => groups.reduce((total, group) => total + Number(group[name] ?? 0), 0);
    const isOne = new Set(groups.map((group) => group.currency)).size <= 1;
    this.results = isOne ? { realized: sum("realized_pnl"), unrealized: sum("unrealized_pnl"), fees: sum("fees") } : null;
  }

  // The curve up to the newest value.
  get points() {
    const last = this.curve.at(-1);
    return last && this.equity?.time > last.time ? [...this.curve, this.equity] : this.curve;
  }

  addPoint(point) {
    const last = this.curve.at(-1);
    if (last && point.time <= last.time) return;
    if (this.initial === null) this.initial = point.equity;
    this.curve.push(point);
    // Every second point goes, so the whole run stays in sight.
    if (this.curve.length > 2 * POINTS) this.curve = this.curve.filter((_, i) => i % 2 === 0 || i === this.curve.length - 1);
  }

  // Note a price, and the places that this instrument's prices need.
  price(instrument, changes) {
    const price = this.prices.get(instrument) ?? { places: 2 };
    Object.assign(price, changes);
    for (const value of [price.last, price.bid, price.ask]) price.places = Math.max(price.places, placesOf(value));
    this.prices.set(instrument, price);
  }

  placesIn(instrument) {
    return this.prices.get(instrument)?.places ?? 2;
  }

  #isOwn(strategy) {
    return (this.owners.get(strategy) || this.account) === this.account;
  }

  #isHeld(instrument) {
    for (const p of this.positions.values()) {
      if (p.instrument_id === instrument && Number(p.quantity)) return true;
    }
    return false;
  }

  #market(r) {
    if (!r.instrument_id) return;
    if (r.type === "trade" || r.type === "bar") {
      const next = r.type === "trade" ? r.price : r.close;
      const before = this.prices.get(r.instrument_id);
      const tone = before?.last === undefined || next === before.last ? before?.tone ?? "" : next > before.last ? "up" : "down";
      this.price(r.instrument_id, { last: next, tone, time: r.ts_event_ns });
    } else if (r.type === "quote") {
      this.price(r.instrument_id, { bid: r.bid_price || null, ask: r.ask_price || null, time: r.ts_event_ns });
    }
  }

  #order(r) {
    const key = orderKey(r);
    let known = this.orders.get(key);
    if (!known) {
      known = { client_order_id: r.client_order_id, account_id: r.account_id, status: "INITIALIZED", time: r.ts_event_ns, filled: "0" };
      this.orders.set(key, known);
      this.#forgetOrder(r.account_id);
    }
    return known;
  }

  // An account's oldest closed order goes; an open one stays in sight however old it is.
  #forgetOrder(account) {
    if (this.orders.size <= ORDERS) return;
    const own = [...this.orders].filter(([, order]) => order.account_id === account);
    const oldest = own.length > ORDERS ? own.find(([, order]) => !isOpen(order)) : undefined;
    if (oldest) this.orders.delete(oldest[0]);
  }

  #submitted(r) {
    if (r.type !== "submit_order" || this.orders.has(orderKey(r))) return;
    Object.assign(this.#order(r), {
      strategy_id: r.strategy_id, instrument_id: r.instrument_id, side: r.side, quantity: r.quantity,
      order_type: r.order_type || "MARKET", limit_price: r.limit_price, stop_price: r.stop_price,
      is_reduce_only: r.is_reduce_only ?? false,
    });
  }

  #orderEvent(r) {
    const changes = { strategy_id: r.strategy_id, instrument_id: r.instrument_id, status: r.status };
    if (r.type === "order_submitted" || r.type === "order_initialized") Object.assign(changes, { side: r.side, quantity: r.quantity, order_type: r.order_type });
    if (r.type === "order_submitted") Object.assign(changes, { limit_price: r.limit_price, stop_price: r.stop_price });
    if (r.type === "order_initialized") changes.is_reduce_only = r.is_reduce_only ?? false;
    if (r.type === "order_replaced") Object.assign(changes, { quantity: r.quantity, limit_price: r.limit_price, stop_price: r.stop_price });
    if (r.cumulative_quantity) Object.assign(changes, { filled: r.cumulative_quantity, average: r.average_price });
    if (r.type === "order_denied" || r.type === "order_rejected") Object.assign(changes, { code: r.code, detail: r.detail ?? "" });
    if (r.type === "order_canceled") Object.assign(changes, { code: r.reason ?? "", detail: "" });
    Object.assign(this.#order(r), changes);
  }

  #fill(r) {
    if (this.fills.some((f) => fillKey(f) === fillKey(r))) return;
    keep(this.fills, { ...r, time: r.ts_event_ns }, (f) => f.account_id);
  }

  #position(r) {
    if (r.account_id !== this.account) return;
    const key = positionKey(r);
    const { quantity, average_price, realized_pnl } = r;
    this.positions.set(key, { ...this.positions.get(key), strategy_id: r.strategy_id, instrument_id: r.instrument_id, quantity, average_price, realized_pnl });
  }

  #mark(r) {
    if (r.strategy_id || r.account_id !== this.account) return;
    if (r.ts_event_ns >= (this.equity?.time ?? 0)) {
      this.equity = { time: r.ts_event_ns, equity: r.equity, drawdown: 100 * r.drawdown, gross: r.gross_exposure, net: r.net_exposure };
    }
    this.addPoint({ time: r.ts_event_ns, equity: r.equity });
  }
}

export const positionKey = (p) => `${p.strategy_id}|${p.instrument_id}`;

const orderKey = (o) => `${o.account_id}|${o.client_order_id}`;

const fillKey = (f) => `${f.account_id}|${f.trade_id}`;

// One list, newest first, of several that are; what is in more than one of them comes once.
function merged(lists, keyOf, timeOf) {
  const byKey = new Map(lists.flat().map((item) => [keyOf(item), item]));
  return [...byKey.values()].sort((a, b) => timeOf(b) - timeOf(a));
}

// Put an item first; the oldest of its own owner goes when there are too many, so that a busy account leaves
// the others theirs.
function keep(list, item, ownerOf) {
  list.unshift(item);
  const owner = ownerOf(item);
  const isOwn = (other) => ownerOf(other) === owner;
  if (list.length > KEPT && list.filter(isOwn).length > KEPT) list.splice(list.findLastIndex(isOwn), 1);
}

// Runs the modules of the live page that need no page: gives one JSON text with what they answer.
// node dashboard.mjs, with the modules as .mjs beside it.
import * as accounts from "./accounts.mjs";
import * as format from "./format.mjs";
import { RunState, isOpen } from "./folding.mjs";
import { orderRow } from "./rows.mjs";

const hour = 3600e9;
const start = Date.UTC(2013, 9, 7, 13, 31) * 1e6;

function folded(...records) {
  const state = new RunState("paper");
  const changes = records.map(([topic, record]) => state.fold(topic, record));
  return { state, changes };
}

const submit = (id, account = "paper", more = {}) => ["account.inputs.v1", {
  type: "submit_order", account_id: account, client_order_id: id, strategy_id: "s", instrument_id: "IBM.XNYS",
  side: "BUY", quantity: "10", ts_event_ns: start, ...more,
}];
const event = (type, id, status, more = {}) => ["orders.events.v1", {
  type, account_id: "paper", client_order_id: id, strategy_id: "s", instrument_id: "IBM.XNYS", status, ts_event_ns: start + 1, ...more,
}];
const trade = (price) => ["market.events.v1", { type: "trade", instrument_id: "EURUSD.XXXX", price, ts_event_ns: start }];
const mark = (time, equity, account = "paper") => ["portfolio.equity.v1", {
  account_id: account, strategy_id: "", equity, drawdown: -0.001, gross_exposure: 5, net_exposure: -5, ts_event_ns: time,
}];

const life = folded(
  submit("a"), submit("a", "other"), event("order_denied", "b", "DENIED", { code: "MAX_POSITION", detail: "too many" }),
  event("order_filled", "a", "FILLED", { cumulative_quantity: "10", average_price: "182.5" }),
  event("order_canceled", "c", "CANCELED", { reason: "REDUCE_ONLY" }),
).state;
const terms = folded(
  submit("stop", "paper", { order_type: "STOP", stop_price: "9", is_reduce_only: true }),
  event("order_replaced", "stop", "ACCEPTED", { quantity: "4", stop_price: "8.5", cumulative_quantity: "1", average_price: "9" }),
).state.orders.get("paper|stop");
const many = folded(submit("open"), ...Array.from({ length: 700 }, (_, i) => event("order_filled", `o${i}`, "FILLED"))).state;
const fill = ["orders.fills.v1", { trade_id: "t", ts_event_ns: start }];
const curve = folded(mark(start, 100), mark(start + 1e9, 101), mark(start + 1e9, 101), mark(start + 2e9, 55, "other"));
const signal = (strategy) => ["strategy.signals.v1", { strategy_id: strategy, instrument_id: "IBM.XNYS", target: 1, price: 9, ts_event_ns: start }];
const executed = (account, trade_id) => ["orders.fills.v1", { account_id: account, trade_id, ts_event_ns: start }];

// A run of two accounts, one of them busy, as the page of `account` sees it.
function seenBy(account) {
  const state = new RunState(account);
  state.owners = new Map([["calm", "ira"], ["busy", "paper"]]);
  const records = [submit("a", "ira"), executed("ira", "1"), signal("calm"), mark(start, 20, "ira"), mark(start, 100), ...Array.from({ length: 600 }, (_, i) => [
    submit(`o${i}`), event("order_filled", `o${i}`, "FILLED"), executed("paper", `${i}`), signal("busy"),
  ]).flat()];
  for (const [topic, record] of records) state.fold(topic, record);
  state.takeBreaker([
    { scope: "ACCOUNT", scope_id: "ira", state: "HALTED", reason: "closed" }, { scope: "STRATEGY", scope_id: "busy", state: "REDUCING", reason: "too fast" },
  ]);
  return [
    state.equity?.equity ?? null, state.own(state.orders.values()).length, state.own(state.fills).length, state.ownSignals.length,
    state.breaker.state, state.breaker.reason, state.fills.length,
  ];
}

const loaded = new RunState("ira");
const listed = (id, account_id, created_ns) => ({ client_order_id: id, account_id, created_ns, status: "ACCEPTED" });
loaded.loadOrders([listed("b", "ira", 2)], [listed("c", "paper", 3), listed("b", "ira", 2), listed("a", "paper", 1)]);
const page = "https://host/?account=ira&all=fills";
const prices = [{}, { limit_price: 182.5 }, { stop_price: 182.85 }, { stop_price: "182.85", limit_price: "182.50", is_reduce_only: true }]
  .map((o) => orderRow({ order_type: "T", status: "ACCEPTED", client_order_id: "x", ...o }, 2)).map((cells) => [cells[5][0], cells[6][0]]);

const long = folded(...Array.from({ length: 4500 }, (_, i) => mark(start + i * 1e9, 100 + i))).state.curve;

const valued = folded(mark(start, 100), ["portfolio.positions.v1", {
  account_id: "paper", strategy_id: "s", instrument_id: "EURUSD.XXXX", quantity: "5", average_price: "1", realized_pnl: "0", ts_event_ns: start,
}]).state;
const account = (time, equity) => ({ account_id: "paper", equity, as_of_ns: time, drawdown_pct: 0, gross_exposure: 5, net_exposure: 5, initial_equity: 90 });
const values = [account(start, 7), account(start + 1e9, 103)].map((a) => { valued.value(a); return [valued.equity.equity, valued.points.length]; });
const asked = [trade(1.1), ["market.events.v1", { type: "trade", instrument_id: "OTHER.XXXX", price: 1, ts_event_ns: start }]].map(([topic, r]) => valued.fold(topic, r));

function results(...currencies) {
  const state = new RunState();
  state.takeResults(currencies.map((currency) => ({ currency, realized_pnl: -2.5, unrealized_pnl: null, fees: 1 })));
  return state.results;
}

console.log(JSON.stringify({
  amounts: [format.amount("1234567.891"), format.amount(-0.001), format.amount(-12.5), format.amount(null), format.amount("abc"), format.amount(0)],
  signs: [format.signed(12), format.signed(-12), format.signed(0.001), format.signed(undefined)],
  tones: [[-0.004, 2], [-0.005, 2], [0.005, 2], [-0.00001], [NaN], [null]].map((given) => format.tone(...given)),
  quantities: [format.quantity("12000"), format.quantity("-0.12345678"), format.quantity("")],
  places: [182.5, 182, "1.08345", "0.0000000001", 1e-9, null, 183.98999999999998].map(format.placesOf),
  spans: [8.9, 125, 7300].map(format.span),
  axes: [format.valueTicks(99744.36, 100009.48, 4), format.valueTicks(0.11, 0.14, 3), format.valueTicks(5, 5, 4)],
  times: [format.timeTicks(start, start + 6 * hour, 7), format.timeTicks(start, start + 90e9, 4), format.timeTicks(start, start + 24 * 5 * hour, 5)]
    .map((ticks) => ticks.map((tick) => tick.text)),
  orders: [...life.orders].map(([key, o]) => [key, o.status, o.filled, o.code ?? "", isOpen(o)]),
  terms: [terms.order_type, terms.stop_price, terms.is_reduce_only, terms.quantity, terms.filled],
  kept: [many.orders.size, many.orders.has("paper|open")],
  fills: folded(fill, fill).state.fills.length,
  curve: [curve.state.curve.map((p) => p.equity), curve.state.initial, curve.state.account, curve.changes],
  results: [results("USD", "USD"), results("USD", "EUR")],
  values, asked, initial: valued.initial,
  chosen: [[["ira", "paper"], "", "paper"], [["ira", "paper"], "ira", "paper"], [["ira", "paper"], "gone", "paper"], [["ira"], "", "paper"], [[], "ira", ""]]
    .map((question) => accounts.chosenOf(...question)),
  addresses: [accounts.wantedIn(page), accounts.wantedIn("https://host/"), accounts.addressWith(page, "a&b"), [...accounts.widenedIn(page)],
    accounts.addressWidened(page, "orders", true), accounts.addressWidened(page, "fills", false)],
  seen: { ira: seenBy("ira"), paper: seenBy("paper"), nobody: seenBy("")[0] },
  loaded: [...loaded.orders.keys()], prices_of_orders: prices,
  long: [long.length <= 4000, long[0].equity, long.at(-1).equity],
  prices: folded(trade(1.08), trade(1.08345), trade(1.0834)).state.prices.get("EURUSD.XXXX"),
}));

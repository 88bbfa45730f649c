// The live page. It follows the topics over /ws, reads the present from /api, and resumes from its own cursor.
// Amounts arrive as exact decimal texts on topics and as numbers from /api; both are only shown, never added up.
import { watch } from "./client.js";

const TOPICS = [
  "market.events.v1", "strategy.signals.v1", "orders.events.v1", "orders.fills.v1", "account.inputs.v1",
  "portfolio.positions.v1", "portfolio.equity.v1", "risk.breaker.v1",
];
const ROWS = 16;
const SIDE_ROWS = 6;
const POINTS = 2000;
const byId = (id) => document.getElementById(id);

const state = {
  account: "", prices: new Map(), positions: new Map(), orders: new Map(), signals: [], fills: [], curve: [],
  first: null, denied: 0, breaker: { state: "ACTIVE", reason: "" }, now: 0,
};
let isDirty = false;
let waiting = [];      // frames that arrived while /api was being read; null once they may be folded at once
let riskTimer = 0;

// ---- words and figures

const amount = (value, places = 2) => value === null || value === undefined || value === "" ? "–"
  : Number(value).toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
const plain = (value) => value === null || value === undefined ? "–" : String(value);
const clock = (ns) => ns ? new Date(Number(ns) / 1e6).toISOString().slice(11, 19) : "–";
const symbolOf = (instrument) => instrument.replace(/\.[^.]*$/, "");
const tone = (value) => Number(value) > 0 ? "up" : Number(value) < 0 ? "down" : "";
const signed = (value) => (Number(value) > 0 ? "+" : "") + amount(value);
const statusTone = { FILLED: "up", DENIED: "down", REJECTED: "down", UNKNOWN: "warn", CANCELED: "warn", EXPIRED: "warn" };

function row(cells) {
  const line = document.createElement("tr");
  for (const [text, style] of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    if (style) cell.className = style;
    line.append(cell);
  }
  return line;
}

function fillTable(id, rows, nothing) {
  const body = byId(id);
  if (rows.length) {
    body.replaceChildren(...rows);
    return;
  }
  const line = row([[nothing, "empty"]]);
  line.firstChild.colSpan = 10;
  body.replaceChildren(line);
}

function show(id, text, style = "") {
  byId(id).textContent = text;
  byId(id).className = `figure ${style}`;
}

// ---- drawing

function render() {
  isDirty = false;
  const last = state.curve.at(-1);
  byId("clock").textContent = state.now ? new Date(state.now / 1e6).toISOString().replace("T", " ").slice(0, 19) : "";
  byId("account").textContent = state.account;
  if (last) {
    const profit = last.equity - state.first;
    show("equity", amount(last.equity));
    show("pnl", signed(profit), tone(profit));
    byId("pnl-share").textContent = `${(100 * profit / state.first).toFixed(3)} % of ${amount(state.first)}`;
    show("drawdown", `${amount(last.drawdown)} %`, last.drawdown < 0 ? "down" : "");
    show("exposure", amount(last.exposure));
  }
  const { state: breaker, reason } = state.breaker;
  show("breaker", breaker, breaker === "ACTIVE" ? "up" : breaker === "HALTED" ? "down" : "warn");
  byId("breaker-why").textContent = reason;
  show("order-count", String(state.orders.size));
  byId("denied").textContent = state.denied ? `${state.denied} denied` : "none denied";
  renderTables();
  drawChart();
}

function renderTables() {
  fillTable("prices", [...state.prices].sort().slice(0, ROWS).map(([name, p]) => row([
    [symbolOf(name)], [amount(p.last), `n ${p.tone || ""}`], [amount(p.bid), "n"], [amount(p.ask), "n"], [clock(p.time), "n"],
  ])), "no prices yet");
  fillTable("positions", [...state.positions.values()].map((p) => row([
    [symbolOf(p.instrument_id)], [p.strategy_id], [plain(p.quantity), `n ${tone(p.quantity)}`],
    [amount(p.average_price), "n"], [signed(p.realized_pnl), `n ${tone(p.realized_pnl)}`],
  ])), "no positions");
  fillTable("signals", state.signals.slice(0, SIDE_ROWS).map((s) => row([
    [clock(s.time)], [s.strategy_id], [symbolOf(s.instrument_id)], [plain(s.target), `n ${tone(s.target)}`], [amount(s.price), "n"],
  ])), "no signals yet");
  fillTable("orders", [...state.orders.values()].reverse().slice(0, ROWS).map((o) => row([
    [clock(o.time)], [o.client_order_id], [o.strategy_id], [symbolOf(o.instrument_id)],
    [plain(o.side), o.side === "BUY" ? "up" : "down"], [plain(o.quantity), "n"], [plain(o.order_type)],
    [o.status, statusTone[o.status] || ""], [plain(o.filled), "n"], [o.average ? amount(o.average, 4) : "–", "n"],
  ])), "no orders yet");
  fillTable("fills", state.fills.slice(0, SIDE_ROWS).map((f) => row([
    [clock(f.time)], [symbolOf(f.instrument_id)], [f.side, f.side === "BUY" ? "up" : "down"],
    [plain(f.quantity), "n"], [amount(f.price), "n"], [amount(f.fee), "n"],
  ])), "no fills yet");
}

function drawChart() {
  const canvas = byId("chart");
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const points = state.curve;
  if (points.length < 2) return;
  const values = points.map((p) => p.equity);
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= 1; high += 1; }
  const from = points[0].time, span = points.at(-1).time - from || 1;
  const x = (p) => 8 + (width - 90) * (p.time - from) / span;
  const y = (value) => 10 + (height - 34) * (high - value) / (high - low);
  pen.font = "11px system-ui, sans-serif";
  for (let step = 0; step <= 4; step += 1) {
    const value = low + (high - low) * step / 4;
    pen.strokeStyle = "#1a2536";
    pen.beginPath(); pen.moveTo(8, y(value)); pen.lineTo(width - 78, y(value)); pen.stroke();
    pen.fillStyle = "#7f90a8";
    pen.fillText(amount(value), width - 72, y(value) + 4);
  }
  pen.beginPath();
  points.forEach((p, i) => i ? pen.lineTo(x(p), y(p.equity)) : pen.moveTo(x(p), y(p.equity)));
  pen.strokeStyle = "#3fd0c9";
  pen.lineWidth = 1.6;
  pen.stroke();
  pen.lineTo(x(points.at(-1)), height - 24);
  pen.lineTo(8, height - 24);
  const shade = pen.createLinearGradient(0, 0, 0, height);
  shade.addColorStop(0, "rgba(63, 208, 201, .22)");
  shade.addColorStop(1, "rgba(63, 208, 201, 0)");
  pen.fillStyle = shade;
  pen.fill();
  pen.fillStyle = "#7f90a8";
  for (let step = 0; step <= 4; step += 1) {
    const time = from + span * step / 4;
    pen.fillText(clock(time), Math.min(8 + (width - 90) * step / 4, width - 130), height - 6);
  }
  byId("equity-range").textContent = `${amount(low)} – ${amount(high)}`;
}

// ---- folding records

function order(id, record) {
  let known = state.orders.get(id);
  if (!known) {
    known = { client_order_id: id, status: "INITIALIZED", time: record.ts_event_ns, filled: "0" };
    state.orders.set(id, known);
  }
  return known;
}

function foldMarket(r) {
  if (!r.instrument_id) return;
  const price = state.prices.get(r.instrument_id) || {};
  if (r.type === "trade" || r.type === "bar") {
    const next = r.type === "trade" ? r.price : r.close;
    if (price.last !== undefined && next !== price.last) price.tone = next > price.last ? "up" : "down";
    price.last = next;
  } else if (r.type === "quote") {
    price.bid = r.bid_price || null;
    price.ask = r.ask_price || null;
  } else {
    return;
  }
  price.time = r.ts_event_ns;
  state.prices.set(r.instrument_id, price);
}

const folds = {
  "market.events.v1": foldMarket,
  "account.inputs.v1": (r) => {
    if (r.type !== "submit_order" || state.orders.has(r.client_order_id)) return;
    Object.assign(order(r.client_order_id, r), {
      strategy_id: r.strategy_id, instrument_id: r.instrument_id, side: r.side, quantity: r.quantity, order_type: r.order_type || "MARKET",
    });
  },
  "orders.events.v1": (r) => {
    const known = order(r.client_order_id, r);
    const kept = { strategy_id: r.strategy_id, instrument_id: r.instrument_id, status: r.status };
    if (r.type === "order_submitted") Object.assign(kept, { side: r.side, quantity: r.quantity, order_type: r.order_type });
    if (r.cumulative_quantity) Object.assign(kept, { filled: r.cumulative_quantity, average: r.average_price });
    if (r.type === "order_denied") loadRiskSoon();
    Object.assign(known, kept);
  },
  "orders.fills.v1": (r) => {
    if (state.fills.some((f) => f.trade_id === r.trade_id)) return;
    state.fills.unshift({ ...r, time: r.ts_event_ns });
    state.fills.length = Math.min(state.fills.length, 100);
  },
  "strategy.signals.v1": (r) => {
    state.signals.unshift({ ...r, time: r.ts_event_ns });
    state.signals.length = Math.min(state.signals.length, 100);
  },
  "portfolio.positions.v1": (r) => {
    if (r.account_id === state.account) state.positions.set(`${r.strategy_id}|${r.instrument_id}`, r);
  },
  "portfolio.equity.v1": (r) => {
    if (!state.account) state.account = r.account_id;
    if (r.strategy_id || r.account_id !== state.account) return;
    addPoint({ time: r.ts_event_ns, equity: r.equity, drawdown: 100 * r.drawdown, exposure: r.gross_exposure });
  },
  "risk.breaker.v1": () => loadRiskSoon(),
};

function addPoint(point) {
  const last = state.curve.at(-1);
  if (last && point.time <= last.time) return;
  if (state.first === null) state.first = point.equity;
  state.curve.push(point);
  // Every second point goes, so the whole run stays in sight.
  if (state.curve.length > 2 * POINTS) state.curve = state.curve.filter((_, i) => i % 2 === 0);
}

function fold(topic, record) {
  state.now = Math.max(state.now, record.ts_event_ns || 0);
  folds[topic]?.(record);
  if (!isDirty) {
    isDirty = true;
    requestAnimationFrame(render);
  }
}

// ---- loading and following

async function get(path) {
  const answer = await fetch(path);
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function loadRisk() {
  const risk = await get("/api/risk?limit=0");
  const strictest = risk.circuit_breaker.scopes.find((scope) => scope.state === risk.circuit_breaker.state);
  state.breaker = { state: risk.circuit_breaker.state, reason: strictest ? strictest.reason : "no scope is tripped" };
  state.denied = risk.denied_count;
  render();
}

function loadRiskSoon() {
  if (!riskTimer) riskTimer = setTimeout(() => { riskTimer = 0; loadRisk(); }, 300);
}

async function load() {
  const [config, system, portfolio, orders, trades] = await Promise.all([
    get("/api/config"), get("/api/system"), get("/api/portfolio"), get("/api/orders?limit=200"), get("/api/trades?limit=50"),
  ]);
  byId("mode").textContent = config.mode;
  byId("mode").className = `badge ${config.mode === "replay" ? "replay" : ""}`;
  byId("run").textContent = system.run_id;
  document.title = `Millrace · ${system.run_id}`;
  state.orders.clear();
  for (const o of orders.orders.reverse()) {
    state.orders.set(o.client_order_id, { ...o, time: o.created_ns, filled: o.filled_quantity, average: o.average_price });
  }
  state.fills = trades.trades.map((f) => ({ ...f, time: f.time_ns }));
  for (const [name, top] of Object.entries(trades.order_book)) {
    if (top.time_ns) state.prices.set(name, { last: top.last_price, bid: top.bid_price, ask: top.ask_price, time: top.time_ns });
  }
  const detail = portfolio.accounts[0];
  if (detail) await loadAccount(detail);
  await loadRisk();
}

async function loadAccount(detail) {
  state.account = detail.account.account_id;
  if (detail.account.initial_equity) state.first = detail.account.initial_equity;
  for (const p of detail.positions) state.positions.set(`${p.strategy_id}|${p.instrument_id}`, p);
  const curve = await get(`/api/portfolio/${encodeURIComponent(state.account)}/equity?limit=${POINTS}`);
  state.curve = [];
  for (const p of curve.points) {
    addPoint({ time: p.time_ns, equity: p.equity, drawdown: p.drawdown_pct, exposure: detail.account.gross_exposure });
  }
}

function onItem(item) {
  if (item.kind === "subscribed") {
    // Subscribed first, read second: nothing falls between, and what comes twice is folded once.
    if (waiting) loadAndFold();
  } else if (item.kind === "snapshot") {
    for (const update of item.updates) take(update);
  } else if (item.kind === "update") {
    take(item);
  }
}

function take(update) {
  if (waiting) waiting.push(update);
  else fold(update.topic, update.record);
}

async function loadAndFold() {
  try {
    await load();
  } catch {
    setTimeout(loadAndFold, 1000);
    return;
  }
  const updates = waiting ?? [];
  waiting = null;
  for (const update of updates) fold(update.topic, update.record);
}

function setLink(isUp) {
  byId("link").textContent = isUp ? "live" : "offline";
  byId("link").className = `badge ${isUp ? "" : "off"}`;
}

const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;

async function follow() {
  try {
    for await (const item of watch({ url, topics: TOPICS, onLink: setLink })) onItem(item);
  } catch {
    // What the cursor asks for is no longer there: begin anew.
    location.reload();
  }
}

// Signals have no list in /api, so their past comes as a snapshot, on a connection of its own.
async function readSignals() {
  for await (const item of watch({ url, topics: ["strategy.signals.v1"], snapshot: true })) {
    if (item.kind === "snapshot") onItem(item);
    if (item.kind === "snapshot" && item.isLast) break;
  }
}

window.addEventListener("resize", render);
readSignals().then(follow);

// The live page. It follows the topics over /ws, reads the present from /api, and resumes from its own cursor.
import { EquityChart } from "./chart.js";
import { StreamError, watch } from "./client.js";
import { RunState, TOPICS, isOpen, positionKey } from "./folding.js";
import { amount, clock, instant, quantity, signed, span, symbolOf, tone } from "./format.js";
import { fillTable } from "./tables.js";

const ROWS = 50;
const DRAW_MS = 100;          // the page is drawn at most ten times a second, however many records come
const ASK_MS = 1000;          // and asks /api for figures that no topic has at most once in this time
const QUIET_S = 10;           // without records for so long it says so
const CHOSEN = new URLSearchParams(location.search).get("account") ?? "";
const START_ANEW = new Set(["epoch_changed", "cursor_expired", "bad_cursor"]);
const byId = (id) => document.getElementById(id);

const state = new RunState();
const chart = new EquityChart(byId("chart"), byId("reading"));
let isDrawn = true;
let waiting = [];             // frames that arrived while /api was being read; null once they may be folded at once
let shownCurve = "";
let heard_ms = Date.now();    // when the last record came
let lost_ms = 0;              // when the connection was lost, 0 while it stands
const asks = new Map();       // what is to be asked of /api soon

// ---- drawing

function drawSoon() {
  if (!isDrawn) return;
  isDrawn = false;
  setTimeout(() => requestAnimationFrame(render), DRAW_MS);
}

function show(id, text, style = "") {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
  // A long figure is written smaller: one that is cut off would be read as another.
  place.className = `figure ${style} ${text.length > 15 ? "longest" : text.length > 11 ? "long" : ""}`;
}

function note(id, text, more = text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
  if (place.title !== more) place.title = more;
}

function render() {
  isDrawn = true;
  byId("clock").textContent = state.now ? `${instant(state.now)} UTC` : "";
  renderFigures();
  renderTables();
  const points = state.points;
  const curve = `${points.length}|${points.at(-1)?.time}|${points.at(-1)?.equity}|${state.initial}`;
  if (curve === shownCurve) return;
  shownCurve = curve;
  chart.show(points, state.initial);
}

function renderFigures() {
  note("account", state.account ? `account ${state.account}` : "");
  const { equity, detail: account } = state;
  if (equity) {
    const profit = equity.equity - state.initial;
    show("equity", amount(equity.equity));
    show("pnl", signed(profit), tone(profit));
    note("pnl-share", state.initial ? `${signed(100 * profit / state.initial, 3)} %` : "");
    show("drawdown", `${amount(equity.drawdown)} %`, equity.drawdown <= -0.005 ? "down" : "");
    show("exposure", amount(equity.gross));
    note("net", `net ${signed(equity.net)}`);
  }
  if (account) {
    note("peak", `peak ${amount(account.peak_equity)}`);
  }
  const { results } = state;
  show("unrealized", signed(results?.unrealized), tone(results?.unrealized));
  const realized = results ? `realized ${signed(results.realized)}` : account ? "several currencies" : "";
  note("realized", realized, results ? `${realized} before fees of ${amount(results.fees)}` : realized);
  const { state: breaker, reason } = state.breaker;
  show("breaker", breaker || "–", { ACTIVE: "up", REDUCING: "warn", HALTED: "down" }[breaker] ?? "");
  note("breaker-why", reason);
  show("order-count", String(ofAccount(state.orders.values()).filter(isOpen).length));
  note("denied", `${quantity(state.denied)} denied so far`);
  byId("denied").className = state.denied ? "warn" : "";
}

// A target in words; how much only where it is not the whole weight.
function aim(target) {
  const word = target > 0 ? "long" : target < 0 ? "short" : "flat";
  return target === 0 || Math.abs(target) === 1 ? word : `${word} ${quantity(Math.abs(target))}`;
}

// The tables show what belongs to the account of the page.
const ofAccount = (items) => [...items].filter((item) => !state.account || item.account_id === state.account);

// What an order waits for: its stop price, its limit, or both.
function priceOf(o, places) {
  const limit = o.limit_price ? amount(o.limit_price, places) : "";
  const stop = o.stop_price ? `stop ${amount(o.stop_price, places)}` : "";
  return [stop, limit].filter(Boolean).join(" / ") || "–";
}

const sideTone = (side) => side === "BUY" ? "up" : "down";

function statusTone(status) {
  if (status === "FILLED") return "";
  if (status === "DENIED" || status === "REJECTED") return "down";
  if (status === "CANCELED" || status === "EXPIRED") return "quiet";
  return status === "UNKNOWN" || status.startsWith("PENDING") ? "warn" : "open";
}

function orderRow(o) {
  const places = state.placesIn(o.instrument_id ?? "");
  const status = o.code ? `${o.status} ${o.code}` : o.status;
  return [
    [clock(o.time)], [symbolOf(o.instrument_id ?? "–")], [o.side ?? "–", sideTone(o.side)], [quantity(o.quantity), "n"],
    [o.is_reduce_only ? `${o.order_type} reduce` : o.order_type ?? "–", "", o.is_reduce_only ? "reduce-only" : ""],
    [priceOf(o, places), "n"],
    [status, `status ${statusTone(o.status)}`, o.detail || status], [quantity(o.filled), "n"],
    [o.average ? amount(o.average, Math.max(places, 4)) : "–", "n"],
    [o.strategy_id ?? "", "name"], [o.client_order_id, "name extra", o.client_order_id],
  ];
}

function renderTables() {
  fillTable("prices", [...state.prices].sort().slice(0, ROWS).map(([name, p]) => [
    [symbolOf(name), "", name], [amount(p.last, p.places), `n ${p.tone || ""}`], [amount(p.bid, p.places), "n"],
    [amount(p.ask, p.places), "n"], [clock(p.time), "n quiet"],
  ]), "no prices yet");
  fillTable("positions", [...state.positions.values()].filter((p) => Number(p.quantity) || Number(p.realized_pnl)).map((p) => [
    [symbolOf(p.instrument_id), "", p.instrument_id], [p.strategy_id, "name", p.strategy_id], [quantity(p.quantity), `n ${tone(p.quantity)}`],
    [amount(p.average_price, Math.max(state.placesIn(p.instrument_id), 2)), "n"],
    [signed(p.unrealized_pnl), `n ${tone(p.unrealized_pnl)}`], [signed(p.realized_pnl), `n ${tone(p.realized_pnl)}`],
  ]), "no positions");
  const newest = ofAccount(state.orders.values()).reverse();
  const orders = [...newest.filter(isOpen), ...newest.filter((o) => !isOpen(o))].slice(0, ROWS);
  fillTable("orders", orders.map(orderRow), "no orders yet");
  fillTable("signals", state.signals.slice(0, ROWS).map((s) => [
    [clock(s.time)], [symbolOf(s.instrument_id)], [aim(s.target), tone(s.target)],
    [amount(s.price, state.placesIn(s.instrument_id)), "n"], [s.strategy_id, "name", s.strategy_id],
  ]), "no signals yet");
  fillTable("fills", ofAccount(state.fills).slice(0, ROWS).map((f) => [
    [clock(f.time)], [symbolOf(f.instrument_id)], [f.side, sideTone(f.side)], [quantity(f.quantity), "n"],
    [amount(f.price, state.placesIn(f.instrument_id)), "n"], [amount(f.fee), "n"],
  ]), "no fills yet");
}

// ---- the state of the connection

function renderLink() {
  const link = byId("link");
  const silence_s = (Date.now() - heard_ms) / 1000;
  document.body.classList.toggle("stale", lost_ms > 0);
  const [text, style] = lost_ms ? ["offline", "off"] : waiting ? ["connecting", "wait"] : ["live", ""];
  if (link.textContent !== text) link.textContent = text;
  link.className = `badge ${style}`;
  byId("silence").textContent = !lost_ms && !waiting && silence_s > QUIET_S ? `no records for ${span(silence_s)}` : "";
}

function warn(text) {
  const bar = byId("notice");
  if (bar.textContent !== text) bar.textContent = text;
  bar.hidden = !text;
}

function setLink(isUp) {
  if (isUp) warn("");
  else if (!lost_ms) warn(`No connection to the server since ${new Date().toLocaleTimeString("en-GB")}. The figures are those of then; trying again.`);
  lost_ms = isUp ? 0 : lost_ms || Date.now();
  if (isUp) { askSoon("risk"); askSoon("portfolio"); }
  renderLink();
}

// ---- loading

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `${path}: ${answer.status}`);
  }
  return answer.json();
}

const LETS_PASS = { ACTIVE: "all orders may pass", REDUCING: "only orders that reduce", HALTED: "no order passes" };

async function loadRisk() {
  const risk = await get("/api/risk?limit=0");
  const { state: breaker, scopes } = risk.circuit_breaker;
  const strictest = scopes.find((scope) => scope.state === breaker && breaker !== "ACTIVE");
  state.breaker = { state: breaker, reason: strictest?.reason || LETS_PASS[breaker] };
  state.denied = risk.denied_count;
}

// Offer the accounts of the run where there are several; another one is another address of this page.
function offer(names) {
  const choice = byId("accounts");
  choice.parentElement.hidden = names.length < 2;
  if ([...choice.options].map((o) => o.value).join() === names.join()) return;
  choice.replaceChildren(...names.map((name) => new Option(name, name, false, name === state.account)));
}

function choose() {
  const address = new URL(location.href);
  address.searchParams.set("account", byId("accounts").value);
  location.assign(address);
}

async function loadPortfolio() {
  const { accounts } = await get("/api/portfolio");
  const names = accounts.map((a) => a.account.account_id);
  if (!state.account && names.length > 1) {
    state.account = names.includes(CHOSEN) ? CHOSEN : (await get("/api/portfolio/account")).account_id;
  }
  const found = accounts.find((a) => a.account.account_id === state.account) ?? accounts[0];
  if (!found) return;
  const { account, positions } = found;
  state.value(account);
  offer(names);
  const held = new Set(positions.map(positionKey));
  for (const [key, p] of state.positions) {
    if (!held.has(key)) state.positions.set(key, { ...p, unrealized_pnl: 0 });
  }
  for (const p of positions) state.positions.set(positionKey(p), p);
  const pnl = await get(`/api/portfolio/pnl?group_by=strategy&account_id=${encodeURIComponent(state.account)}`);
  state.takeResults(pnl.groups);
}

const loaders = { risk: loadRisk, portfolio: loadPortfolio };

function askSoon(what) {
  if (asks.has(what) || waiting) return;
  asks.set(what, setTimeout(async () => {
    try {
      await loaders[what]();
      drawSoon();
    } catch {
      // The connection's own state says what is wrong; the next record asks again.
    } finally {
      asks.delete(what);
    }
  }, ASK_MS));
}

async function load() {
  const [config, system, open, newest, trades] = await Promise.all([
    get("/api/config"), get("/api/system"), get("/api/orders?status=open&limit=200"), get("/api/orders?limit=200"), get("/api/trades?limit=50"),
    loadPortfolio(), loadRisk(),
  ]);
  byId("mode").textContent = config.mode;
  byId("mode").className = `badge ${config.mode === "live" ? "danger" : "mode"}`;
  byId("run").textContent = system.run_id;
  document.title = `${system.run_id} · Millrace`;
  state.loadOrders(open.orders, newest.orders);
  state.fills = trades.trades.map((f) => ({ ...f, time: f.time_ns }));
  state.now = Math.max(state.now, system.time_ns || 0);
  for (const [name, top] of Object.entries(trades.order_book)) {
    if (top.time_ns) state.price(name, { last: top.last_price, bid: top.bid_price, ask: top.ask_price, time: top.time_ns });
  }
  if (!state.account) return;
  const curve = await get(`/api/portfolio/${encodeURIComponent(state.account)}/equity?limit=2000`);
  state.curve = [];
  for (const p of curve.points) state.addPoint({ time: p.time_ns, equity: p.equity });
  // A mark of the same instant is what the run itself has written down.
  const last = curve.points.at(-1);
  if (last && last.time_ns >= state.equity.time) Object.assign(state.equity, { time: last.time_ns, equity: last.equity, drawdown: last.drawdown_pct });
}

async function loadAndFold() {
  try {
    await load();
  } catch (error) {
    if (!lost_ms) warn(`The page could not be filled: ${error.message}. Trying again.`);
    setTimeout(loadAndFold, 1000);
    return;
  }
  const updates = waiting ?? [];
  waiting = null;
  for (const { topic, record } of updates) state.fold(topic, record);
  heard_ms = Date.now();
  warn("");
  renderLink();
  drawSoon();
}

// ---- following

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
  heard_ms = Date.now();
  if (waiting) {
    waiting.push(update);
    return;
  }
  const change = state.fold(update.topic, update.record);
  if (change) askSoon(change);
  drawSoon();
}

const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;

async function follow() {
  for await (const item of watch({ url, topics: TOPICS, onLink: setLink })) onItem(item);
}

// Signals of all strategies have no list in /api, so their past comes as a snapshot, on a connection of its own.
async function readSignals() {
  for await (const item of watch({ url, topics: ["strategy.signals.v1"], snapshot: true, onLink: setLink })) {
    if (item.kind === "snapshot") onItem(item);
    if (item.kind === "snapshot" && item.isLast) break;
  }
}

function onEnd(error) {
  if (error instanceof StreamError && START_ANEW.has(error.code)) {
    // What the cursor asks for is no longer there: begin anew.
    location.reload();
    return;
  }
  lost_ms = Date.now();
  renderLink();
  warn(`The connection has ended: ${error.message}. Reload the page, or sign in with another key.`);
  showCaller().catch(() => {});     // goes to the sign-in page if that was the reason
}

// ---- who is signed in

async function showCaller() {
  const caller = await get("/api/session");
  if (!caller.csrf_token) return;
  const button = byId("sign-out");
  button.hidden = false;
  button.title = `signed in as ${caller.name}`;
  button.addEventListener("click", async () => {
    await fetch("/api/session", { method: "DELETE", headers: { "X-CSRF-Token": caller.csrf_token } });
    location.assign("/login");
  });
}

byId("accounts").addEventListener("change", choose);
setInterval(renderLink, 1000);
drawSoon();
showCaller().catch(() => {});
readSignals().then(follow).catch(onEnd);

// The live page. It follows the topics over /ws, reads the present from /api, and resumes from its own cursor.
import { addressWidened, addressWith, chosenOf, wantedIn, widenedIn } from "./accounts.js";
import { EquityChart } from "./chart.js";
import { StreamError, watch } from "./client.js";
import { RunState, TOPICS, isOpen, positionKey } from "./folding.js";
import { amount, clock, instant, quantity, signed, span, symbolOf, tone } from "./format.js";
import { fillRow, orderRow, signalRow } from "./rows.js";
import { fillTable } from "./tables.js";

const ROWS = 50;
const DRAW_MS = 100;          // the page is drawn at most ten times a second, however many records come
const ASK_MS = 1000;          // and asks /api for figures that no topic has at most once in this time
const QUIET_S = 10;           // without records for so long it says so
const OF_ALL = new Set(["strategy.signals.v1", "risk.breaker.v1"]);
const NOT_SHOWN = "not shown to this key";
const START_ANEW = new Set(["epoch_changed", "cursor_expired", "bad_cursor"]);
const byId = (id) => document.getElementById(id);

let state = new RunState();   // another one for each account that is chosen
let fillings = 0;             // how often the page was begun to be filled from /api: only the last time counts
const chart = new EquityChart(byId("chart"), byId("reading"));
let isDrawn = true;
let waiting = [];             // frames that arrived while /api was being read; null once they may be folded at once
let shownCurve = "";
let heard_ms = Date.now();    // when the last record came
let lost_ms = 0;              // when the connection was lost, 0 while it stands
const asks = new Map();       // what is to be asked of /api soon
let isBound = false;          // whether the key is bound to accounts: what tells of all of them is not for it

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
  renderChoice();
  renderFigures();
  renderTables();
  const points = state.points;
  const curve = `${state.account}|${points.length}|${points.at(-1)?.time}|${points.at(-1)?.equity}|${state.initial}`;
  if (curve === shownCurve) return;
  shownCurve = curve;
  chart.show(points, state.initial);
}

// The accounts are offered where there are several.
function renderChoice() {
  const { names, account } = state;
  const choice = byId("accounts");
  for (const place of document.querySelectorAll(".choice")) place.hidden = names.length < 2;
  if ([...choice.options].map((o) => o.value).join("|") !== names.join("|")) choice.replaceChildren(...names.map((name) => new Option(name)));
  // What was chosen stands while it is being read.
  const wanted = wantedIn(location.href);
  const shown = names.includes(wanted) ? wanted : account;
  if (choice.value !== shown) choice.value = shown;
  const isWide = widened();
  for (const list of ["orders", "fills"]) {
    byId(`all-${list}`).checked = isWide.has(list);
    byId(list).parentElement.classList.toggle("narrow", !isWide.has(list));
  }
}

// The lists that show all accounts.
const widened = () => state.names.length > 1 ? widenedIn(location.href) : new Set();

function renderFigures() {
  note("account", state.account ? `account ${state.account}` : "");
  const { equity, detail: account } = state;
  if (equity) {
    const profit = equity.equity - state.initial;
    show("equity", amount(equity.equity));
    show("pnl", signed(profit), tone(profit, 2));
    note("pnl-share", state.initial ? `${signed(100 * profit / state.initial, 3)} %` : "");
    show("drawdown", `${amount(equity.drawdown)} %`, equity.drawdown <= -0.005 ? "down" : "");
    show("exposure", amount(equity.gross));
    note("net", `net ${signed(equity.net)}`);
  }
  if (account) {
    note("peak", `peak ${amount(account.peak_equity)}`);
  }
  const { results } = state;
  show("unrealized", signed(results?.unrealized), tone(results?.unrealized, 2));
  const realized = results ? `realized ${signed(results.realized)}` : account ? "several currencies" : "";
  note("realized", realized, results ? `${realized} before fees of ${amount(results.fees)}` : realized);
  const { state: breaker, reason } = state.breaker;
  show("breaker", breaker || "–", { ACTIVE: "up", REDUCING: "warn", HALTED: "down" }[breaker] ?? "");
  note("breaker-why", isBound ? NOT_SHOWN : reason);
  show("order-count", String(state.own(state.orders.values()).filter(isOpen).length));
  note("denied", isBound ? "" : `${quantity(state.denied)} denied so far`);
  byId("denied").className = state.denied ? "warn" : "";
}

function renderTables() {
  fillTable("prices", [...state.prices].sort().slice(0, ROWS).map(([name, p]) => [
    [symbolOf(name), "", name], [amount(p.last, p.places), `n ${p.tone || ""}`], [amount(p.bid, p.places), "n"],
    [amount(p.ask, p.places), "n"], [clock(p.time), "n quiet"],
  ]), "no prices yet");
  fillTable("positions", [...state.positions.values()].filter((p) => Number(p.quantity) || Number(p.realized_pnl)).map((p) => [
    [symbolOf(p.instrument_id), "", p.instrument_id], [p.strategy_id, "name", p.strategy_id], [quantity(p.quantity), `n ${tone(p.quantity)}`],
    [amount(p.average_price, Math.max(state.placesIn(p.instrument_id), 2)), "n"],
    [signed(p.unrealized_pnl), `n ${tone(p.unrealized_pnl, 2)}`], [signed(p.realized_pnl), `n ${tone(p.realized_pnl, 2)}`],
  ]), "no positions");
  const isWide = widened();
  const listed = (list, items) => isWide.has(list) ? [...items] : state.own(items);
  const places = (item) => state.placesIn(item.instrument_id ?? "");
  const newest = listed("orders", state.orders.values()).reverse();
  const orders = [...newest.filter(isOpen), ...newest.filter((o) => !isOpen(o))].slice(0, ROWS);
  fillTable("orders", orders.map((o) => orderRow(o, places(o))), "no orders yet");
  fillTable("signals", state.ownSignals.slice(0, ROWS).map((s) => signalRow(s, places(s))), isBound ? NOT_SHOWN : "no signals yet");
  fillTable("fills", listed("fills", state.fills).slice(0, ROWS).map((f) => fillRow(f, places(f))), "no fills yet");
}

// ---- the state of the connection

function renderLink() {
  const link = byId("link");
  const silence_s = (Date.now() - heard_ms) / 1000;
  document.body.classList.toggle("stale", lost_ms > 0);
  const [text, style] = lost_ms ? ["offline", "off"] : waiting && !state.now ? ["connecting", "wait"] : ["live", ""];
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
    throw Object.assign(new Error(problem.detail ?? `${path}: ${answer.status}`), { status: answer.status });
  }
  return answer.json();
}

const ofAccount = (account) => account ? `account_id=${encodeURIComponent(account)}` : "";

async function loadRisk(into) {
  if (isBound) return;
  const risk = await get(`/api/risk?limit=0&${ofAccount(into.account)}`);
  into.takeBreaker(risk.circuit_breaker.scopes);
  into.denied = risk.denied_count;
}

async function loadPortfolio(into) {
  const { accounts } = await get("/api/portfolio");
  const known = into.names.length;
  into.names = accounts.map((a) => a.account.account_id);
  if (into === state && into.names.length > known) {
    // The run has told of another account, which may be the one to show.
    fill();
    return;
  }
  const found = accounts.find((a) => a.account.account_id === into.account);
  if (!found) return;
  const { account, positions } = found;
  into.value(account);
  const held = new Set(positions.map(positionKey));
  for (const [key, p] of into.positions) {
    if (!held.has(key)) into.positions.set(key, { ...p, unrealized_pnl: 0 });
  }
  for (const p of positions) into.positions.set(positionKey(p), p);
  const pnl = await get(`/api/portfolio/pnl?group_by=strategy&${ofAccount(into.account)}`);
  into.takeResults(pnl.groups);
}

const loaders = { risk: loadRisk, portfolio: loadPortfolio };

function askSoon(what) {
  if (asks.has(what) || waiting) return;
  asks.set(what, setTimeout(async () => {
    try {
      await loaders[what](state);
      drawSoon();
    } catch {
      // The connection's own state says what is wrong; the next record asks again.
    } finally {
      asks.delete(what);
    }
  }, ASK_MS));
}

// Return which of the run's accounts to show, "" while it has none.
async function choose(names) {
  const wanted = wantedIn(location.href);
  if (names.length < 2 || names.includes(wanted)) return chosenOf(names, wanted, "");
  const standard = await get("/api/portfolio/account").catch((error) => {
    if (error.status === 404) return { account_id: "" };
    throw error;
  });
  return chosenOf(names, wanted, standard.account_id);
}

// Return what /api tells of the run, for the account of the page.
async function load() {
  const names = (await get("/api/portfolio")).accounts.map((a) => a.account.account_id);
  const into = state.withAccount(await choose(names));
  // A busy account would leave the others no room among the newest of all, so the account's own are asked for too.
  const scopes = names.length > 1 ? [ofAccount(into.account), ""] : [""];
  const lists = (path) => Promise.all(scopes.map((scope) => get(`${path}${scope && `&${scope}`}`)));
  const [config, system, { strategies }, open, newest, trades] = await Promise.all([
    isBound ? null : get("/api/config"), isBound ? null : get("/api/system"), get("/api/strategies"),
    lists("/api/orders?status=open&limit=200"), lists("/api/orders?limit=200"), lists("/api/trades?limit=50"),
    loadPortfolio(into),
  ]);
  into.owners = new Map(strategies.map((s) => [s.strategy_id, s.account_id]));
  await loadRisk(into);
  if (!isBound) {
    byId("mode").textContent = config.mode;
    byId("mode").className = `badge ${config.mode === "live" ? "danger" : "mode"}`;
    byId("run").textContent = system.run_id;
  }
  for (const place of [byId("mode"), byId("run").parentElement]) place.hidden = isBound;
  const titles = [into.names.length > 1 || isBound ? into.account : "", system?.run_id ?? "", "Millrace"];
  document.title = titles.filter(Boolean).join(" · ");
  into.loadOrders(...[...open, ...newest].map((page) => page.orders));
  into.loadFills(...trades.map((page) => page.trades));
  into.now = Math.max(into.now, system?.time_ns || into.equity?.time || 0);
  for (const [name, top] of Object.entries(trades[0].order_book)) {
    if (top.time_ns) into.price(name, { last: top.last_price, bid: top.bid_price, ask: top.ask_price, time: top.time_ns });
  }
  if (!into.account) return into;
  const curve = await get(`/api/portfolio/${encodeURIComponent(into.account)}/equity?limit=2000`);
  for (const p of curve.points) into.addPoint({ time: p.time_ns, equity: p.equity });
  // A mark of the same instant is what the run itself has written down.
  const last = curve.points.at(-1);
  if (last && into.equity && last.time_ns >= into.equity.time) Object.assign(into.equity, { time: last.time_ns, equity: last.equity, drawdown: last.drawdown_pct });
  return into;
}

// Fill the page, and show nothing of it before all is there. What comes meanwhile waits.
async function fill() {
  const filling = ++fillings;
  waiting ??= [];
  byId("board").setAttribute("aria-busy", "true");
  let next;
  try {
    next = await load();
  } catch (error) {
    if (filling !== fillings) return;
    if (!lost_ms) warn(`The page could not be filled: ${error.message}. Trying again.`);
    setTimeout(() => { if (filling === fillings) fill(); }, 1000);
    return;
  }
  if (filling !== fillings) return;
  state = next;
  const updates = waiting;
  waiting = null;
  for (const { topic, record } of updates) state.fold(topic, record);
  byId("board").removeAttribute("aria-busy");
  heard_ms = Date.now();
  warn("");
  renderLink();
  drawSoon();
}

// ---- following

function onItem(item) {
  if (item.kind === "subscribed") {
    // Subscribed first, read second: nothing falls between, and what comes twice is folded once.
    if (waiting) fill();
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
  const topics = isBound ? TOPICS.filter((topic) => !OF_ALL.has(topic)) : TOPICS;
  for await (const item of watch({ url, topics, onLink: setLink })) onItem(item);
}

// Signals of all strategies have no list in /api, so their past comes as a snapshot, on a connection of its own.
async function readSignals() {
  if (isBound) return;
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
  isBound = Boolean(caller.accounts?.length);
  if (!caller.csrf_token) return;
  const button = byId("sign-out");
  button.hidden = false;
  button.title = `signed in as ${caller.name}`;
  button.addEventListener("click", async () => {
    await fetch("/api/session", { method: "DELETE", headers: { "X-CSRF-Token": caller.csrf_token } });
    location.assign("/login");
  });
}

// ---- which account

// Show the account of the address. Before the first filling there is nothing to do: it reads the address itself.
function turn() {
  if (fillings) fill();
}

byId("accounts").addEventListener("change", (event) => {
  history.pushState(null, "", addressWith(location.href, event.target.value));
  turn();
});
for (const list of ["orders", "fills"]) {
  byId(`all-${list}`).addEventListener("change", (event) => {
    history.replaceState(null, "", addressWidened(location.href, list, event.target.checked));
    drawSoon();
  });
}
addEventListener("popstate", turn);

setInterval(renderLink, 1000);
drawSoon();
showCaller().catch(() => {}).then(readSignals).then(follow).catch(onEnd);

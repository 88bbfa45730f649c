// Runs the script of the live page over a page of stubs and a run of two accounts, and chooses the other one:
// node choosing.mjs, with the modules as .mjs beside it, those of chart, client and tables replaced by stubs.
// With the argument "bound" the page has a key of one account, and says what it shows and asks for.
// Gives one JSON text with what was shown while only the other was known, before, after, and on the way back.

class Place extends EventTarget {
  textContent = "";
  title = "";
  className = "";
  value = "";
  checked = false;
  hidden = true;
  options = [];
  classes = new Set();
  classList = { toggle: (name, isOn) => { if (isOn) this.classes.add(name); else this.classes.delete(name); } };
  replaceChildren(...options) { this.options = options; }
  setAttribute(name) { this.classes.add(name); }
  removeAttribute(name) { this.classes.delete(name); }
  get parentElement() { return this.parent ??= new Place(); }
}

const places = new Map();
const choice = new Place();       // what is there only where there are several accounts
const asked = [];
const bound = process.argv[2] === "bound";   // with a key that is bound to an account
let told = [["ira", 20]];         // the accounts that the run has told of
let hear;
const heard = new Promise((resolve) => { hear = resolve; });
const byId = (id) => places.get(id) ?? places.set(id, new Place()).get(id);

const window = new EventTarget();
const visited = ["http://host/"];
const location = { get href() { return visited.at(-1); }, protocol: "http:", host: "host", assign: (to) => asked.push(`assign ${to}`) };
const history = { pushState: (_state, _title, to) => visited.push(to), replaceState: (_state, _title, to) => visited.splice(-1, 1, to) };

const account = (name, equity) => ({
  account: { account_id: name, equity, initial_equity: equity, as_of_ns: 9, drawdown_pct: 0, peak_equity: equity, gross_exposure: 0, net_exposure: 0 },
  positions: [{ strategy_id: name, instrument_id: `${name.toUpperCase()}.X`, quantity: 1 }],
});
const order = (name) => ({ account_id: name, client_order_id: `${name}-1`, instrument_id: "IBM.X", status: "ACCEPTED", created_ns: 5 });
const fill = (name) => ({ account_id: name, trade_id: "t", instrument_id: "IBM.X", time_ns: 5 });

function answer(path) {
  const { pathname, searchParams } = new URL(path, "http://host");
  const own = (items) => items.filter((item) => [null, item.account_id].includes(searchParams.get("account_id")));
  return {
    "/api/config": { mode: "paper" }, "/api/system": { run_id: "run", time_ns: 9 }, "/api/session": { accounts: bound ? ["ira"] : [] },
    "/api/strategies": { strategies: [] },
    "/api/risk": { circuit_breaker: { scopes: [{ scope: "ACCOUNT", scope_id: "ira", state: "HALTED", reason: "closed" }] }, denied_count: 0 },
    "/api/portfolio": { accounts: told.map((one) => account(...one)) },
    "/api/portfolio/account": { account_id: "paper" },
    "/api/portfolio/pnl": { groups: [] },
    "/api/orders": { orders: own([order("paper"), order("ira")]) },
    "/api/trades": { trades: own([fill("paper"), fill("ira")]), order_book: {} },
  }[pathname] ?? { points: [] };
}

Object.assign(globalThis, {
  location, history, heard, tables: {},
  document: { getElementById: byId, querySelectorAll: () => [choice], body: new Place() },
  addEventListener: window.addEventListener.bind(window),
  requestAnimationFrame: (draw) => draw(),
  Option: class { constructor(name) { this.value = name; } },
  fetch: async (path) => { asked.push(path); return { ok: true, status: 200, json: async () => answer(path) }; },
});
await import("./app.mjs");

const seen = () => ({
  account: byId("account").textContent, equity: byId("equity").textContent, breaker: byId("breaker").textContent,
  choice: [choice.hidden, byId("accounts").options.map((o) => o.value), byId("accounts").value],
  positions: tables.positions.map((cells) => cells[0][0]),
  orders: tables.orders.map((cells) => cells[1][0]), fills: tables.fills.map((cells) => cells[1][0]),
});
const drawn = (ms = 300) => new Promise((resolve) => setTimeout(resolve, ms));

async function choose(name) {
  byId("accounts").value = name;
  byId("accounts").dispatchEvent(new Event("change"));
  await drawn();
}

await drawn();
if (bound) {
  const hidden = [byId("mode").hidden, byId("run").parentElement.hidden];
  const notes = ["breaker-why", "denied"].map((id) => byId(id).textContent);
  console.log(JSON.stringify({ ...seen(), notes, hidden, asked, topics: globalThis.followed }));
  process.exit(0);
}
const early = [byId("account").textContent, choice.hidden];
told = [["ira", 20], ["paper", 100]];
hear({ kind: "update", topic: "portfolio.equity.v1", record: { account_id: "paper", ts_event_ns: 10 } });
await drawn(1500);
const first = seen();
await choose("ira");
const chosen = { ...seen(), address: location.href };
byId("all-orders").checked = true;
byId("all-orders").dispatchEvent(new Event("change"));
await drawn();
const wide = { ...seen(), address: location.href };
visited.pop();
window.dispatchEvent(new Event("popstate"));
await drawn();
console.log(JSON.stringify({ early, first, chosen, wide, back: seen(), left: asked.filter((what) => what.startsWith("assign")) }));
process.exit(0);

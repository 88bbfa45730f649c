// The JavaScript client of the WebSocket: topics of a running Millrace, as they are published.
//
//   const stream = watch({ url: "ws://127.0.0.1:8000/ws", topics: ["orders.fills.v1"], cursor: stored });
//   for await (const item of stream) {
//     if (item.kind === "update") store(item.record, stream.cursor);
//   }
//
// `cursor` is the place behind what was given last, as plain JSON. A program that stores it together
// with its results, and gives it at its next start, misses nothing and sees nothing twice. When the
// connection breaks the stream connects again by itself, from that place.

const GIVE_UP = new Set(["epoch_changed", "cursor_expired", "bad_cursor"]);
const TRY_AGAIN = new Set(["log_unavailable", "rate_limited"]);

// What ends a stream for good; `code` is the server's. After one of GIVE_UP start without a cursor.
export class StreamError extends Error {
  constructor(code, detail) {
    super(detail);
    this.name = "StreamError";
    this.code = code;
  }
}

export class Stream {
  #options;
  #socket = null;
  #silence_ms = 15000;
  #watchdog = 0;
  #retry = 0;
  #failures = 0;
  #items = [];
  #wake = null;
  #error = null;
  #isClosed = false;
  #unshown = new Set();

  constructor(options) {
    this.#options = {
      start: "latest", snapshot: false, filters: null, mode: null, secret: "",
      itemsMax: 10000, retryFirst_ms: 250, retryMost_ms: 10000, jitter: Math.random, onLink: () => {},
      WebSocket: globalThis.WebSocket, ...options,
    };
    this.cursor = structuredClone(options.cursor ?? {});
    if (this.#options.snapshot && !options.cursor) this.#unshown = new Set(this.#options.topics);
    this.#connect();
  }

  // Whether items wait that were not given yet.
  get isBehind() { return this.#items.length > 0; }

  async next() {
    while (this.#items.length === 0) {
      if (this.#error) throw this.#error;
      if (this.#isClosed) return { done: true, value: undefined };
      await new Promise((resolve) => { this.#wake = resolve; });
    }
    const item = this.#items.shift();
    if (item.kind === "update") this.cursor[item.topic].offsets[item.partition] = item.offset + 1;
    return { done: false, value: item };
  }

  async return() {
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator]() { return this; }

  // Leave the server for good.
  close() {
    this.#isClosed = true;
    clearTimeout(this.#watchdog);
    clearTimeout(this.#retry);
    this.#socket?.close();
    this.#rouse();
  }

  #rouse() {
    this.#wake?.();
    this.#wake = null;
  }

  #connect() {
    const socket = new this.#options.WebSocket(this.#options.url);
    this.#socket = socket;
    this.#expectFrame(socket);
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      this.#expectFrame(socket);
      const content = JSON.parse(event.data);
      for (const frame of Array.isArray(content) ? content : [content]) this.#take(frame, socket);
      this.#rouse();
      // A reader that is too slow must not fill the memory: what waits is given first, then the rest is asked for.
      // A snapshot has an end of its own, and would begin anew.
      if (this.#items.length > this.#options.itemsMax && this.#unshown.size === 0) {
        socket.close();
        this.#lost(socket);
      }
    };
    socket.onerror = () => {};
    socket.onclose = () => this.#lost(socket);
  }

  #expectFrame(socket) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => { socket.close(); this.#lost(socket); }, this.#silence_ms);
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#watchdog);
    if (this.#isClosed || this.#error) return;
    this.#options.onLink(false);
    const { retryFirst_ms, retryMost_ms, jitter } = this.#options;
    const wait_ms = Math.min(retryFirst_ms * 2 ** Math.min(this.#failures, 32), retryMost_ms) * (0.5 + jitter() / 2);
    this.#failures += 1;
    // What has come is given first, so the cursor is behind all of it when the server is asked again.
    const again = () => {
      if (this.#isClosed) return;
      if (this.isBehind) this.#retry = setTimeout(again, retryFirst_ms);
      else this.#connect();
    };
    this.#retry = setTimeout(again, wait_ms);
  }

  #take(frame, socket) {
    if (this.#error) return;
    if (frame.op === "data") {
      const { topic, partition, offset, epoch, data } = frame;
      this.#items.push({ kind: "update", topic, partition, offset, epoch, record: data });
    } else if (frame.op === "snapshot") {
      const { topic, epoch, records, is_last, is_complete } = frame;
      const updates = records.map((r) => ({ kind: "update", topic, epoch, partition: r.partition, offset: r.offset, record: r.data }));
      this.#items.push({ kind: "snapshot", topic, updates, isLast: is_last, isComplete: is_complete });
      if (is_last) this.#unshown.delete(topic);
    } else if (frame.op === "gap") {
      this.#items.push({ kind: "gap", topic: frame.topic, partition: frame.partition, first: frame.from, last: frame.to, reason: frame.reason });
    } else if (frame.op === "hello") {
      this.#greet(frame, socket);
    } else if (frame.op === "subscribed") {
      this.cursor = { ...frame.cursor, ...this.cursor };
      this.#failures = 0;
      this.#options.onLink(true);
      this.#items.push({ kind: "subscribed", topics: frame.topics });
    } else if (frame.op === "error" || frame.op === "disconnect") {
      this.#hear(frame, socket);
    }
  }

  #greet(hello, socket) {
    this.#silence_ms = Math.max(3 * hello.heartbeat_ms, 1000);
    const { topics, filters, mode, start, snapshot, secret } = this.#options;
    // A snapshot that broke off comes again, whole; no update can have come before it.
    if (this.#unshown.size > 0) this.cursor = {};
    const isResumed = Object.keys(this.cursor).length > 0;
    if (!hello.is_authenticated) socket.send(JSON.stringify({ op: "auth", secret: secret || "none" }));
    const request = { op: "subscribe", id: "watch", topics, from: isResumed ? this.cursor : start, snapshot: snapshot && !isResumed, batch: true };
    if (filters) request.filters = filters;
    if (mode) request.mode = mode;
    socket.send(JSON.stringify(request));
  }

  #hear(frame, socket) {
    const isFinal = GIVE_UP.has(frame.code) || (frame.op === "error" && !TRY_AGAIN.has(frame.code));
    if (isFinal) this.#error = new StreamError(frame.code, frame.detail);
    socket.close();
    if (!isFinal) this.#lost(socket);
  }
}

// Return a stream; see Stream for the options.
//   url, topics   where and what; `filters` has allowed values by field
//   cursor        where an earlier stream stood
//   start         "latest" or "earliest", without a cursor; `snapshot` gives first what is there
//   mode          "all" leaves nothing out even of conflated topics
//   secret        a key or a ticket
//   itemsMax      most items that may wait; beyond them the stream leaves the server until all are given
//   onLink        called with true and false as the connection comes and goes
export function watch(options) {
  return new Stream(options);
}

// A WebSocket for Node of any version, as far as the client needs one: text frames, no fragments.
import { randomBytes } from "node:crypto";
import { connect } from "node:net";

export class Socket {
  onmessage = () => {};
  onclose = () => {};
  onerror = () => {};
  #tcp;
  #bytes = Buffer.alloc(0);
  #isOpen = false;
  #isClosed = false;

  constructor(url) {
    const { hostname, port, pathname } = new URL(url);
    const key = randomBytes(16).toString("base64");
    this.#tcp = connect(Number(port), hostname, () => this.#tcp.write(
      `GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
      + `Sec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`));
    this.#tcp.on("data", (data) => this.#take(data));
    this.#tcp.on("error", (error) => this.onerror(error));
    this.#tcp.on("close", () => this.#end());
  }

  send(text) {
    const body = Buffer.from(text);
    const size = body.length < 126 ? Buffer.from([0x80 | body.length]) : Buffer.from([0xfe, body.length >> 8, body.length & 255]);
    // A mask of zeros leaves the body as it is.
    this.#tcp.write(Buffer.concat([Buffer.from([0x81]), size, Buffer.alloc(4), body]));
  }

  close() {
    this.#tcp.destroy();
    this.#end();
  }

  #end() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    queueMicrotask(() => this.onclose());
  }

  #take(data) {
    this.#bytes = Buffer.concat([this.#bytes, data]);
    if (!this.#isOpen) {
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.#isOpen = true;
      this.#bytes = this.#bytes.subarray(end + 4);
    }
    let frame;
    while (!this.#isClosed && (frame = this.#frame())) {
      if (frame.opcode === 8) this.close();
      else if (frame.opcode === 1) this.onmessage({ data: frame.body.toString() });
    }
  }

  #frame() {
    const bytes = this.#bytes;
    if (bytes.length < 2) return null;
    let size = bytes[1] & 127;
    let start = 2;
    if (size === 126) { if (bytes.length < 4) return null; size = bytes.readUInt16BE(2); start = 4; }
    else if (size === 127) { if (bytes.length < 10) return null; size = Number(bytes.readBigUInt64BE(2)); start = 10; }
    if (bytes.length < start + size) return null;
    this.#bytes = bytes.subarray(start + size);
    return { opcode: bytes[0] & 15, body: bytes.subarray(start, start + size) };
  }
}

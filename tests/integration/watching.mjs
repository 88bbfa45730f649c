// Prints what the JavaScript client gives, one JSON text a line, until it has given COUNT updates;
// then its cursor. node watching.mjs URL COUNT OPTIONS
import { watch } from "./client.mjs";
import { Socket } from "./socket.mjs";

const [url, count, options] = process.argv.slice(2);
const stream = watch({ url, WebSocket: Socket, retryFirst_ms: 10, retryMost_ms: 100, ...JSON.parse(options) });
let left = Number(count);
try {
  for await (const item of stream) {
    console.log(JSON.stringify(item));
    if (item.kind === "update") left -= 1;
    if (left <= 0) break;
  }
  console.log(JSON.stringify({ kind: "end", cursor: stream.cursor }));
} catch (error) {
  console.log(JSON.stringify({ kind: "error", code: error.code ?? String(error) }));
}

// What a player asks for: a relay on the way to the server that keeps the head of each request.

import { connect, createServer } from "node:net";
import { once } from "node:events";

export class RequestLog {
  static async to(port) {
    const log = new RequestLog(port);
    log.listener.listen(0, "127.0.0.1");
    await once(log.listener, "listening");
    log.url = `http://127.0.0.1:${log.listener.address().port}/`;
    return log;
  }

  constructor(port) {
    /** The heads of all requests, each as its lines. */
    this.heads = [];
    this.sockets = new Set();
    this.listener = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      let text = "";
      for (const socket of [near, far]) {
        socket.on("error", () => {}).setNoDelay();
        this.sockets.add(socket);
      }
      near.on("data", (bytes) => {
        text += bytes.toString("latin1");
        for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
          this.heads.push(text.slice(0, end).split("\r\n"));
          text = text.slice(end + 4);
        }
        far.write(bytes);
      }).on("close", () => far.destroy());
      far.on("data", (bytes) => near.write(bytes)).on("close", () => near.destroy());
    });
  }

  end() {
    for (const socket of this.sockets) socket.destroy();
    this.listener.close();
  }
}

/** Says in a few words what distinguishes a request from others. */
export function summary(head) {
  const [line, ...fields] = head;
  const [method, , version] = line.split(" ");
  const value = (name) => fields.find((field) => field.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const range = value("range");
  const icy = value("icy-metadata");
  return [
    method,
    version,
    range && `Range: ${range}`,
    icy && `Icy-MetaData: ${icy}`,
    value("connection")?.toLowerCase() === "close" && "Connection: close",
  ].filter(Boolean).join(", ");
}

export function userAgent(head) {
  return head.find((field) => field.toLowerCase().startsWith("user-agent:"))?.slice(11).trim() ?? "none";
}

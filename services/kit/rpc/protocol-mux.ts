// One port for HTTP/1.1 and HTTP/2 without TLS: looks at the first bytes of a connection and hands it to the server that speaks them.
import type { Server as Http1Server } from "node:http";
import type { Http2Server } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";

/** What every HTTP/2 connection begins with (RFC 9113, 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export interface ProtocolMuxOptions {
  readonly http1: Http1Server;
  readonly http2: Http2Server;
  /** A connection that has not shown its protocol by then is closed. */
  readonly helloTimeoutMs: number;
}

export function createProtocolMux(options: ProtocolMuxOptions): Server {
  // `http1` never listens itself; its header and request time-outs begin with this event.
  options.http1.emit("listening");
  return createServer((socket) => {
    socket.setNoDelay(true);
    route(socket, options);
  });
}

function route(socket: Socket, { http1, http2, helloTimeoutMs }: ProtocolMuxOptions): void {
  let head: Buffer = Buffer.alloc(0);
  const end = () => socket.destroy();
  const timer = setTimeout(end, helloTimeoutMs);
  const onData = (chunk: Buffer) => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const compared = Math.min(head.length, preface.length);
    const isHttp2 = head.subarray(0, compared).equals(preface.subarray(0, compared));
    if (isHttp2 && compared < preface.length) return;
    clearTimeout(timer);
    socket.off("data", onData).off("error", end).off("close", onClose);
    socket.pause();
    socket.unshift(head);
    (isHttp2 ? http2 : http1).emit("connection", socket);
    // An HTTP/2 session reads from the socket's handle; HTTP/1.1 reads from the stream.
    if (!isHttp2) socket.resume();
  };
  const onClose = () => clearTimeout(timer);
  socket.on("data", onData).on("error", end).on("close", onClose);
}

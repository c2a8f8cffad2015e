// One keep-alive HTTP/1.1 connection with one request at a time, on a bare socket: a client must cost less than what it measures.
import { connect, type Socket } from "node:net";

export interface ConnectionOptions {
  readonly port: number;
  /** Called with each part of a body and its answer's status, in order, chunked framing removed. */
  readonly onBody: (bytes: Buffer, status: number) => void;
}

export interface Connection extends Disposable {
  /** Sends a request and resolves with the status when its answer is whole. */
  exchange(request: Buffer): Promise<number>;
}

const headersEnd = Buffer.from("\r\n\r\n");
const lineEnd = Buffer.from("\r\n");

type Reading =
  | { readonly part: "headers" | "chunk-size" | "trailer" }
  /** `left` bytes of body, then the next chunk or the end. */
  | { readonly part: "body"; left: number; readonly chunked: boolean };

export function createConnection({ port, onBody }: ConnectionOptions): Connection {
  let socket: Socket | undefined;
  let pending: { resolve: (status: number) => void; reject: (error: Error) => void } | undefined;
  let reading: Reading = { part: "headers" };
  let kept: Buffer = Buffer.alloc(0);
  let status = 0;
  let disposed = false;

  const finish = (error?: Error) => {
    const waiting = pending;
    pending = undefined;
    reading = { part: "headers" };
    if (error) waiting?.reject(error);
    else waiting?.resolve(status);
  };

  /** Reads what it can from the front of `bytes`; returns how much, 0 if it needs more. */
  const step = (bytes: Buffer): number => {
    switch (reading.part) {
      case "headers": {
        const end = bytes.indexOf(headersEnd);
        if (end === -1) return 0;
        const headers = bytes.toString("latin1", 0, end).toLowerCase();
        status = Number(headers.slice(9, 12));
        const length = /\r\ncontent-length: *(\d+)/.exec(headers)?.[1];
        if (headers.includes("\r\ntransfer-encoding: chunked")) reading = { part: "chunk-size" };
        else if (length === undefined) throw new Error(`An answer without a length: ${headers}`);
        else if (length === "0") finish();
        else reading = { part: "body", left: Number(length), chunked: false };
        return end + headersEnd.length;
      }
      case "chunk-size": {
        const end = bytes.indexOf(lineEnd);
        if (end === -1) return 0;
        const size = Number.parseInt(bytes.toString("latin1", 0, end), 16);
        reading = size === 0 ? { part: "trailer" } : { part: "body", left: size, chunked: true };
        return end + lineEnd.length;
      }
      case "trailer": {
        if (bytes.length < lineEnd.length) return 0;
        finish();
        return lineEnd.length;
      }
      case "body": {
        const { chunked, left } = reading;
        if (left === 0) {
          if (bytes.length < lineEnd.length) return 0;
          reading = { part: "chunk-size" };
          return lineEnd.length;
        }
        const taken = Math.min(left, bytes.length);
        onBody(taken === bytes.length ? bytes : bytes.subarray(0, taken), status);
        reading.left -= taken;
        if (reading.left === 0 && !chunked) finish();
        return taken;
      }
    }
  };

  const receive = (bytes: Buffer) => {
    let rest = kept.length === 0 ? bytes : Buffer.concat([kept, bytes]);
    while (rest.length > 0) {
      const taken = step(rest);
      if (taken === 0) break;
      rest = rest.subarray(taken);
    }
    kept = rest;
  };

  const open = (): Socket => {
    kept = Buffer.alloc(0);
    const opened = connect({ host: "127.0.0.1", port, noDelay: true });
    opened.on("data", (bytes) => {
      try {
        receive(bytes);
      } catch (error) {
        opened.destroy(error as Error);
      }
    });
    let problem: Error | undefined;
    opened.on("error", (error) => {
      problem = error;
    });
    opened.on("close", () => {
      if (socket === opened) socket = undefined;
      if (pending) finish(problem ?? new Error("The connection was closed before the answer was whole."));
    });
    return opened;
  };

  return {
    exchange(request) {
      if (disposed) return Promise.reject(new Error("The connection was hung up."));
      socket ??= open();
      socket.write(request);
      return new Promise((resolve, reject) => {
        pending = { resolve, reject };
      });
    },
    [Symbol.dispose]() {
      disposed = true;
      socket?.destroy();
    },
  };
}

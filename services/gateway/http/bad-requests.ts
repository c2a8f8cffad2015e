// What cannot be read as HTTP, and who takes too long to say it: answered in the API's own form of errors.
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { newId } from "../../kit/random.ts";
import { errorBody } from "../openai/errors.ts";

interface Answer {
  readonly status: number;
  readonly message: string;
  readonly code: string;
}

function answerTo(code: string | undefined): Answer {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return { status: 431, message: "The request's headers are too large.", code: "headers_too_large" };
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return { status: 408, message: "The request did not arrive in time.", code: "request_timeout" };
    default:
      return { status: 400, message: "This is not HTTP as we understand it.", code: "bad_http" };
  }
}

interface Running {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Takes the place of whatever answered such requests before. The connection ends with the answer. */
export function answerBadRequests(server: Server): void {
  const open = new WeakMap<Duplex, Set<Running>>();
  server.prependListener("request", (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request;
    const all = open.get(socket) ?? new Set();
    const running = { request, response };
    open.set(socket, all.add(running));
    const forget = () => void all.delete(running);
    // An answer may come before the end of its request's body, whose rest is no request of its own.
    response.once("close", () => (request.complete ? forget() : request.once("close", forget)));
  });
  server.removeAllListeners("clientError");
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy(error);
      return;
    }
    const running = [...(open.get(socket) ?? [])];
    const last = running.at(-1);
    // A request whose body broke off is what the answer is for.
    const itself = last && !last.request.complete && !last.response.headersSent;
    const before = itself ? running.at(-2) : last;
    // An answer is on its way to an earlier request: ours must not come before its end, nor into it.
    if (before?.response.writableFinished) socket.destroy();
    else if (before) before.response.once("close", () => socket.destroy());
    else socket.end(answerText(answerTo(error.code)));
  });
}

function answerText({ status, message, code }: Answer): string {
  const body = JSON.stringify(errorBody(message, "invalid_request_error", null, code));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "content-type: application/json; charset=utf-8",
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${newId("req")}`,
    "openai-processing-ms: 0",
    "connection: close",
  ];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

// The context that a handler gets, made as cheaply as most handlers need it: what they do not look at is not made.
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, createContextValues, type HandlerContext } from "@connectrpc/connect";
import type { IncomingHttpHeaders } from "node:http2";
import { callOver } from "../call-over.ts";
import { timeoutMsMax } from "./protocol.ts";

export interface CallContext extends HandlerContext {
  /** Ends the call for its handler; the first reason stays. */
  abort(reason: unknown): void;
  /** Whether the handler touched them. */
  readonly headerToSend: Headers | undefined;
}

export function createCallContext(
  method: DescMethod,
  headers: IncomingHttpHeaders,
  timeoutMs: number | undefined,
): CallContext & Disposable {
  const controller = new AbortController();
  const endsAt = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  const late = () => controller.abort(new ConnectError("The deadline of the call passed.", Code.DeadlineExceeded));
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, Math.min(timeoutMs, timeoutMsMax));
  let requestHeader: Headers | undefined;
  let responseHeader: Headers | undefined;
  let responseTrailer: Headers | undefined;
  let values: ContextValues | undefined;
  return {
    method,
    service: method.parent,
    protocolName: "connect",
    requestMethod: "POST",
    url: headers[":path"] ?? "",
    signal: controller.signal,
    timeoutMs: () => (endsAt === undefined ? undefined : endsAt - performance.now()),
    get requestHeader() {
      return (requestHeader ??= plainHeaders(headers));
    },
    get responseHeader() {
      return (responseHeader ??= new Headers());
    },
    get responseTrailer() {
      return (responseTrailer ??= new Headers());
    },
    get values() {
      return (values ??= createContextValues());
    },
    get headerToSend() {
      return responseHeader;
    },
    abort: (reason) => controller.abort(reason),
    [Symbol.dispose]() {
      clearTimeout(timer);
      // As over the other transports, the signal says "over" at a normal end too.
      controller.abort(callOver);
    },
  };
}

function plainHeaders(headers: IncomingHttpHeaders): Headers {
  const plain = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) plain.append(name, each);
  }
  return plain;
}

// The client's side of one HTTP/2 stream: opened, bounded by a deadline and a signal, and ended exactly once.
import {
  type ClientHttp2Stream,
  constants,
  type Http2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";
import { timeoutMsMax } from "./protocol.ts";

export interface ExchangeRequest {
  readonly session: Http2SessionManager;
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Uint8Array;
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Told what arrives: the head, then data, then one of `onEnd` and `onFailure`. What it throws is the failure. */
export interface ExchangeListener {
  onHead(headers: IncomingHttpHeaders): void;
  onData(chunk: Buffer): void;
  /** The peer has said everything. */
  onEnd(): void;
  onFailure(error: ConnectError): void;
}

export interface Exchange {
  /** Lets the peer wait: nothing more is read until `resume`. */
  pause(): void;
  resume(): void;
  /** The listener has all that it wants, though the peer has not closed yet: the signal is not heard any more. */
  conclude(): void;
  /** Ends it without a word to the listener; the peer sees a cancel. */
  cancel(): void;
}

/**
 * A refused stream was not looked at (RFC 9113, 8.7): it is tried again, on the connection that replaces one whose server goes away. A server
 * that refuses everything is believed at last.
 */
const refusalsMax = 2;

export function openExchange(request: ExchangeRequest, listener: ExchangeListener): Exchange {
  let stream: ClientHttp2Stream | undefined;
  let paused = false;
  let over = false;
  let refusals = 0;
  let timer: NodeJS.Timeout | undefined;

  const finish = (): boolean => {
    if (over) return false;
    over = true;
    clearTimeout(timer);
    request.signal?.removeEventListener("abort", onAbort);
    return true;
  };
  const fail = (error: unknown) => {
    if (!finish()) return;
    stream?.close(constants.NGHTTP2_CANCEL);
    listener.onFailure(ConnectError.from(error, Code.Unavailable));
  };
  const guarded = (step: () => void) => {
    if (over) return;
    try {
      step();
    } catch (error) {
      fail(ConnectError.from(error, Code.Internal));
    }
  };
  const onAbort = () => fail(new ConnectError("The call was cancelled.", Code.Canceled));

  const begin = () => request.session.request("POST", request.path, request.headers, {}).then(attach, fail);
  const attach = (opened: ClientHttp2Stream) => {
    expectErrors(opened.session);
    const failed = (otherwise: unknown) => {
      if (over || opened !== stream) return;
      const refused = opened.rstCode === constants.NGHTTP2_REFUSED_STREAM;
      if (!refused || refusals >= refusalsMax) return fail(resetError(opened) ?? otherwise);
      refusals += 1;
      stream = undefined;
      void begin();
    };
    opened.on("error", failed);
    if (over) {
      opened.close(constants.NGHTTP2_CANCEL);
      return;
    }
    stream = opened;
    opened.on("response", (headers) => guarded(() => listener.onHead(headers)));
    opened.on("data", (chunk: Buffer) => guarded(() => listener.onData(chunk)));
    opened.on("end", () => {
      // A reset by the peer ends the readable side too.
      if (opened.rstCode) failed(undefined);
      else guarded(() => finish() && listener.onEnd());
    });
    opened.on("close", () => {
      if (!over) failed(broken());
    });
    if (paused) opened.pause();
    opened.end(request.body);
  };

  if (request.signal?.aborted) queueMicrotask(onAbort);
  else request.signal?.addEventListener("abort", onAbort);
  if (request.timeoutMs !== undefined) {
    const late = () => fail(new ConnectError("The deadline of the call passed.", Code.DeadlineExceeded));
    timer = setTimeout(late, Math.min(Math.max(0, request.timeoutMs), timeoutMsMax));
  }
  void begin();

  return {
    pause() {
      paused = true;
      stream?.pause();
    },
    resume() {
      paused = false;
      stream?.resume();
    },
    conclude: () => request.signal?.removeEventListener("abort", onAbort),
    cancel() {
      if (finish()) stream?.close(constants.NGHTTP2_CANCEL);
    },
  };
}

const expected = new WeakSet<Http2Session>();

/**
 * A connection's error is told to each of its streams, and that is enough. The session manager takes its own listener away before it
 * destroys a connection whose server goes away while nothing runs on it, and an error without a listener would end the process.
 */
function expectErrors(session: Http2Session | undefined): void {
  if (!session || expected.has(session)) return;
  expected.add(session);
  session.on("error", () => {});
}

function broken(): ConnectError {
  return new ConnectError("The connection broke.", Code.Unavailable);
}

/** How the Connect protocol reads HTTP/2's error codes; undefined: the stream was not reset. */
function resetError({ rstCode }: ClientHttp2Stream): ConnectError | undefined {
  if (!rstCode) return undefined;
  const codes: Record<number, Code> = {
    [constants.NGHTTP2_REFUSED_STREAM]: Code.Unavailable,
    [constants.NGHTTP2_CANCEL]: Code.Canceled,
    [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.ResourceExhausted,
    [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PermissionDenied,
  };
  return new ConnectError(`The peer reset the call (HTTP/2 error code ${rstCode}).`, codes[rstCode] ?? Code.Internal);
}

// A Connect client of a service over node:http2, binary and uncompressed, with as little as possible between a message and the socket. It
// speaks the protocol as every Connect server does; test/contract/ proves it against the stock one.
import { create, type DescMethod, type DescService, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";
import { codeFromHttpStatus, endStreamFromJson, errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { compressedFlag, createEnvelopeReader, endStreamFlag, tooLarge, writeEnvelope } from "./envelope.ts";
import { type Exchange, type ExchangeRequest, openExchange } from "./exchange.ts";
import { contentType, isIdentity, methodPath, protocolVersion } from "./protocol.ts";

export interface LeanClientOptions {
  /** The connection for the next call. */
  readonly session: () => Http2SessionManager;
  /** Sent as bearer token; empty: none. */
  readonly token: string;
  /** The largest message, in bytes. */
  readonly messageBytesMax: number;
  /** What a caller gets for a failed call. */
  readonly toError: (error: ConnectError, signal: AbortSignal | undefined, method: DescMethod) => Error;
}

/** Unary and server-streaming methods only. Of the call options it takes the signal, the time-out and the headers. */
export function createLeanClient<Service extends DescService>(
  service: Service,
  options: LeanClientOptions,
): Client<Service> {
  const client: Record<string, unknown> = {};
  for (const method of service.methods) {
    if (method.methodKind === "unary") client[method.localName] = unary(method, options);
    if (method.methodKind === "server_streaming") client[method.localName] = serverStreaming(method, options);
  }
  return client as Client<Service>;
}

type Request = MessageShape<DescMethod["input"]>;
type Response = MessageShape<DescMethod["output"]>;

/** Messages that wait for their reader; from there on the peer waits. */
const unreadMax = 16;

function requestHeaders(method: DescMethod, token: string): OutgoingHttpHeaders {
  return {
    "content-type": contentType(method),
    "connect-protocol-version": protocolVersion,
    ...(token ? { authorization: `Bearer ${token}` } : {}),
  };
}

function exchangeRequest(
  path: string,
  headers: OutgoingHttpHeaders,
  body: Uint8Array,
  options: CallOptions | undefined,
  session: Http2SessionManager,
): ExchangeRequest {
  const { timeoutMs: exactMs, signal, headers: own } = options ?? {};
  // The protocol takes whole milliseconds only.
  const timeoutMs = exactMs === undefined ? undefined : Math.ceil(exactMs);
  const all: OutgoingHttpHeaders = { ...headers };
  if (timeoutMs !== undefined) all["connect-timeout-ms"] = String(Math.max(0, timeoutMs));
  if (own) for (const [name, value] of new Headers(own)) all[name] = value;
  return { session, path, headers: all, body, timeoutMs, signal };
}

function unary(method: DescMethod, options: LeanClientOptions) {
  const path = methodPath(method);
  const headers = requestHeaders(method, options.token);
  return (input: Request, callOptions?: CallOptions): Promise<Response> =>
    new Promise((resolve, reject) => {
      const body = toBinary(method.input, create(method.input, input));
      const request = exchangeRequest(path, headers, body, callOptions, options.session());
      const answer = createUnaryReader(method, options.messageBytesMax);
      openExchange(request, {
        onHead: (headers) => answer.head(headers),
        onData: (chunk) => answer.data(chunk),
        onEnd: () => {
          try {
            resolve(answer.message());
          } catch (error) {
            reject(options.toError(ConnectError.from(error, Code.Internal), callOptions?.signal, method));
          }
        },
        onFailure: (error) => reject(options.toError(error, callOptions?.signal, method)),
      });
    });
}

function createUnaryReader(method: DescMethod, bytesMax: number) {
  let head: IncomingHttpHeaders = {};
  let size = 0;
  const chunks: Buffer[] = [];
  return {
    head(headers: IncomingHttpHeaders) {
      head = headers;
    },
    data(chunk: Buffer) {
      size += chunk.length;
      if (size > bytesMax) throw tooLarge(size, bytesMax);
      chunks.push(chunk);
    },
    message(): Response {
      const bytes = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, size);
      if (Number(head[":status"]) !== 200) throw unaryError(head, bytes);
      checkForm(head, method, head["content-encoding"]);
      return fromBinary(method.output, bytes);
    },
  };
}

function unaryError(head: IncomingHttpHeaders, bytes: Buffer): ConnectError {
  const fromStatus = statusError(head);
  if (!head["content-type"]?.startsWith("application/json")) return fromStatus;
  return errorFromJsonBytes(bytes, undefined, fromStatus);
}

function statusError(head: IncomingHttpHeaders): ConnectError {
  const status = Number(head[":status"]);
  return new ConnectError(`The server answered with HTTP status ${status}.`, codeFromHttpStatus(status));
}

function checkForm(head: IncomingHttpHeaders, method: DescMethod, encoding: string | string[] | undefined): void {
  const type = head["content-type"];
  if (type !== contentType(method)) throw new ConnectError(`The server answered with ${type}.`, Code.Unknown);
  if (!isIdentity(encoding)) throw new ConnectError("The server compressed what was not asked for.", Code.Internal);
}

function serverStreaming(method: DescMethod, options: LeanClientOptions) {
  const path = methodPath(method);
  const headers = requestHeaders(method, options.token);
  return (input: Request, callOptions?: CallOptions): AsyncIterable<Response> => ({
    [Symbol.asyncIterator]() {
      const body = writeEnvelope(0, toBinary(method.input, create(method.input, input)));
      const request = exchangeRequest(path, headers, body, callOptions, options.session());
      const toError = (error: ConnectError) => options.toError(error, callOptions?.signal, method);
      return readStream(method, request, options.messageBytesMax, toError);
    },
  });
}

const orderlyEnd = Buffer.from("{}");

/** What the last envelope of a stream says. Nearly always nothing, and the full parser makes an error, and so a stack trace, in any case. */
function endError(payload: Uint8Array): ConnectError | undefined {
  return orderlyEnd.equals(payload) ? undefined : endStreamFromJson(payload).error;
}

/** Reads as fast as its consumer: what is not taken makes the server wait. A consumer that stops cancels the call. */
function readStream(
  method: DescMethod,
  request: ExchangeRequest,
  messageBytesMax: number,
  toError: (error: ConnectError) => Error,
): AsyncIterableIterator<Response> {
  const envelopes = createEnvelopeReader(messageBytesMax);
  const unread: Response[] = [];
  let waiting: PromiseWithResolvers<IteratorResult<Response>> | undefined;
  let end: { readonly error: Error | undefined } | undefined;
  let paused = false;

  const deliver = (message: Response) => {
    if (waiting) {
      waiting.resolve({ done: false, value: message });
      waiting = undefined;
      return;
    }
    unread.push(message);
    if (unread.length >= unreadMax && !paused) {
      paused = true;
      exchange.pause();
    }
  };
  const finish = (error: Error | undefined) => {
    end ??= { error };
    if (!waiting) return;
    if (end.error) waiting.reject(end.error);
    else waiting.resolve({ done: true, value: undefined });
    waiting = undefined;
  };
  const exchange: Exchange = openExchange(request, {
    onHead(head) {
      if (Number(head[":status"]) !== 200) throw statusError(head);
      checkForm(head, method, head["connect-content-encoding"]);
    },
    onData(chunk) {
      for (const { flags, payload } of envelopes.push(chunk)) {
        if (end) throw new ConnectError("The server went on after the end of its stream.", Code.Internal);
        if (flags & compressedFlag) throw new ConnectError("The server compressed a message.", Code.Internal);
        if (flags & endStreamFlag) {
          const error = endError(payload);
          finish(error && toError(error));
          // The caller goes on at once, and the end of its work must not reset a stream that is about to close by itself.
          exchange.conclude();
        } else deliver(fromBinary(method.output, payload));
      }
    },
    onEnd() {
      // A stream without its end was cut, however orderly its connection closed.
      if (!end) finish(toError(new ConnectError("The answer broke off before its end.", Code.DataLoss)));
    },
    onFailure: (error) => finish(toError(error)),
  });

  const next = async (): Promise<IteratorResult<Response>> => {
    const message = unread.shift();
    if (message) {
      if (paused && unread.length === 0) {
        paused = false;
        exchange.resume();
      }
      return { done: false, value: message };
    }
    if (end?.error) throw end.error;
    if (end) return { done: true, value: undefined };
    waiting = Promise.withResolvers();
    return await waiting.promise;
  };
  const stop = async (): Promise<IteratorResult<Response>> => {
    exchange.cancel();
    unread.length = 0;
    finish(undefined);
    return { done: true, value: undefined };
  };
  const iterator: AsyncIterableIterator<Response> = { next, return: stop, [Symbol.asyncIterator]: () => iterator };
  return iterator;
}

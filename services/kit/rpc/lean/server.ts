// The server's side of the lean transport: calls of the Connect protocol over HTTP/2 in their plain form (binary, uncompressed, POST). Every
// other form, and every other protocol, is left to the stock server on the same port.
import { create, type DescMethod, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, endStreamToJson, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { Log } from "../../log.ts";
import { newId } from "../../random.ts";
import { type Authorize, requestIdHeader, translateError } from "../interceptors.ts";
import type { MountedService } from "../server.ts";
import { type CallContext, createCallContext } from "./call-context.ts";
import { compressedFlag, createEnvelopeReader, endStreamFlag, tooLarge, writeEnvelope } from "./envelope.ts";
import { contentType, isIdentity, methodPath } from "./protocol.ts";

export interface LeanServerOptions {
  readonly services: readonly MountedService[];
  readonly authorize: Authorize;
  readonly log: Log;
  /** The largest message, in bytes. */
  readonly messageBytesMax: number;
  /** Time for a request to arrive, in ms. */
  readonly receiveTimeoutMs: number;
  /** Ends the calls of a method when it is aborted, with its reason. */
  readonly shutdown: (method: DescMethod) => AbortSignal;
}

/** Takes a stream, or says that it is not one of these calls. */
export type LeanServer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

type Handler = (request: unknown, context: CallContext) => unknown;

interface Method {
  readonly method: DescMethod;
  readonly handler: Handler;
  /** Contexts of the calls that run. */
  readonly running: Set<CallContext>;
}

export function createLeanServer(options: LeanServerOptions): LeanServer {
  const methods = new Map<string, Method>();
  for (const { service, implementation } of options.services) {
    for (const method of service.methods) {
      const handler = (implementation as Record<string, unknown>)[method.localName];
      const known = method.methodKind === "unary" || method.methodKind === "server_streaming";
      if (!known || typeof handler !== "function") continue;
      const running = new Set<CallContext>();
      const shutdown = options.shutdown(method);
      shutdown.addEventListener("abort", () => {
        for (const context of running) context.abort(shutdown.reason);
      });
      methods.set(methodPath(method), { method, handler: handler.bind(implementation) as Handler, running });
    }
  }
  const validator = createValidator();
  const serve = createServe(options, (desc, message) => {
    const { kind, error } = validator.validate(desc, message);
    if (kind !== "valid") throw new ConnectError(error.message, Code.InvalidArgument);
  });
  return (stream, headers) => {
    const found = methods.get(headers[":path"] ?? "");
    if (!found || !isPlain(headers, found.method)) return false;
    void serve(found, stream, headers);
    return true;
  };
}

function isPlain(headers: IncomingHttpHeaders, method: DescMethod): boolean {
  return (
    headers[":method"] === "POST" &&
    headers["content-type"] === contentType(method) &&
    isIdentity(headers["content-encoding"]) &&
    isIdentity(headers["connect-content-encoding"]) &&
    headers["expect"] === undefined
  );
}

type Validate = (desc: DescMethod["input"], message: never) => void;

function createServe(options: LeanServerOptions, validate: Validate) {
  const { authorize, log, messageBytesMax, receiveTimeoutMs } = options;
  return async ({ method, handler, running }: Method, stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const requestId = given(headers[requestIdHeader]) ?? newId("rpc");
    const timeoutMs = deadline(headers["connect-timeout-ms"]);
    using context = createCallContext(method, headers, typeof timeoutMs === "number" ? timeoutMs : undefined);
    const outgoing = createOutgoing(stream, method, context, requestId);
    running.add(context);
    // At once: the end of a stream is told once, whoever listens.
    const received = receive(stream, method, context, messageBytesMax, receiveTimeoutMs);
    received.catch(() => {});
    try {
      if (timeoutMs instanceof ConnectError) throw timeoutMs;
      await authorize({
        service: method.parent.typeName,
        method: method.name,
        get header() {
          return context.requestHeader;
        },
      });
      const request = parse(method, await received, messageBytesMax);
      validate(method.input, request as never);
      if (method.methodKind === "unary") outgoing.answer(await handler(request, context));
      else await outgoing.stream(handler(request, context) as AsyncIterable<unknown>);
    } catch (error) {
      outgoing.fail(translateError(error, { signal: context.signal, method, requestId, log }));
    } finally {
      running.delete(context);
    }
  };
}

function given(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function deadline(value: string | string[] | undefined): number | ConnectError | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && /^\d{1,10}$/.test(value)) return Number(value);
  return new ConnectError(
    `connect-timeout-ms is ${String(value)}, not a number of at most ten digits.`,
    Code.InvalidArgument,
  );
}

/** The request's bytes: one message, and one envelope around it where the answer is a stream. */
function receive(
  stream: ServerHttp2Stream,
  method: DescMethod,
  context: CallContext,
  bytesMax: number,
  timeoutMs: number,
): Promise<Buffer> {
  const limit = method.methodKind === "unary" ? bytesMax : bytesMax + 5;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const late = () => {
      reject(new ConnectError("The request did not arrive in time.", Code.DeadlineExceeded));
    };
    const timer = setTimeout(late, timeoutMs);
    const settle = (step: () => void) => {
      clearTimeout(timer);
      step();
    };
    context.signal.addEventListener("abort", () => settle(() => reject(context.signal.reason)), { once: true });
    stream.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) settle(() => reject(tooLarge(size, bytesMax)));
      else chunks.push(chunk);
    });
    stream.on("end", () => settle(() => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks))));
  });
}

function parse(method: DescMethod, bytes: Buffer, bytesMax: number): unknown {
  const payload = method.methodKind === "unary" ? bytes : onlyEnvelope(bytes, bytesMax);
  try {
    return fromBinary(method.input, payload);
  } catch (error) {
    throw new ConnectError(
      `The request is not a ${method.input.typeName}.`,
      Code.InvalidArgument,
      undefined,
      undefined,
      error,
    );
  }
}

function onlyEnvelope(bytes: Buffer, bytesMax: number): Uint8Array {
  const reader = createEnvelopeReader(bytesMax);
  const [first, ...more] = reader.push(bytes);
  if (!first || more.length > 0 || reader.pendingBytes > 0) {
    throw new ConnectError("The request is not exactly one message in one envelope.", Code.InvalidArgument);
  }
  if (first.flags & compressedFlag) {
    throw new ConnectError("The message is compressed, and its encoding is not named.", Code.Internal);
  }
  if (first.flags !== 0)
    throw new ConnectError("The envelope has flags that a request cannot have.", Code.InvalidArgument);
  return first.payload;
}

const orderlyEnd = writeEnvelope(endStreamFlag, Buffer.from("{}"));

/** What the caller gets: one answer, or a stream and its end. */
function createOutgoing(stream: ServerHttp2Stream, method: DescMethod, context: CallContext, requestId: string) {
  let written: ((gone: boolean) => void) | undefined;
  stream.on("error", () => {});
  stream.on("close", () => {
    if (!context.signal.aborted) context.abort(new ConnectError("The caller is gone.", Code.Canceled));
    written?.(true);
  });

  const respond = (status: number, headers: OutgoingHttpHeaders) => {
    const own = context.headerToSend ? Object.fromEntries(context.headerToSend) : undefined;
    stream.respond({ ":status": status, [requestIdHeader]: requestId, ...headers, ...own });
  };
  const end = (bytes: Uint8Array) => {
    // Whoever still sends is told that nobody reads it.
    stream.end(bytes, () => {
      if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
    });
  };
  /** Resolves when the bytes have left for the socket: until then a handler may gather what comes. false: the caller is gone. */
  const write = (bytes: Uint8Array): Promise<boolean> =>
    new Promise((resolve) => {
      written = (gone) => {
        written = undefined;
        resolve(!gone);
      };
      stream.write(bytes, (error) => written?.(error != null));
    });

  return {
    answer(message: unknown): void {
      if (stream.destroyed || stream.closed) return;
      const bytes = toBinary(method.output, create(method.output, message as never));
      respond(200, { "content-type": contentType(method), "content-length": bytes.length });
      end(bytes);
    },
    async stream(messages: AsyncIterable<unknown>): Promise<void> {
      for await (const message of messages) {
        if (stream.destroyed || stream.closed) return;
        if (!stream.headersSent) respond(200, { "content-type": contentType(method) });
        const bytes = toBinary(method.output, create(method.output, message as never));
        if (!(await write(writeEnvelope(0, bytes)))) return;
      }
      context.signal.throwIfAborted();
      if (stream.destroyed || stream.closed) return;
      if (!stream.headersSent) respond(200, { "content-type": contentType(method) });
      end(orderlyEnd);
    },
    fail(error: ConnectError): void {
      if (stream.destroyed || stream.closed) return;
      if (method.methodKind === "unary") {
        const bytes = errorToJsonBytes(error, undefined);
        respond(codeToHttpStatus(error.code), { "content-type": "application/json", "content-length": bytes.length });
        end(bytes);
        return;
      }
      if (!stream.headersSent) respond(200, { "content-type": contentType(method) });
      const json = JSON.stringify(endStreamToJson(new Headers(), error, undefined));
      end(writeEnvelope(endStreamFlag, Buffer.from(json)));
    },
  };
}

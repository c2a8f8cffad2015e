// A server on one port: gRPC, gRPC-Web and Connect over HTTP/1.1 and h2c, with health, reflection, validation and typed errors, and plain
// HTTP routes beside them on HTTP/1.1.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { createServer as createHttp1Server, type RequestListener, type Server as Http1Server } from "node:http";
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Session } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import { Code, ConnectError, type ConnectRouter, type Interceptor, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createValidateInterceptor } from "@connectrpc/validate";
import { fastify, type FastifyInstance } from "fastify";
import { Health } from "#gen/grpc/health/v1/health";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection";
import { type Clock, systemClock } from "../clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../errors.ts";
import type { Log } from "../log.ts";
import { createHealthService } from "./health.ts";
import { authorization, type Authorize, errorTranslation, requestIds } from "./interceptors.ts";
import { createLeanServer, type LeanServer } from "./lean/server.ts";
import { createProtocolMux } from "./protocol-mux.ts";
import { createReflectionService } from "./reflection.ts";
import { createTlsFront, type TlsFiles } from "./tls.ts";

export interface MountedService {
  readonly service: DescService;
  readonly implementation: Partial<ServiceImpl<DescService>>;
}

/** Pairs a service with its implementation, checked against each other. */
export function mount<Service extends DescService>(
  service: Service,
  implementation: Partial<ServiceImpl<Service>>,
): MountedService {
  return { service, implementation: implementation as MountedService["implementation"] };
}

export interface RpcServerOptions {
  /** Port 0: any free one. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly services: readonly MountedService[];
  /** Asked for every call but health checks. */
  readonly authorize: Authorize;
  /** Adds plain HTTP routes. */
  readonly http?: (app: FastifyInstance) => void;
  /** What health checks say. */
  readonly ready: () => boolean | Promise<boolean>;
  readonly log: Log;
  readonly clock?: Clock;
  readonly limits?: Partial<RpcServerLimits>;
  /** Default: no TLS. */
  readonly tls?: TlsFiles | undefined;
}

export interface RpcServerLimits {
  /** The largest message of a call, in bytes. Default 32 MiB. */
  readonly messageBytesMax: number;
  /** The largest body of a plain HTTP request, in bytes. Default 32 MiB. */
  readonly bodyBytesMax: number;
  /** The most bytes of a plain HTTP request's headers. Default 32 KiB. */
  readonly headerBytesMax: number;
  /** Time for a connection to show its protocol and for a request's headers to arrive, in ms. Default 10,000. */
  readonly headersTimeoutMs: number;
  /** Time for a whole request to arrive, in ms. Default 120,000. */
  readonly requestTimeoutMs: number;
  /** How long an idle HTTP/1.1 connection stays open, in ms. Default 75,000. */
  readonly keepAliveTimeoutMs: number;
  /** Calls at the same time on one HTTP/2 connection. Default 10,000. */
  readonly streamsPerConnectionMax: number;
}

const defaultLimits: RpcServerLimits = {
  messageBytesMax: 32 << 20,
  bodyBytesMax: 32 << 20,
  headerBytesMax: 32 << 10,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 120_000,
  keepAliveTimeoutMs: 75_000,
  streamsPerConnectionMax: 10_000,
};

export interface RpcServer extends AsyncDisposable {
  /** Where it listens, such as http://127.0.0.1:8080. */
  readonly address: string;
  /** Takes no new connections, ends watches, lets other calls and requests in flight finish for `graceMs`, then ends what is left. */
  close(graceMs: number): Promise<void>;
}

export async function startRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const limits = { ...defaultLimits, ...options.limits };
  const stopping = { closing: new AbortController(), shutdown: new AbortController() };
  const plain: { handler: RequestListener } = { handler: (_, response) => response.writeHead(404).end() };
  const adapter = connectNodeAdapter({
    routes: (router) => addRoutes(router, options, limits, stopping),
    readMaxBytes: limits.messageBytesMax,
    fallback(request, response) {
      if (request.httpVersionMajor < 2) plain.handler(request as never, response as never);
      else {
        response.writeHead(505);
        response.end("Plain HTTP routes are served over HTTP/1.1 only.\n");
      }
    },
  });
  const http1 = createHttp1Server(
    {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: 2_000,
    },
    adapter,
  );
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams: limits.streamsPerConnectionMax } }, adapter);
  putBefore(
    http2,
    createLeanServer({
      services: options.services,
      authorize: options.authorize,
      log: options.log,
      messageBytesMax: limits.messageBytesMax,
      receiveTimeoutMs: limits.requestTimeoutMs,
      shutdown: (method) => (isWatch(method) ? stopping.closing : stopping.shutdown).signal,
    }),
  );
  const app = await startPlainRoutes(options, limits, http1, plain);
  const mux = createProtocolMux({ http1, http2, helloTimeoutMs: limits.headersTimeoutMs });
  const front = options.tls ? createTlsFront(mux, options.tls, options.log) : mux;
  await listen(front, options.listen);
  const { port } = front.address() as AddressInfo;
  const host = options.listen.host.includes(":") ? `[${options.listen.host}]` : options.listen.host;
  const close = closer({ mux: front, http1, http2, app, ...stopping });
  return {
    address: `${options.tls ? "https" : "http"}://${host}:${port}`,
    close,
    [Symbol.asyncDispose]: () => close(0),
  };
}

/** Streams that `first` does not take go on as if it was not there. */
function putBefore(http2: Http2Server, first: LeanServer): void {
  const rest = http2.listeners("stream") as ((...stream: unknown[]) => void)[];
  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers, flags, rawHeaders) => {
    if (first(stream, headers)) return;
    for (const listener of rest) listener.call(http2, stream, headers, flags, rawHeaders);
  });
}

/** What calls are aborted by when the server stops. */
interface Stopping {
  /** Aborted as soon as the server begins to close. */
  readonly closing: AbortController;
  /** Aborted when the grace is over. */
  readonly shutdown: AbortController;
}

/** A watch has no end of its own: waiting for one would make every stop as long as its grace. By name, as our contracts and gRPC's have it. */
function isWatch(method: DescMethod): boolean {
  return method.methodKind === "server_streaming" && method.name.startsWith("Watch");
}

/** For the methods of a service that this port does not have. */
function notServed({ name }: DescMethod): () => never {
  return () => {
    throw new DrawbridgeError("NOT_SUPPORTED", `${name} is not served on this port.`);
  };
}

function addRoutes(
  router: ConnectRouter,
  options: RpcServerOptions,
  limits: RpcServerLimits,
  { closing, shutdown }: Stopping,
): void {
  const clock = options.clock ?? systemClock;
  const open = [requestIds(), errorTranslation(options.log), createValidateInterceptor()];
  const guarded = [
    requestIds(),
    errorTranslation(options.log),
    authorization(options.authorize),
    createValidateInterceptor(),
  ];
  const add = ({ service, implementation }: MountedService, interceptors: Interceptor[]) => {
    for (const method of service.methods) {
      const handler = (implementation as Record<string, unknown>)[method.localName];
      const { signal: shutdownSignal } = isWatch(method) ? closing : shutdown;
      const implemented = typeof handler === "function" ? handler.bind(implementation) : notServed(method);
      router.rpc(method, implemented as never, {
        shutdownSignal,
        readMaxBytes: limits.messageBytesMax,
        interceptors,
      });
    }
  };
  const described = [...options.services.map((each) => each.service), Health, ServerReflection];
  const services = described.map((service) => service.typeName);
  for (const mounted of options.services) add(mounted, guarded);
  add(mount(Health, createHealthService({ services, ready: options.ready, clock })), open);
  add(mount(ServerReflection, createReflectionService(described)), guarded);
}

/** A path with broken escapes is no route of anybody's; taken as it stands it gets the same answer as any other unknown one. */
function isDecodable(url: string): boolean {
  if (!url.includes("%")) return true;
  try {
    decodeURIComponent(url);
    return true;
  } catch {
    return false;
  }
}

async function startPlainRoutes(
  options: RpcServerOptions,
  limits: RpcServerLimits,
  server: Http1Server,
  plain: { handler: RequestListener },
): Promise<FastifyInstance> {
  const app = fastify({
    bodyLimit: limits.bodyBytesMax,
    forceCloseConnections: false,
    rewriteUrl: ({ url = "/" }) => (isDecodable(url) ? url : url.replaceAll("%", "%25")),
    serverFactory: (handler) => {
      plain.handler = handler as RequestListener;
      return server;
    },
  });
  app.setErrorHandler((error: unknown, request, reply) => {
    const statusCode = (error as { statusCode?: number }).statusCode;
    const found = asDrawbridgeError(
      error,
      statusCode !== undefined && statusCode < 500 ? "INVALID_ARGUMENT" : "INTERNAL",
    );
    if (found.reason === "INTERNAL") options.log.error({ err: error, url: request.url }, "request failed");
    return reply.code(statusCode ?? found.httpStatus).send({ reason: found.reason, message: found.message });
  });
  // In a scope of their own, where they may have another error handler.
  const { http } = options;
  if (http) void app.register(async (scope) => http(scope as unknown as FastifyInstance));
  await app.ready();
  return app as unknown as FastifyInstance;
}

function listen(server: Server, { host, port }: RpcServerOptions["listen"]): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
    server.listen({ host, port }, resolve);
  });
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === "EADDRINUSE") {
    return new DrawbridgeError(
      "INVALID_ARGUMENT",
      `Port ${port} on ${host} is in use. Stop what runs there, or listen elsewhere.`,
      { cause: error },
    );
  }
  if (error.code === "EACCES") {
    return new DrawbridgeError("INVALID_ARGUMENT", `This user may not listen on port ${port} of ${host}.`, {
      cause: error,
    });
  }
  if (error.code === "EADDRNOTAVAIL" || error.code === "ENOTFOUND") {
    return new DrawbridgeError("INVALID_ARGUMENT", `${host} is no address of this machine.`, { cause: error });
  }
  return error;
}

interface Parts extends Stopping {
  readonly mux: Server;
  readonly http1: Http1Server;
  readonly http2: Http2Server;
  readonly app: FastifyInstance;
}

/**
 * Closes in order: no new connections, idle ones go, the rest has `graceMs`, then everything ends. Repeated calls share one closing, and a
 * shorter grace hurries it.
 */
function closer({ mux, http1, http2, app, closing, shutdown }: Parts): (graceMs: number) => Promise<void> {
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  const sockets = new Set<Socket>();
  mux.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const force = () => {
    shutdown.abort(stopped());
    // The handlers' last words leave first.
    setImmediate(() => {
      http1.closeAllConnections();
      for (const session of sessions) session.destroy();
      // A session that ended gracefully has left its socket to the peer, who may not close it.
      for (const socket of sockets) socket.destroy();
    });
  };
  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => mux.close(() => resolve()));
    const idleSweep = setInterval(() => http1.closeIdleConnections(), 20);
    closing.abort(stopped());
    for (const session of sessions) session.close();
    await closed;
    clearInterval(idleSweep);
    http1.close();
    await app.close();
  };
  const stopped = () => new ConnectError("The server is stopping.", Code.Unavailable);
  let begun: Promise<void> | undefined;
  return async (graceMs) => {
    const timer = setTimeout(force, graceMs);
    begun ??= close();
    await begun;
    clearTimeout(timer);
  };
}

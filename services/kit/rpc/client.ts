// Typed clients to other processes: one HTTP/2 connection to each address, a token on every call, DrawbridgeErrors, and calls that end
// when their consumer stops reading.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  type CallOptions,
  type Client,
  ConnectError,
  createClient,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { LRUCache } from "lru-cache";
import { asDrawbridgeError, DrawbridgeError, type Reason } from "../errors.ts";

export interface DialerOptions {
  /** Sent as bearer token with every call; empty: none. */
  readonly token: string;
  /** Connections that are kept; the least recently used one goes first. Default 4096. */
  readonly connectionsMax?: number;
  /** The largest message, in bytes. Default 32 MiB. */
  readonly messageBytesMax?: number;
}

export interface ClientOptions {
  /** The reason of a call that failed without one of our errors: refused, reset, or answered by something else. */
  readonly unreachable: Reason;
}

export interface Dialer extends AsyncDisposable {
  client<Service extends DescService>(service: Service, address: string, options: ClientOptions): Client<Service>;
}

interface Connection {
  readonly transport: Transport;
  readonly session: Http2SessionManager;
  readonly clients: Map<DescService, Record<string, unknown>>;
}

export function createDialer(options: DialerOptions): Dialer {
  const connections = new LRUCache<string, Connection>({
    max: options.connectionsMax ?? 4096,
    dispose: ({ session }) => session.abort(),
  });
  const connect = (address: string): Connection => {
    const known = connections.get(address);
    if (known) return known;
    const session = new Http2SessionManager(address, { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 });
    const transport = createConnectTransport({
      baseUrl: address,
      httpVersion: "2",
      sessionManager: session,
      useBinaryFormat: true,
      readMaxBytes: options.messageBytesMax ?? 32 << 20,
      interceptors: options.token ? [bearer(options.token)] : [],
    });
    const connection: Connection = { transport, session, clients: new Map() };
    connections.set(address, connection);
    return connection;
  };
  return {
    client: (service, address, { unreachable }) => guard(service, () => stock(service, connect(address)), unreachable),
    async [Symbol.asyncDispose]() {
      connections.clear();
    },
  };
}

export function bearer(token: string): Interceptor {
  return (next) => async (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return await next(request);
  };
}

function stock(service: DescService, { transport, clients }: Connection): Record<string, unknown> {
  let client = clients.get(service);
  if (!client) {
    client = createClient(service, transport) as Record<string, unknown>;
    clients.set(service, client);
  }
  return client;
}

type UnaryCall = (request: unknown, options?: CallOptions) => Promise<unknown>;
type StreamCall = (request: unknown, options?: CallOptions) => AsyncIterable<unknown>;

function guard<Service extends DescService>(
  service: Service,
  current: () => Record<string, unknown>,
  unreachable: Reason,
): Client<Service> {
  const guarded: Record<string, unknown> = {};
  for (const method of service.methods) {
    const call = () => current()[method.localName];
    if (method.methodKind === "unary") guarded[method.localName] = unary(() => call() as UnaryCall, unreachable);
    if (method.methodKind === "server_streaming") {
      guarded[method.localName] = serverStreaming(() => call() as StreamCall, method, unreachable);
    }
  }
  return guarded as Client<Service>;
}

function unary(call: () => UnaryCall, unreachable: Reason): UnaryCall {
  return async (request, options) => {
    try {
      return await call()(request, options);
    } catch (error) {
      throw domainError(error, options?.signal, unreachable);
    }
  };
}

/** A `break` out of a Connect stream does not cancel the call at the server; aborting its own controller does. */
function serverStreaming(call: () => StreamCall, method: DescMethod, unreachable: Reason): StreamCall {
  return async function* stream(request, options) {
    const scope = new AbortController();
    const signal = options?.signal ? AbortSignal.any([options.signal, scope.signal]) : scope.signal;
    try {
      yield* call()(request, { ...options, signal });
    } catch (error) {
      throw domainError(error, options?.signal, unreachable, method.name);
    } finally {
      scope.abort();
    }
  };
}

function domainError(
  error: unknown,
  signal: AbortSignal | undefined,
  unreachable: Reason,
  method?: string,
): DrawbridgeError {
  const found = asDrawbridgeError(ConnectError.from(error), unreachable);
  // A reset by the peer reads as "cancelled" too; only our own signal makes it one.
  if (found.reason === "CANCELLED" && !signal?.aborted) {
    return new DrawbridgeError(unreachable, `The connection broke${method ? ` during ${method}` : ""}.`, {
      cause: error,
    });
  }
  return found;
}

// Typed clients to other processes: one HTTP/2 connection to each address, a token on every call, DrawbridgeErrors, and calls that end
// when their consumer stops reading.
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { Client, ConnectError } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";
import { LRUCache } from "lru-cache";
import { asDrawbridgeError, DrawbridgeError, type Reason } from "../errors.ts";
import { createLeanClient } from "./lean/client.ts";

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

export function createDialer(options: DialerOptions): Dialer {
  const sessions = new LRUCache<string, Http2SessionManager>({
    max: options.connectionsMax ?? 4096,
    dispose: (session) => session.abort(),
  });
  const connect = (address: string): Http2SessionManager => {
    let session = sessions.get(address);
    if (!session) {
      session = new Http2SessionManager(address, { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 });
      sessions.set(address, session);
    }
    return session;
  };
  return {
    client: (service, address, { unreachable }) =>
      createLeanClient(service, {
        session: () => connect(address),
        token: options.token,
        messageBytesMax: options.messageBytesMax ?? 32 << 20,
        toError: (error, signal, method) => domainError(error, signal, unreachable, method),
      }),
    async [Symbol.asyncDispose]() {
      sessions.clear();
    },
  };
}

function domainError(
  error: ConnectError,
  signal: AbortSignal | undefined,
  unreachable: Reason,
  method: DescMethod,
): DrawbridgeError {
  const found = asDrawbridgeError(error, unreachable);
  // A reset by the peer reads as "cancelled" too; only our own signal makes it one.
  if (found.reason === "CANCELLED" && !signal?.aborted) {
    return new DrawbridgeError(unreachable, `The connection broke during ${method.name}.`, { cause: error });
  }
  return found;
}

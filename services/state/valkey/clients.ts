// The client of a server, of Sentinels or of a Cluster. Nothing waits in a queue for a store that is away: a call fails at once, or within the bounds
// below, while the client goes on connecting by itself.
import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis";
import { DrawbridgeError } from "../../kit/errors.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { StoreAddress, StoreNode } from "./address.ts";

export type Client = Redis | Cluster;

/** A call has its answer within this time, or fails. */
export const commandTimeoutMs = 2_000;
const connectTimeoutMs = 2_000;
/** A connection that owes an answer for so long is dead. */
const silenceMs = 5_000;
const reconnectBaseMs = 50;
const reconnectMaxMs = 2_000;
/** A Cluster's redirections for one call, and the pause before those that follow a failure: together within the time of a command. */
const redirectionsMax = 8;
const redirectionPauseMs = 100;

/** The client for commands. It does not connect before it is told to. */
export function createCommandClient(address: StoreAddress, name: string, random: Random): Client {
  const reconnect = (times: number) => backoffMs(times, reconnectBaseMs, reconnectMaxMs, random);
  if (address.kind !== "cluster")
    return new Redis({ ...singleOptions(address, name, reconnect), retryStrategy: reconnect });
  const options: ClusterOptions = {
    enableOfflineQueue: false,
    lazyConnect: true,
    clusterRetryStrategy: reconnect,
    clusterNodeRetryStrategy: reconnect,
    maxRedirections: redirectionsMax,
    retryDelayOnFailover: redirectionPauseMs,
    retryDelayOnClusterDown: redirectionPauseMs,
    retryDelayOnTryAgain: redirectionPauseMs,
    slotsRefreshTimeout: connectTimeoutMs,
    redisOptions: connectionOptions(address, name),
  };
  return new Cluster([...address.nodes], options);
}

/** A connection for subscriptions, which ends when it breaks: the subscription makes the next one. */
export function createSubscriberClient(address: StoreAddress, name: string, node: StoreNode): Redis {
  const once = () => null;
  const options =
    address.kind === "cluster" ? { ...connectionOptions(address, name), ...node } : singleOptions(address, name, once);
  return new Redis({ ...options, lazyConnect: true, retryStrategy: once });
}

function singleOptions(
  address: StoreAddress,
  connectionName: string,
  askSentinelsAgain: (times: number) => number | null,
): RedisOptions {
  const shared = {
    ...connectionOptions(address, connectionName),
    db: address.database,
    enableOfflineQueue: false,
    lazyConnect: true,
  };
  if (address.kind === "single") return { ...shared, ...address.nodes[0] };
  return {
    ...shared,
    name: address.master,
    sentinels: [...address.nodes],
    sentinelCommandTimeout: commandTimeoutMs,
    // While they elect a new master, Sentinels name none that answers. Without a next look the client would give up for ever.
    sentinelRetryStrategy: askSentinelsAgain,
    ...(address.sentinelPassword === undefined ? {} : { sentinelPassword: address.sentinelPassword }),
    ...(address.tls ? { enableTLSForSentinelMode: true, sentinelTLS: tlsOptions(address) } : {}),
  };
}

function connectionOptions(address: StoreAddress, connectionName: string): RedisOptions {
  return {
    connectionName,
    // The older protocol's answers have the same form everywhere.
    protocol: 2,
    connectTimeout: connectTimeoutMs,
    commandTimeout: commandTimeoutMs,
    socketTimeout: silenceMs,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // A master that became a replica: connect anew, so that the next call finds the new master.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    ...(address.username === undefined ? {} : { username: address.username }),
    ...(address.password === undefined ? {} : { password: address.password }),
    ...(address.tls ? { tls: tlsOptions(address) } : {}),
  };
}

function tlsOptions({ ca }: StoreAddress): ConnectionOptions {
  if (ca === undefined) return {};
  try {
    return { ca: readFileSync(ca) };
  } catch (error) {
    const message = `The address of the store ("state") is not valid: the file "${ca}" of its option ca cannot be read.`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message, { cause: error });
  }
}

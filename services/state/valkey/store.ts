// The Valkey store: the state interface on a server, behind Sentinels or on a Cluster, shared by any number of processes.
import { backoffMs, systemRandom } from "../../kit/random.ts";
import type { Log } from "../../kit/log.ts";
import { createKeys } from "../keys.ts";
import type { State } from "../state.ts";
import { createAccessStore } from "./access.ts";
import { createAccountStore } from "./accounts.ts";
import { parseStoreAddress, type StoreAddress } from "./address.ts";
import { createBreakerStore } from "./breakers.ts";
import { type ChangeHub, createChangeHub } from "./changes.ts";
import { createValkeyChannelStore } from "./channels.ts";
import { type Client, createCommandClient, createSubscriberClient } from "./clients.ts";
import { connect, createConnection, disconnect, knownNodes } from "./connection.ts";
import type { Context } from "./context.ts";
import { createDemandStore } from "./demand.ts";
import { createEventLog } from "./events.ts";
import { createLeaderLock } from "./leader.ts";
import { createLeaseStore } from "./leases.ts";
import { createLedger } from "./ledger.ts";
import { createOutcomeStore } from "./outcomes.ts";
import { text } from "./replies.ts";
import { createWorkerDirectory } from "./workers.ts";

export interface ValkeyStateOptions {
  /** Where the store is; valkey/address.ts says how to write it. */
  readonly url: string;
  readonly log: Log;
  /** Whose connections these are. Default "drawbridge". */
  readonly service?: string | undefined;
  /** How long to wait for a store that is away when it is opened. Default 10,000. */
  readonly connectTimeoutMs?: number;
}

export async function openValkeyState(options: ValkeyStateOptions): Promise<State> {
  const { log, connectTimeoutMs = 10_000, service = "drawbridge" } = options;
  const address = parseStoreAddress(options.url);
  await using opening = new AsyncDisposableStack();
  const client = opening.adopt(
    createCommandClient(address, connectionName(service, "commands"), systemRandom),
    disconnect,
  );
  await connect({ client, log, timeoutMs: connectTimeoutMs });
  const connection = createConnection(client);
  const keys = createKeys(address.prefix);
  const hub = opening.use(
    createChangeHub({
      connection,
      keys,
      log,
      subscriber: () =>
        createSubscriberClient(address, connectionName(service, "hints"), subscriberNode(address, client)),
      pauseMs: (attempt) => backoffMs(attempt, 50, 2_000, systemRandom),
    }),
  );
  const resources = opening.move();
  return {
    ...createParts({ connection, keys }, hub),
    ping: () => connection.ping(),
    async identify(proposed) {
      return text(await connection.command("SET", keys.identity, proposed, "NX", "GET")) ?? proposed;
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** What `CLIENT LIST` shows of a connection. */
function connectionName(service: string, purpose: string): string {
  return `${service}:${process.pid}:${purpose}`;
}

function createParts(context: Context, hub: ChangeHub) {
  const observed = (subject: string) => ({ ...context, changes: hub.subject(subject) });
  const accounts = observed("accounts");
  const breakers = observed("breakers");
  return {
    workers: createWorkerDirectory(observed("workers")),
    accounts: createAccountStore(accounts),
    leases: createLeaseStore(context, accounts.changes, breakers.changes),
    breakers: createBreakerStore(breakers),
    access: createAccessStore(observed("access")),
    ledger: createLedger(observed("ledger")),
    outcomes: createOutcomeStore(observed("outcomes")),
    events: createEventLog(observed("events")),
    leader: createLeaderLock(observed("leader")),
    demand: createDemandStore(observed("demand")),
    channels: createValkeyChannelStore(observed("channels")),
  };
}

/** A message reaches every node of a Cluster, so any of them will do: another one each time, since one may be away. */
function subscriberNode(address: StoreAddress, client: Client) {
  const known = knownNodes(client);
  const nodes = known.length > 0 ? known : address.nodes;
  return nodes[Math.floor(systemRandom() * nodes.length)] ?? address.nodes[0];
}

// The embedded store: the state interface in one SQLite file, for one machine.
import { resolve } from "node:path";
import type { Log } from "../../kit/log.ts";
import type { State } from "../state.ts";
import { createAccessStore } from "./access.ts";
import { createAccountStore } from "./accounts.ts";
import { createBreakerStore } from "./breakers.ts";
import { createChangeHub } from "./changes.ts";
import { createEmbeddedChannelStore } from "./channels.ts";
import { startCheckpointer } from "./checkpointer.ts";
import { inMemoryPath, openDatabase } from "./database.ts";
import { createDemandStore } from "./demand.ts";
import { createEventLog } from "./events.ts";
import { createDirectCommit, createGroupCommit } from "./group-commit.ts";
import { createLeaderLock } from "./leader.ts";
import { createLeaseStore } from "./leases.ts";
import { createLedger } from "./ledger.ts";
import { createOutcomeStore } from "./outcomes.ts";
import { createWorkerDirectory } from "./workers.ts";

export interface EmbeddedStateOptions {
  /** The file, made with its folder where they are not there; ":memory:" for one that ends with the process. */
  readonly path: string;
  readonly log: Log;
}

export async function openEmbeddedState(options: EmbeddedStateOptions): Promise<State> {
  const inMemory = options.path === inMemoryPath;
  const path = inMemory ? options.path : resolve(options.path);
  await using opening = new AsyncDisposableStack();
  const database = opening.use(openDatabase(path));
  if (!inMemory) {
    const onError = (error: unknown) => options.log.error({ err: error, path }, "a checkpoint of the store failed");
    const onLongLog = () => {
      try {
        database.restartLog();
      } catch (error) {
        onError(error);
      }
    };
    const checkpointer = startCheckpointer({ path, onLongLog, onError });
    opening.defer(() => checkpointer.stop());
  }
  const onPollError = (error: unknown) =>
    options.log.warn({ err: error, path }, "the store did not say whether it changed");
  const hub = opening.use(createChangeHub(database, onPollError));
  const commits = opening.use(inMemory ? createDirectCommit(database) : createGroupCommit(database));
  const accountChanges = hub.subject();
  const breakerChanges = hub.subject();
  const resources = opening.move();
  return {
    workers: createWorkerDirectory(database, commits, hub.subject()),
    accounts: createAccountStore(database, accountChanges),
    leases: createLeaseStore(database, commits, accountChanges, breakerChanges),
    breakers: createBreakerStore(database, breakerChanges),
    access: createAccessStore(database, hub.subject()),
    ledger: createLedger(database, commits, hub.subject()),
    outcomes: createOutcomeStore(database, commits, hub.subject()),
    events: createEventLog(database, hub.subject()),
    leader: createLeaderLock(database, hub.subject()),
    demand: createDemandStore(database, hub.subject()),
    channels: createEmbeddedChannelStore(database, hub.subject()),
    ping: async () => void database.get("SELECT 1"),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

// The embedded store: the state interface on one SQLite database, put together.
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
import { createIdentity } from "./identity.ts";
import { createLeaderLock } from "./leader.ts";
import { createLeaseStore } from "./leases.ts";
import { createLedger } from "./ledger.ts";
import { createOutcomeStore } from "./outcomes.ts";
import type { Problem } from "./thread/messages.ts";
import { createWorkerDirectory } from "./workers.ts";

export interface StoreOptions {
  /** The file, made with its folder where they are not there; ":memory:" for one that ends with its owner. */
  readonly path: string;
  /** Told what went wrong beside any operation. */
  readonly onProblem: (problem: Problem) => void;
}

/** Opens the store where it is called: its operations stop this thread while they run. */
export async function openStore({ path, onProblem }: StoreOptions): Promise<State> {
  await using opening = new AsyncDisposableStack();
  const database = opening.use(openDatabase(path));
  if (path !== inMemoryPath) {
    const onError = (error: unknown) => onProblem({ level: "error", text: "a checkpoint of the store failed", error });
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
    onProblem({ level: "warn", text: "the store did not say whether it changed", error });
  const hub = opening.use(createChangeHub(database, onPollError));
  const commits = opening.use(path === inMemoryPath ? createDirectCommit(database) : createGroupCommit(database));
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
    identify: createIdentity(database),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

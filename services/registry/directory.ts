// Workers come, beat and leave. All of it is in the state store, so any replica of the registry may take any call.
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";

export interface Directory {
  register(worker: Worker): Promise<void>;
  /** Renews the worker's lease and those of its running attempts; the ids of the outcomes that are recorded now. NOT_FOUND. */
  heartbeat(worker: Worker, runningAttemptIds: readonly string[], outcomes: readonly Outcome[]): Promise<string[]>;
  deregister(workerId: string, incarnation: string, outcomes: readonly Outcome[]): Promise<void>;
  list(query: ListQuery): Promise<WorkerPage>;
}

export interface ListQuery {
  /** Only workers that serve this model; empty: all. */
  readonly model: string;
  readonly pageSize: number;
  /** From the page before; empty: from the beginning. */
  readonly pageToken: string;
}

export interface WorkerPage {
  readonly workers: Worker[];
  readonly nextPageToken: string;
  readonly revision: number;
}

export interface DirectoryDependencies {
  readonly state: Pick<State, "workers" | "leases" | "outcomes">;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: RegistrySettings;
}

export function createDirectory({ state, clock, log, settings }: DirectoryDependencies): Directory {
  /** Record first: the sweeps settle from what is recorded, should this process end in between. */
  const settle = async (outcome: Outcome): Promise<void> => {
    await state.outcomes.record(outcome, settings.outcome_ttl, clock.now());
    await state.leases.settle(outcome, clock.now());
  };

  /** One outcome that the store refuses does not hold up the others: it stays unacknowledged, and comes again with the next beat. */
  const settleAll = async (outcomes: readonly Outcome[]): Promise<string[]> => {
    const results = await Promise.allSettled(outcomes.map(settle));
    const acknowledged: string[] = [];
    for (const [index, result] of results.entries()) {
      const attempt_id = outcomes[index]?.attemptId ?? "";
      if (result.status === "fulfilled") acknowledged.push(attempt_id);
      else
        log.warn(
          { err: result.reason as unknown, attempt_id },
          "an outcome was not recorded; the worker sends it again",
        );
    }
    return acknowledged;
  };

  /** A beat names attempts without their accounts; renewing skips those that are not an account's own. */
  const renewLeases = async (worker: Worker, attemptIds: readonly string[]): Promise<void> => {
    if (attemptIds.length === 0) return;
    const expiresAt = clock.now() + settings.prompt_lease_ttl;
    await Promise.all(worker.pools.map((pool) => state.leases.renew(pool.accountId, attemptIds, expiresAt)));
  };

  return {
    async register(worker) {
      await state.workers.put(worker, settings.lease_ttl, clock.now());
      log.info({ worker_id: worker.id, incarnation: worker.incarnation, address: worker.address }, "worker registered");
    },

    async heartbeat(worker, runningAttemptIds, outcomes) {
      if (!(await state.workers.beat(worker, settings.lease_ttl, clock.now()))) {
        throw new DrawbridgeError("NOT_FOUND", `Worker ${worker.id} has no lease (any more): register again.`);
      }
      const [acknowledged] = await Promise.all([settleAll(outcomes), renewLeases(worker, runningAttemptIds)]);
      return acknowledged;
    },

    async deregister(workerId, incarnation, outcomes) {
      const acknowledged = await settleAll(outcomes);
      if (acknowledged.length < outcomes.length) {
        throw new DrawbridgeError("STATE_UNAVAILABLE", "Not every outcome could be recorded: deregister again.");
      }
      if (await state.workers.remove(workerId, incarnation, clock.now())) {
        log.info({ worker_id: workerId, incarnation }, "worker deregistered");
      }
    },

    async list({ model, pageSize, pageToken }) {
      const { workers, revision } = await state.workers.list(clock.now());
      // The token of a page is its last id: a worker that comes or goes in between shifts nothing.
      const rest = workers.filter((worker) => worker.id > pageToken && (model === "" || serves(worker, model)));
      const page = rest.slice(0, pageSize);
      return { workers: page, nextPageToken: rest.length > pageSize ? (page.at(-1)?.id ?? "") : "", revision };
    },
  };
}

function serves(worker: Worker, model: string): boolean {
  return worker.pools.some((pool) => pool.models.includes(model));
}

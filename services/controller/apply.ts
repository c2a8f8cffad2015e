// Carries steps of a plan out: through the driver, the worker and the registry. Every step may be repeated.
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import { type Account, type AgentSpec, type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import type { WorkerDriver } from "./drivers/driver.ts";
import type { Events } from "./events.ts";
import type { FleetMemory } from "./fleet-memory.ts";
import type { HealthChecks } from "./health.ts";
import type { Step } from "./plan.ts";
import type { Retries } from "./retries.ts";
import type { WorkerView } from "./worker-view.ts";

export interface ApplyOptions {
  readonly driver: WorkerDriver;
  readonly registry: Client<typeof RegistryService>;
  readonly worker: (address: string) => Client<typeof WorkerService>;
  readonly health: HealthChecks;
  readonly agents: readonly AgentSpec[];
  readonly view: WorkerView;
  readonly memory: FleetMemory;
  readonly retries: Retries;
  readonly events: Events;
  readonly clock: Clock;
  /** Time for prompts in flight of a worker that is drained, in ms. */
  readonly drainGraceMs: number;
}

/** In whose name the steps are carried out. */
export interface Mandate {
  readonly epoch: number;
  readonly signal: AbortSignal;
}

/** Carries the steps of one account out, in order. A step that fails does not stop the next. Whether all succeeded. */
export type Apply = (steps: readonly Step[], account: Account | undefined, mandate: Mandate) => Promise<boolean>;

/** A call to a worker or the registry that takes longer has failed. */
const callTimeoutMs = 5_000;

export function createApply(options: ApplyOptions): Apply {
  const { driver, memory, retries, events, clock } = options;

  async function createWorker(step: Step, account: Account | undefined, { epoch, signal }: Mandate): Promise<void> {
    if (!account) throw new DrawbridgeError("NOT_FOUND", `Account ${step.accountId} is gone.`);
    // Whoever ran under this name before is over, even if nobody told of its end: its silence is not its successor's.
    options.health.forget(step.workerId);
    await driver.create(workerSpec(step.workerId, account, options.agents, epoch), epoch, signal);
    events.record("WorkerCreated", step.reason, step);
  }

  async function drainWorker(step: Step, { epoch, signal }: Mandate): Promise<void> {
    const address = options.view.get(step.workerId)?.address ?? options.health.address(step.workerId);
    if (address === undefined) throw new DrawbridgeError("NOT_FOUND", `Worker ${step.workerId} has no known address.`);
    const grace = durationFromMs(options.drainGraceMs);
    await options.worker(address).drain({ grace, epoch: BigInt(epoch) }, { timeoutMs: callTimeoutMs, signal });
    memory.drains(step.workerId, clock.now());
    events.record("WorkerDraining", step.reason, step);
  }

  async function destroyWorker(step: Step, { epoch, signal }: Mandate, standing: Set<string>): Promise<void> {
    const process = (await driver.list()).find(({ workerId }) => workerId === step.workerId);
    if (process && step.failed) retries.failed(step.accountId, clock.now() - process.startedAt, step.reason);
    standing.add(step.workerId);
    await driver.destroy(step.workerId, epoch);
    standing.delete(step.workerId);
    const registered = options.view.get(step.workerId);
    if (registered) {
      const { id: workerId, incarnation } = registered;
      await options.registry.deregister({ workerId, incarnation }, { timeoutMs: callTimeoutMs, signal });
    }
    options.health.forget(step.workerId);
    events.record("WorkerDestroyed", step.reason, step);
  }

  return async (steps, account, mandate) => {
    let succeeded = true;
    /** Workers that could not be ended: nothing can start under their names, and what is known of them stays known. */
    const standing = new Set<string>();
    for (const step of steps) {
      if (mandate.signal.aborted) return false;
      if (step.type === ActionType.CREATE && standing.has(step.workerId)) continue;
      try {
        if (step.type === ActionType.CREATE) await createWorker(step, account, mandate);
        else if (step.type === ActionType.DRAIN) await drainWorker(step, mandate);
        else await destroyWorker(step, mandate, standing);
      } catch (error) {
        if (mandate.signal.aborted) return false;
        succeeded = false;
        const { message } = asDrawbridgeError(error);
        if (step.type === ActionType.CREATE) retries.failed(step.accountId, 0, message);
        events.record("ActionFailed", message, step);
      }
    }
    return succeeded;
  };
}

/** A worker gets only the profiles that it runs. */
function workerSpec(
  workerId: string,
  { spec, generation }: Account,
  agents: readonly AgentSpec[],
  epoch: number,
): WorkerSpec {
  return create(WorkerSpecSchema, {
    workerId,
    accounts: spec ? [spec] : [],
    agents: agents.filter(({ name }) => name === spec?.agent),
    generations: spec ? { [spec.id]: generation } : {},
    epoch: BigInt(epoch),
  });
}

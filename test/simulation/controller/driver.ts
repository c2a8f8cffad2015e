// The driver and the workers as one controller reaches them: slow, failing, and fenced.
import type { Client } from "@connectrpc/connect";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { WorkerDriver } from "../../../services/controller/drivers/driver.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import type { Actor, ActionFence } from "./fence.ts";
import type { Judge } from "./judge.ts";
import { recordOf, type SimulatedWorkers } from "./workers.ts";

export interface Reach {
  readonly actor: Actor;
  readonly workers: SimulatedWorkers;
  readonly fence: ActionFence;
  readonly judge: Judge;
}

export function simulatedDriver({ actor, workers, fence, judge }: Reach): WorkerDriver {
  const { process } = actor;
  return {
    claim: (epoch) =>
      process.call(async () => {
        fence.pass("claim", epoch, actor);
        await workers.mayFail();
      }),
    create: (spec, epoch) =>
      process.call(async () => {
        fence.pass(`create ${spec.workerId}`, epoch, actor);
        if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "No room.");
        if (!workers.live.has(spec.workerId)) workers.start(spec);
        await workers.mayFail();
      }),
    destroy: (workerId, epoch) =>
      process.call(async () => {
        fence.pass(`destroy ${workerId}`, epoch, actor);
        if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "Not now.");
        judge.justify("destroyed", workerId);
        workers.end(workerId, true);
        await workers.mayFail();
      }),
    list: () =>
      process.call(async () => {
        await workers.mayFail();
        return [...workers.live].map(([workerId, { spec, pid, startedAt }]) => ({ workerId, spec, pid, startedAt }));
      }),
    onExit: (listener) => {
      const hear: typeof listener = (exit) => void process.call(async () => listener(exit));
      workers.exitListeners.add(hear);
      return { [Symbol.dispose]: () => void workers.exitListeners.delete(hear) };
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The worker at an address, if there is one that answers. */
export function simulatedWorker(
  address: string,
  { actor, workers, fence, judge }: Reach,
): Client<typeof WorkerService> {
  const { process } = actor;
  const calls = {
    getHealth: () => process.call(async () => ({ worker: recordOf(workers.answering(address)) })),
    drain: ({ epoch }: { epoch: bigint }) =>
      process.call(async () => {
        const worker = workers.answering(address);
        fence.pass(`drain ${worker.spec.workerId}`, Number(epoch), actor);
        judge.justify("drained", worker.spec.workerId);
        workers.drain(worker);
        return {};
      }),
  };
  return calls as unknown as Client<typeof WorkerService>;
}

// The registry as one controller hears it: a watch that breaks, and calls that fail.
import type { Client } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import type { SimulatedProcess } from "./process.ts";
import type { RegistryChange, SimulatedWorkers } from "./workers.ts";

export function simulatedRegistry(
  process: SimulatedProcess,
  workers: SimulatedWorkers,
): Client<typeof RegistryService> {
  async function* watch(signal: AbortSignal) {
    const queue: RegistryChange[] = [];
    let wake = () => {};
    const hear = (change: RegistryChange) => {
      queue.push(change);
      wake();
    };
    workers.watchers.add(hear);
    signal.addEventListener("abort", () => wake(), { once: true });
    try {
      const snapshot = [...workers.records.values()].map(({ worker }) => worker);
      yield { element: { case: "snapshot", value: { workers: snapshot } } };
      for (;;) {
        if (queue.length === 0 && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
        await process.call(async () => {});
        if (signal.aborted) return;
        // A watcher that was taken out has a broken stream.
        if (!workers.watchers.has(hear)) throw new DrawbridgeError("STATE_UNAVAILABLE", "The stream broke.");
        for (const { put, removed } of queue.splice(0)) {
          if (put) yield { element: { case: "put", value: put } };
          if (removed !== undefined) yield { element: { case: "removedWorkerId", value: removed } };
        }
      }
    } finally {
      workers.watchers.delete(hear);
    }
  }
  const calls = {
    watchWorkers: (_: object, { signal }: { signal: AbortSignal }) => watch(signal),
    deregister: ({ workerId, incarnation }: { workerId: string; incarnation: string }) =>
      process.call(async () => {
        if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("STATE_UNAVAILABLE", "Not now.");
        workers.deregister(workerId, incarnation);
        return {};
      }),
  };
  return calls as unknown as Client<typeof RegistryService>;
}

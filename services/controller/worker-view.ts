// The controller's view of live workers, kept by the registry's watch. When the watch breaks, the last view stays: workers that cannot be
// seen are not dead.
import type { Client } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import { backoffMs, type Random } from "../kit/random.ts";

export interface WorkerViewOptions {
  readonly registry: Client<typeof RegistryService>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface WorkerView extends AsyncDisposable {
  start(): void;
  /** Whether the registry has told anything yet. */
  readonly known: boolean;
  /** By id. */
  list(): Worker[];
  get(workerId: string): Worker | undefined;
  /** When a worker of the account was last seen with a prompt, in ms; undefined: not yet. */
  usedAt(accountId: string): number | undefined;
  /** Since when the registry has been heard without a break, in ms; undefined: it is not heard now. */
  readonly heardSince: number | undefined;
  /** Told when workers came, went, or changed in a way that a plan depends on; slots and queues change all the time and do not count. */
  onChange(listener: () => void): Disposable;
}

const retryBaseMs = 200;
const retryMaxMs = 5_000;

export function createWorkerView({ registry, clock, random, log }: WorkerViewOptions): WorkerView {
  const ending = new AbortController();
  const listeners = new Set<() => void>();
  let workers = new Map<string, Worker>();
  const used = new Map<string, number>();
  let known = false;
  let heardSince: number | undefined;
  let loop: Promise<void> = Promise.resolve();

  const changed = () => {
    for (const listener of listeners) listener();
  };

  function noteUse({ pools }: Worker): void {
    for (const { accountId, slots, availableSlots, queueDepth } of pools) {
      if (availableSlots < slots || queueDepth > 0) used.set(accountId, clock.now());
    }
  }

  function put(worker: Worker): void {
    noteUse(worker);
    const before = workers.get(worker.id);
    workers.set(worker.id, worker);
    if (!before || planKey(before) !== planKey(worker)) changed();
  }

  async function watch(): Promise<void> {
    for await (const { element } of registry.watchWorkers({}, { signal: ending.signal })) {
      if (element.case === "snapshot") {
        workers = new Map(element.value.workers.map((worker) => [worker.id, worker]));
        for (const worker of workers.values()) noteUse(worker);
        known = true;
        heardSince = clock.now();
        changed();
      } else if (element.case === "put") put(element.value);
      else if (element.case === "removedWorkerId" && workers.delete(element.value)) changed();
    }
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!ending.signal.aborted) {
      const begunAt = clock.monotonic();
      try {
        await watch();
      } catch (error) {
        if (ending.signal.aborted) return;
        log.warn({ err: error }, "the registry's watch broke; watching again");
      }
      heardSince = undefined;
      failures = clock.monotonic() - begunAt > retryMaxMs ? 1 : failures + 1;
      await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, random), ending.signal).catch(() => {
        // Only the end interrupts it, and the loop looks for that.
      });
    }
  }

  return {
    start: () => void (loop = run()),
    get known() {
      return known;
    },
    list: () => [...workers.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    get: (workerId) => workers.get(workerId),
    usedAt: (accountId) => used.get(accountId),
    get heardSince() {
      return heardSince;
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await loop;
    },
  };
}

function planKey({ incarnation, address, health, healthReason, pools }: Worker): string {
  const parts = pools.map((pool) => [pool.accountId, pool.generation, pool.health, pool.healthReason, pool.slots]);
  return [incarnation, address, health, healthReason, ...parts.flat()].join("\n");
}

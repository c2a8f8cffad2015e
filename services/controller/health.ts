// Health checks: asks every worker how it is, and remembers what the plan needs to know of the answers.
import type { Client } from "@connectrpc/connect";
import { Health, type Worker } from "#gen/drawbridge/v1/worker";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError } from "../kit/errors.ts";
import type { HealthRecord } from "./observe.ts";

export interface HealthChecksOptions {
  readonly worker: (address: string) => Client<typeof WorkerService>;
  readonly clock: Clock;
  /** Time for one answer, in ms. */
  readonly timeoutMs: number;
}

export interface HealthChecks {
  /**
   * Asks all of `workers`, and those of `running` (ids) that were registered before and are not now. Others are forgotten. Whether what is
   * known of any of them became better or worse.
   */
  round(workers: readonly Worker[], running: readonly string[], signal: AbortSignal): Promise<boolean>;
  readonly records: ReadonlyMap<string, HealthRecord>;
  /** Where the worker was last registered. */
  address(workerId: string): string | undefined;
  /** The worker has ended: what is known of it says nothing about its successor. */
  forget(workerId: string): void;
  /** Others may have replaced any of them meanwhile: what was known says nothing any more. */
  forgetAll(): void;
}

/** Questions at the same time. */
const concurrency = 32;

export function createHealthChecks(options: HealthChecksOptions): HealthChecks {
  const records = new Map<string, HealthRecord>();
  const seen = new Map<string, Worker>();

  async function check(target: Worker, signal: AbortSignal): Promise<boolean> {
    const before = records.get(target.id);
    const known = before?.incarnation === target.incarnation ? before : undefined;
    const answer = await ask(target, signal);
    signal.throwIfAborted();
    if (seen.get(target.id) !== target) return false;
    const record = judge(target, answer, known, options.clock.now());
    records.set(target.id, record);
    return (
      known?.unanswered !== record.unanswered ||
      (known.unhealthySince === undefined) !== (record.unhealthySince === undefined)
    );
  }

  async function ask({ id, address }: Worker, signal: AbortSignal): Promise<Answer> {
    try {
      const call = { timeoutMs: options.timeoutMs, signal };
      const { worker } = await options.worker(address).getHealth({}, call);
      if (worker?.id === id) return { worker };
      return { failure: `another worker (${worker?.id ?? "unnamed"}) answers at ${address}` };
    } catch (error) {
      return { failure: asDrawbridgeError(error, "WORKER_UNREACHABLE").message };
    }
  }

  return {
    async round(workers, running, signal) {
      const targets = new Map(workers.map((worker) => [worker.id, worker]));
      for (const id of running) {
        const last = seen.get(id);
        if (last && !targets.has(id)) targets.set(id, last);
      }
      for (const id of seen.keys()) {
        if (targets.has(id)) continue;
        seen.delete(id);
        records.delete(id);
      }
      for (const target of targets.values()) seen.set(target.id, target);
      const queue = [...targets.values()];
      let changed = false;
      const ask = async () => {
        for (let next = queue.pop(); next; next = queue.pop()) changed = (await check(next, signal)) || changed;
      };
      await Promise.all(Array.from({ length: Math.min(concurrency, queue.length) }, ask));
      return changed;
    },
    records,
    address: (workerId) => seen.get(workerId)?.address,
    forget(workerId) {
      seen.delete(workerId);
      records.delete(workerId);
    },
    forgetAll() {
      seen.clear();
      records.clear();
    },
  };
}

type Answer = { readonly worker: Worker } | { readonly failure: string };

function judge(target: Worker, answer: Answer, known: HealthRecord | undefined, now: number): HealthRecord {
  const { incarnation } = target;
  if ("failure" in answer) {
    return {
      incarnation,
      unanswered: (known?.unanswered ?? 0) + 1,
      silentSince: known?.silentSince ?? now,
      proven: known?.proven ?? false,
      unhealthySince: known?.unhealthySince,
      reason: answer.failure,
    };
  }
  const unhealthy = answer.worker.health === Health.UNHEALTHY;
  return {
    incarnation,
    unanswered: 0,
    silentSince: undefined,
    proven: true,
    unhealthySince: unhealthy ? (known?.unhealthySince ?? now) : undefined,
    reason: answer.worker.healthReason,
  };
}

// WorkerService: translates between the contract and the worker's parts.
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { PoolStatus, Worker } from "#gen/drawbridge/v1/worker";
import {
  type DrainRequest,
  type PromptRequest,
  type PromptResponse,
  PromptResponseSchema,
  type WorkerService,
} from "#gen/drawbridge/v1/worker_service";
import { asDrawbridgeError } from "../kit/errors.ts";
import type { Fence } from "../kit/fence.ts";
import type { Attempts } from "./turn/attempts.ts";

export interface WorkerParts {
  readonly attempts: Attempts;
  readonly describe: () => Worker;
  readonly pools: () => PoolStatus[];
  readonly drain: (graceMs?: number) => Promise<void>;
  /** Refuses leaders that have been replaced. */
  readonly fence: Fence;
  /** A controller has asked how the worker is. */
  readonly asked: () => void;
}

/** Begins a drain; how many prompts run or wait. NOT_LEADER. */
export function beginDrain({ fence, attempts, drain }: WorkerParts, { grace, epoch }: DrainRequest): number {
  if (epoch > 0n) fence(Number(epoch));
  const inFlight = attempts.running.length;
  void drain(grace ? durationMs(grace) : undefined);
  return inFlight;
}

export function createWorkerService(parts: WorkerParts): ServiceImpl<typeof WorkerService> {
  return {
    prompt: (request, context) => streamPrompt(parts.attempts, request, context.signal, context.timeoutMs()),
    cancelPrompt: ({ attemptId }) => ({ found: parts.attempts.cancel(attemptId) }),
    getHealth() {
      parts.asked();
      return { worker: parts.describe() };
    },
    listSlots: () => ({ pools: parts.pools() }),
    drain: (request) => ({ inFlight: beginDrain(parts, request) }),
  };
}

/** The attempt's batches. Whoever stops reading, or aborts `signal`, cancels it. */
export async function* streamPrompt(
  attempts: Attempts,
  request: PromptRequest,
  signal: AbortSignal,
  timeoutMs: number | undefined,
): AsyncGenerator<PromptResponse, void, undefined> {
  const attempt = attempts.begin(request, timeoutMs);
  const onAbort = () => attempt.stop(isDeadline(signal.reason) ? "deadline" : "caller_left");
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    for (;;) {
      const events = await attempt.take();
      if (!events) return;
      yield create(PromptResponseSchema, { events, outputTokens: BigInt(attempt.outputTokens) });
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    attempt.stop("caller_left");
  }
}

function isDeadline(reason: unknown): boolean {
  return asDrawbridgeError(reason, "CANCELLED").reason === "DEADLINE_EXCEEDED";
}

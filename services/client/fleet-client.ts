// The typed fleet client: acquire a lease, stream straight from the worker, retry before content, report. The gateway, Dispatch and internal
// tools share it.
import type { Client } from "@connectrpc/connect";
import type { Prompt } from "#gen/drawbridge/v1/prompt";
import type { Priority, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { PromptResponse, WorkerService } from "#gen/drawbridge/v1/worker_service";

export type SchedulerCalls = Pick<Client<typeof SchedulerService>, "acquire" | "report" | "release">;
export type WorkerCalls = Pick<Client<typeof WorkerService>, "prompt" | "cancelPrompt">;

export interface RunRequest {
  readonly requestId: string;
  readonly prompt: Prompt;
  /** Who asks, for fair shares among those who wait for a slot. Default: nobody in particular. */
  readonly userId?: string;
  /** The class in which it waits. Default: normal. */
  readonly priority?: Priority;
  /** Time for the whole answer, retries included. */
  readonly timeoutMs: number;
  /** Aborted when whoever asked has left: the agent's turn is cancelled, and the run still ends with its `finished` event. */
  readonly signal: AbortSignal;
}

export interface FleetClient extends AsyncDisposable {
  /**
   * Runs a prompt. Yields the worker's batches; the last event is `finished`, with the outcome, also after `signal` was aborted. Before the
   * first content event a failed attempt moves on to another account; its batches (a `started` event) are not yielded. A failure throws a
   * DrawbridgeError; if a worker had taken the prompt, `outcomeOf(error)` tells what became of it. Every lease is reported, however it ends.
   */
  run(request: RunRequest): AsyncGenerator<PromptResponse, void, undefined>;
  /** Tells the scheduler how an attempt of an earlier process ended. Never throws: it is told again until it is taken. */
  report(outcome: Outcome): Promise<void>;
}

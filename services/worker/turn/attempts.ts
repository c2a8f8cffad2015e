// The prompts of this worker: which are admitted, which run, and the end of all of them.
import type { PromptRequest } from "#gen/drawbridge/v1/worker_service";
import { continuedConversation, newMessages } from "../../kit/conversation-key.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Lane } from "../conversations/lane.ts";
import { resultsFor, type ToolRules, toolRules } from "../tools/tool-rules.ts";
import { type Attempt, type AttemptContext, type Entrance, startAttempt } from "./attempt.ts";
import type { StopCause } from "./outcome.ts";

export interface AttemptsOptions extends AttemptContext {
  readonly incarnation: string;
  /** By account. */
  readonly lanes: ReadonlyMap<string, Lane>;
  /** Told when an attempt began or ended. */
  readonly onChange: () => void;
}

export interface Attempts {
  /**
   * Admits a prompt. `timeoutMs`: what the call allows. Refusals throw: NOT_FOUND, MODEL_NOT_FOUND, LEASE_INVALID, ALREADY_EXISTS, DRAINING,
   * QUEUE_FULL, INVALID_ARGUMENT, UNSUPPORTED_CONTENT, or why the pool has no process.
   */
  begin(request: PromptRequest, timeoutMs: number | undefined): Attempt;
  /** false: no such attempt runs or waits. */
  cancel(attemptId: string): boolean;
  /** Ids of those that run or wait. */
  readonly running: readonly string[];
  /** Refuses new ones, so that nobody comes for what waits for the client. */
  drain(): void;
  /** Resolves when none is left. */
  settled(): Promise<void>;
  stopAll(cause: StopCause): void;
}

export function createAttempts(options: AttemptsOptions): Attempts {
  const attempts = new Map<string, { readonly attempt: Attempt; readonly over: Promise<void> }>();
  const dropping = new Set<Promise<void>>();
  let draining = false;

  function admit(request: PromptRequest): { lane: Lane; model: string } {
    if (request.workerIncarnation !== "" && request.workerIncarnation !== options.incarnation) {
      throw new DrawbridgeError("LEASE_INVALID", "The lease is for an earlier start of this worker. Acquire another.");
    }
    const lane = options.lanes.get(request.accountId);
    if (!lane) throw new DrawbridgeError("NOT_FOUND", `This worker does not serve account ${request.accountId}.`);
    const { models } = lane.pool.account;
    const name = request.prompt?.model ?? "";
    const model = Object.hasOwn(models, name) ? models[name] : undefined;
    if (model === undefined)
      throw new DrawbridgeError("MODEL_NOT_FOUND", `Account ${request.accountId} does not serve ${name}.`);
    if (draining) throw new DrawbridgeError("DRAINING", "This worker drains. Use another.");
    if (attempts.has(request.attemptId))
      throw new DrawbridgeError("ALREADY_EXISTS", `Attempt ${request.attemptId} runs already.`);
    return { lane, model };
  }

  return {
    begin(request, timeoutMs) {
      const { lane, model } = admit(request);
      const rules = rulesFor(request, lane);
      const totalMs = Math.min(options.config.total_timeout, timeoutMs ?? Infinity);
      const conversation = request.prompt ? continuedConversation(request.prompt) : "";
      const entrance = enter(lane, model, request, conversation);
      const { attempt, over } = startAttempt({
        ...options,
        request,
        lane,
        model,
        rules,
        conversation,
        entrance,
        totalMs,
        keeps: () => !draining,
      });
      const tracked = over.finally(() => {
        attempts.delete(request.attemptId);
        options.onChange();
      });
      attempts.set(request.attemptId, { attempt, over: tracked });
      options.onChange();
      return attempt;
    },
    cancel(attemptId) {
      const found = attempts.get(attemptId);
      found?.attempt.stop("cancelled");
      return found !== undefined;
    },
    get running() {
      return [...attempts.keys()];
    },
    drain() {
      draining = true;
      for (const { parked, held } of options.lanes.values()) dropping.add(parked.drop()).add(held.drop());
    },
    async settled() {
      while (attempts.size > 0) await Promise.all([...attempts.values()].map(({ over }) => over));
      await Promise.all(dropping);
    },
    stopAll(cause) {
      for (const { attempt } of attempts.values()) attempt.stop(cause);
    },
  };
}

function rulesFor({ prompt, accountId }: PromptRequest, lane: Lane): ToolRules {
  if (!prompt) throw new DrawbridgeError("INVALID_ARGUMENT", "A request has a prompt.");
  const rules = toolRules(prompt);
  if (rules.tools.length > 0 && lane.toolRefusal !== undefined) {
    throw new DrawbridgeError("UNSUPPORTED_CONTENT", `tools: account ${accountId} takes none: ${lane.toolRefusal}.`);
  }
  return rules;
}

/** The turn that waits for this request's results goes on; every other prompt waits for a process. */
function enter({ parked, held, pool }: Lane, model: string, request: PromptRequest, conversation: string): Entrance {
  const waiting = parked.take(conversation);
  if (waiting) {
    const results = resultsFor(waiting.calls, newMessages(request.prompt?.messages ?? []));
    if (results) return { kind: "resumed", parked: waiting, results };
    parked.end(waiting, "The client said something else than the results.");
  }
  return { kind: "queued", ticket: pool.enter(model, held.holder(conversation)) };
}

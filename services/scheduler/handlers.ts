// SchedulerService: wire to the scheduler's parts and back.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type DispatchRequest,
  type DispatchResponse,
  DispatchResponseSchema,
  type SchedulerService,
} from "#gen/drawbridge/v1/scheduler_service";
import type { FleetClient } from "../client/fleet-client.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import { newId } from "../kit/random.ts";
import { acquire, type AcquireOptions } from "./acquire.ts";
import { explain, explainPast } from "./explain/explain.ts";
import { release, report, type SettleOptions } from "./settle.ts";

export interface HandlerOptions extends AcquireOptions, SettleOptions {
  /** The fleet client for Dispatch; it calls this very scheduler. */
  readonly fleet: () => FleetClient;
}

export function createHandlers(options: HandlerOptions): ServiceImpl<typeof SchedulerService> {
  const { view, clock, config } = options;
  return {
    acquire: async (request, context) => ({
      lease: await acquire(options, { request, signal: context.signal, timeoutMs: context.timeoutMs() }),
    }),

    async report({ outcome }) {
      if (!outcome) throw new DrawbridgeError("INVALID_ARGUMENT", "outcome: a value is required.");
      return { settled: await report(options, outcome) };
    },

    release: async ({ attemptId }) => ({ released: await release(options, attemptId) }),

    dispatch: (request, context) =>
      dispatch(options.fleet(), request, context.signal, context.timeoutMs() ?? config.dispatch_timeout),

    explain(request) {
      if (request.requestId === "") return { candidates: explain(view, request, clock.now()) };
      const decisions = explainPast(options.decisions.of(request.requestId), request.requestId);
      return { candidates: decisions.at(-1)?.candidates ?? [], decisions };
    },

    listModels: () => ({
      models: view.models().map((model) => ({ ...model, createdAt: timestampFromMs(model.createdAt) })),
    }),
  };
}

async function* dispatch(
  fleet: FleetClient,
  request: DispatchRequest,
  signal: AbortSignal,
  timeoutMs: number,
): AsyncGenerator<DispatchResponse, void, undefined> {
  const { prompt } = request;
  if (!prompt) throw new DrawbridgeError("INVALID_ARGUMENT", "prompt: a value is required.");
  const requestId = request.requestId || newId("req");
  const { userId, priority } = request;
  const run = { requestId, prompt, signal, timeoutMs, userId, priority };
  for await (const { events, outputTokens } of fleet.run(run)) {
    yield create(DispatchResponseSchema, { events, outputTokens });
  }
}

// A request on its way through the pipeline, and the one way out of its admission.
import type { FastifyReply } from "fastify";
import type { Finished } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import type { FleetClient } from "../../client/fleet-client.ts";
import { outcomeOf } from "../../client/outcome.ts";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Admission, Admissions } from "../access/admit.ts";
import type { Caller } from "../access/authenticate.ts";
import type { GatewaySettings } from "../config.ts";
import type { ClientWatch } from "../http/client-watch.ts";
import type { Exchange } from "../http/exchange.ts";
import { commonHeaders } from "../http/headers.ts";
import { engineFailure } from "../openai/errors.ts";
import type { AnswerCache, Idempotency } from "../openai/idempotency.ts";
import type { Models } from "../openai/models.ts";
import { ParameterError } from "../openai/parse.ts";
import type { Asked } from "./endpoint.ts";

export interface PipelineOptions {
  readonly models: Models;
  readonly admissions: Admissions;
  readonly fleet: FleetClient;
  readonly answers: AnswerCache;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: GatewaySettings;
}

/** A checked request, and what its parts share. */
export interface Job {
  readonly asked: Asked;
  readonly caller: Caller;
  readonly exchange: Exchange;
  readonly reply: FastifyReply;
  readonly idempotency: Idempotency | undefined;
  readonly timeoutMs: number;
}

/** A job that was let in. */
export interface AdmittedJob extends Job {
  readonly admission: Admission;
  readonly client: ClientWatch;
}

/**
 * Runs the prompt, and settles it once, however it ends: this is the only way out of an admission. `take` reads the batches to their end, and
 * what it gives is given on when the ledger knows.
 */
export async function settled<T extends { readonly finished: Finished }>(
  { fleet }: PipelineOptions,
  { asked, caller: { userId }, exchange, timeoutMs, admission, client }: AdmittedJob,
  take: (batches: AsyncIterable<PromptResponse>) => Promise<T>,
): Promise<T> {
  const { requestId } = exchange;
  const { priority } = admission;
  const { prompt } = asked;
  try {
    const taken = await take(fleet.run({ requestId, prompt, userId, priority, timeoutMs, signal: client.signal }));
    exchange.outcome = taken.finished.outcome;
    return taken;
  } catch (error) {
    exchange.outcome = outcomeOf(error);
    throw withField(engineFailure(error), asked);
  } finally {
    if (exchange.outcome || exchange.firstContentAt === undefined) {
      exchange.entry = await admission.settle(exchange.outcome);
    } else admission.abandon();
  }
}

/** What an agent cannot take is told with the name of the client's field. */
function withField(failure: DrawbridgeError, { prompt, inputField }: Asked): DrawbridgeError {
  const { reason, message } = failure;
  if (reason === "CONTEXT_LENGTH_EXCEEDED") return new ParameterError(message, inputField, "context_length_exceeded");
  if (reason !== "UNSUPPORTED_CONTENT") return failure;
  const images = prompt.messages.some(({ parts }) => parts.some(({ part }) => part.case === "image"));
  // With both, nobody but the agent's worker knows which one it was.
  const field = images ? (prompt.tools.length > 0 ? undefined : inputField) : "tools";
  return new ParameterError(message, field, "unsupported_content");
}

export function headersOf({ exchange, asked: { ignored } }: Job, clock: Clock): Record<string, string> {
  return {
    ...commonHeaders(exchange, clock),
    ...(ignored.length > 0 ? { "x-drawbridge-ignored-parameters": ignored.join(", ") } : {}),
  };
}

/** The agent's turn was cancelled by somebody who is not the client: an operator, or a worker that stops. */
export function interrupted(): DrawbridgeError {
  return new DrawbridgeError("CANCELLED", "The answer was interrupted.");
}

/** Nobody is there to read an answer. */
export function hangUp(reply: FastifyReply): undefined {
  reply.hijack();
  reply.raw.destroy();
  return undefined;
}

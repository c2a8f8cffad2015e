// One request and its answer, beside what HTTP says: ids, times, limits, and one line in the log.
import type { FastifyReply, FastifyRequest } from "fastify";
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { newId } from "../../kit/random.ts";
import type { LimitStatus } from "../../state/state.ts";
import type { Caller } from "../access/authenticate.ts";
import { type RequestEnd, requestEnded, requestStarted } from "./telemetry.ts";

export interface Exchange {
  readonly requestId: string;
  /** When it began, by the monotonic clock. */
  readonly startedAt: number;
  caller: Caller | undefined;
  model: string;
  limits: LimitStatus | undefined;
  firstContentAt: number | undefined;
  outcome: Outcome | undefined;
  entry: UsageEntry | undefined;
}

declare module "fastify" {
  interface FastifyRequest {
    exchange: Exchange;
  }
}

export function beginExchange(clock: Clock): Exchange {
  requestStarted.publish(undefined);
  return {
    requestId: newId("req"),
    startedAt: clock.monotonic(),
    caller: undefined,
    model: "",
    limits: undefined,
    firstContentAt: undefined,
    outcome: undefined,
    entry: undefined,
  };
}

/** The headers of every answer. */
export function commonHeaders(exchange: Exchange, clock: Clock): Record<string, string> {
  const { requestId, startedAt, limits } = exchange;
  return {
    "x-request-id": requestId,
    "openai-processing-ms": String(Math.round(clock.monotonic() - startedAt)),
    ...(limits ? limitHeaders(limits) : {}),
  };
}

function limitHeaders({ requests, tokens }: LimitStatus): Record<string, string> {
  return {
    "x-ratelimit-limit-requests": String(requests.limit),
    "x-ratelimit-remaining-requests": String(requests.remaining),
    "x-ratelimit-reset-requests": durationText(requests.resetMs),
    "x-ratelimit-limit-tokens": String(tokens.limit),
    "x-ratelimit-remaining-tokens": String(tokens.remaining),
    "x-ratelimit-reset-tokens": durationText(tokens.resetMs),
  };
}

/** 12ms, 1s, 6m0s: as OpenAI writes them. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m${seconds % 60}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds % 60}s`;
}

/** Tells the log and the metrics. No prompt and no key is in either. */
export function endExchange(request: FastifyRequest, reply: FastifyReply, clock: Clock, log: Log): void {
  const { exchange } = request;
  const { outcome, entry } = exchange;
  const route = request.routeOptions.url ?? "unknown";
  const usage = entry?.usage ?? outcome?.usage;
  const message: RequestEnd = {
    route,
    status: reply.raw.statusCode,
    model: exchange.model,
    end: outcome ? endName(outcome.end) : "",
    durationMs: clock.monotonic() - exchange.startedAt,
    firstContentMs: exchange.firstContentAt === undefined ? undefined : exchange.firstContentAt - exchange.startedAt,
    inputTokens: Number(usage?.inputTokens ?? 0n),
    outputTokens: Number(usage?.outputTokens ?? 0n),
    costMicros: Number(entry?.costMicros ?? 0n),
  };
  requestEnded.publish(message);
  log.info(
    {
      request_id: exchange.requestId,
      user: exchange.caller?.userId,
      key_id: exchange.caller?.key.id,
      account: outcome?.accountId,
      ...message,
    },
    "request",
  );
}

const endNames = new Map(Object.entries(End).map(([name, value]) => [value as number, name.toLowerCase()]));

export function endName(end: End): string {
  return endNames.get(end) ?? "unspecified";
}

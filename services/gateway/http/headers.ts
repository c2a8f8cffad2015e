// The headers of every answer.
import type { Clock } from "../../kit/clock.ts";
import type { LimitStatus } from "../../state/state.ts";
import type { Exchange } from "./exchange.ts";

export function commonHeaders(exchange: Exchange, clock: Clock): Record<string, string> {
  const { requestId, startedAt, limits, dialect } = exchange;
  return {
    "x-request-id": requestId,
    "openai-processing-ms": String(Math.round(clock.monotonic() - startedAt)),
    ...(limits ? limitHeaders(limits) : {}),
    ...(dialect === "anthropic" ? anthropicHeaders(requestId, limits, clock.now()) : {}),
  };
}

/** The same in Anthropic's names, which have times where OpenAI has durations. */
function anthropicHeaders(requestId: string, limits: LimitStatus | undefined, now: number): Record<string, string> {
  const headers: Record<string, string> = { "request-id": requestId };
  if (!limits) return headers;
  for (const name of ["requests", "tokens"] as const) {
    const { limit, remaining, resetMs } = limits[name];
    headers[`anthropic-ratelimit-${name}-limit`] = String(limit);
    headers[`anthropic-ratelimit-${name}-remaining`] = String(remaining);
    headers[`anthropic-ratelimit-${name}-reset`] = new Date(now + resetMs).toISOString().replace(/\.\d+Z$/, "Z");
  }
  return headers;
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
  if (Math.ceil(ms) < 1_000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m${seconds % 60}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds % 60}s`;
}

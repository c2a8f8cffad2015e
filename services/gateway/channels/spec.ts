// What a channel's specification must be beyond the contract's field rules, and the defaults of what it leaves open.
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { type ChannelKey, type ChannelSpec, ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { DrawbridgeError } from "../../kit/errors.ts";

/** The one channel that is always there: the fleet, as it is where nobody has said otherwise. */
export const fleetId = "fleet";

export const defaultFleetSpec: ChannelSpec = create(ChannelSpecSchema, { id: fleetId, kind: "fleet", weight: 1 });

/** Paths below /v1 that a channel can serve. */
export const channelRoutes = [
  "chat/completions",
  "completions",
  "responses",
  "embeddings",
  "moderations",
  "rerank",
  "images/generations",
  "images/edits",
  "images/variations",
  "audio/speech",
  "audio/transcriptions",
  "audio/translations",
] as const;

export type ChannelRoute = (typeof channelRoutes)[number];

/** Those whose streams are a model's words, piece by piece. */
export const modelStreams: ReadonlySet<ChannelRoute> = new Set(["chat/completions", "completions", "responses"]);

/** Those that take forms with files. */
export const formRoutes: ReadonlySet<ChannelRoute> = new Set([
  "images/edits",
  "images/variations",
  "audio/transcriptions",
  "audio/translations",
]);

export interface ChannelLimits {
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly idleMs: number;
  /** For one try; Infinity: as long as the request may take. */
  readonly totalMs: number;
}

export interface ChannelBreakerPolicy {
  readonly callsMin: number;
  readonly failureRate: number;
  readonly windowMs: number;
  readonly openMs: number;
  readonly openMaxMs: number;
}

export function limitsOf({ timeouts }: ChannelSpec): ChannelLimits {
  return {
    connectMs: msOr(timeouts?.connect, 10_000),
    firstByteMs: msOr(timeouts?.firstByte, 120_000),
    idleMs: msOr(timeouts?.idle, 60_000),
    totalMs: msOr(timeouts?.total, Number.POSITIVE_INFINITY),
  };
}

export function breakerPolicyOf({ breaker }: ChannelSpec): ChannelBreakerPolicy {
  return {
    callsMin: breaker?.callsMin ?? 5,
    failureRate: (breaker?.failurePercent ?? 50) / 100,
    windowMs: msOr(breaker?.window, 30_000),
    openMs: msOr(breaker?.open, 2_000),
    openMaxMs: msOr(breaker?.openMax, 300_000),
  };
}

function msOr(duration: Duration | undefined, otherwise: number): number {
  return duration ? durationMs(duration) : otherwise;
}

/** A key's reference, for people. */
export function keyName({ source }: ChannelKey): string {
  return source.case === "fromFile" ? `file:${source.value}` : `env:${source.value ?? ""}`;
}

/** Why a specification cannot be; undefined: it can. */
export function specProblem(spec: ChannelSpec): string | undefined {
  if (spec.kind === "fleet") return fleetProblem(spec);
  if (spec.id === fleetId) return `id: "${fleetId}" is the fleet's own channel; name this one otherwise.`;
  // What they refer to is sent to the upstream.
  const own = spec.apiKeys.find(({ source }) => source.case === "fromEnv" && source.value.startsWith("DRAWBRIDGE_"));
  if (own) return "api_keys: DRAWBRIDGE_… variables are this system's own secrets; name another one.";
  const problem = baseUrlProblem(spec.baseUrl);
  if (problem) return problem;
  if (Object.keys(spec.models).length === 0) return "models: name at least one.";
  const unknown = spec.routes.find((route) => !(channelRoutes as readonly string[]).includes(route));
  if (unknown !== undefined) return `routes: "${unknown}" is none of ${channelRoutes.join(", ")}.`;
  return durationProblem(spec);
}

function fleetProblem(spec: ChannelSpec): string | undefined {
  if (spec.id !== fleetId) return `id: the fleet's channel is named "${fleetId}".`;
  const { baseUrl, apiKeys, models, routes, timeouts, breaker, concurrency } = spec;
  const foreign =
    baseUrl !== "" || apiKeys.length > 0 || Object.keys(models).length > 0 || routes.length > 0 || concurrency > 0;
  if (!foreign && !timeouts && !breaker) return undefined;
  return "kind: the fleet's channel has a priority and a weight only; the rest is said by its accounts.";
}

/** Keys belong into api_keys: an address is shown and logged. */
function baseUrlProblem(baseUrl: string): string | undefined {
  const url = URL.parse(baseUrl);
  if (!url || !/^https?:$/.test(url.protocol)) {
    return "base_url: expected an address such as https://api.example.com/v1.";
  }
  if (url.username || url.password) return "base_url: it must not hold a user or password; use api_keys.";
  if (url.search || url.hash) return "base_url: it must not have a query or fragment.";
  return undefined;
}

function durationProblem({ timeouts, breaker }: ChannelSpec): string | undefined {
  const durations = { ...timeouts, window: breaker?.window, open: breaker?.open, open_max: breaker?.openMax };
  for (const [name, value] of Object.entries(durations)) {
    if (typeof value !== "object" || value === null || !("seconds" in value)) continue;
    const ms = durationMs(value);
    if (ms < 1 || ms > dayMs) return `${name === "firstByte" ? "first_byte" : name}: expected 1ms to 24h.`;
  }
  return undefined;
}

const dayMs = 86_400_000;

export function checkSpec(spec: ChannelSpec): void {
  const problem = specProblem(spec);
  if (problem !== undefined) throw new DrawbridgeError("INVALID_ARGUMENT", problem);
}

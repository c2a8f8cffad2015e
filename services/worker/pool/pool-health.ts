// How a pool is, and how a worker with several of them is. Pure.
import { Health } from "#gen/drawbridge/v1/worker";
import type { DrawbridgeError } from "../../kit/errors.ts";

export interface HealthVerdict {
  readonly health: Health;
  /** A sentence; empty when healthy. */
  readonly reason: string;
}

export interface PoolFacts {
  readonly draining: boolean;
  /** Processes that are ready or run a prompt. */
  readonly usable: number;
  /** Whether any process ever became ready. */
  readonly everReady: boolean;
  /** Starts that failed in a row. */
  readonly failures: number;
  /** Why the last one did, or why processes keep ending under prompts. */
  readonly lastFailure: DrawbridgeError | undefined;
}

/** Fail now, or wait for another try? A missing variable or a refused login does not heal by itself. */
export function isHopeless(error: DrawbridgeError): boolean {
  return (
    error.reason === "INVALID_ARGUMENT" ||
    error.reason === "AGENT_UNAUTHENTICATED" ||
    error.reason === "AGENT_USAGE_LIMIT"
  );
}

/** Starts that fail in a row before waiting prompts are given up. */
export const failuresMax = 2;

export function givesUp({ usable, failures, lastFailure }: PoolFacts): boolean {
  return usable === 0 && lastFailure !== undefined && (failures >= failuresMax || isHopeless(lastFailure));
}

export function poolHealth(facts: PoolFacts): HealthVerdict {
  if (facts.draining) return { health: Health.DRAINING, reason: "The worker drains." };
  if (givesUp(facts)) return { health: Health.UNHEALTHY, reason: facts.lastFailure?.message ?? "" };
  if (facts.lastFailure) return { health: Health.DEGRADED, reason: facts.lastFailure.message };
  if (!facts.everReady) return { health: Health.DEGRADED, reason: "The first agent process is starting." };
  return { health: Health.HEALTHY, reason: "" };
}

/** The worker's, from its pools'. */
export function workerHealth(pools: readonly HealthVerdict[], draining: boolean): HealthVerdict {
  if (draining) return { health: Health.DRAINING, reason: "The worker drains." };
  const ill = pools.filter(({ health }) => health !== Health.HEALTHY);
  const reason = ill[0]?.reason ?? "";
  if (ill.length === 0) return { health: Health.HEALTHY, reason: "" };
  const dead = ill.length === pools.length && ill.every(({ health }) => health === Health.UNHEALTHY);
  return { health: dead ? Health.UNHEALTHY : Health.DEGRADED, reason };
}

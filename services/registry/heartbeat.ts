// What a worker's sign of life changes: its lease, the leases of its prompts, and the books of what it finished.
import type { HeartbeatRequest } from "#gen/drawbridge/v1/registry_service";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../kit/errors.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";

/**
 * Takes a beat; the attempts whose outcomes are recorded now. Outcomes count even where the worker's lease was lost, since what they tell has
 * happened.
 */
export async function takeBeat(
  state: State,
  config: RegistrySettings,
  request: HeartbeatRequest,
  now: number,
): Promise<string[]> {
  const acknowledged = await recordOutcomes(state, config, request.outcomes, now);
  const { worker, runningAttemptIds } = request;
  if (!worker || !(await state.workers.beat(worker, config.lease_ttl, now))) {
    throw new DrawbridgeError("NOT_FOUND", "This worker's lease is lost. Register again.");
  }
  const expiresAt = now + config.prompt_lease_ttl;
  // The registry does not know which account an attempt belongs to; one that is not the account's own is skipped by the store.
  for (const { accountId } of runningAttemptIds.length > 0 ? worker.pools : []) {
    await state.leases.renew(accountId, runningAttemptIds, expiresAt);
  }
  return acknowledged;
}

/** Remembers each outcome and settles its lease. Repeating it changes nothing. */
export async function recordOutcomes(
  state: State,
  config: RegistrySettings,
  outcomes: readonly Outcome[],
  now: number,
): Promise<string[]> {
  const recorded: string[] = [];
  for (const outcome of outcomes) {
    await state.outcomes.record(outcome, config.outcome_ttl, now);
    await state.leases.settle(outcome, now);
    recorded.push(outcome.attemptId);
  }
  return recorded;
}

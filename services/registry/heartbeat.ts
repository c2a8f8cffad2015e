// What a worker's sign of life changes: its lease, the leases of its prompts, and the books of what it finished.
import { clone } from "@bufbuild/protobuf";
import type { HeartbeatRequest } from "#gen/drawbridge/v1/registry_service";
import { type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";

export interface HeartbeatOptions {
  readonly state: Pick<State, "workers" | "leases" | "outcomes">;
  readonly config: RegistrySettings;
  readonly log: Log;
}

/**
 * Takes a beat; the attempts whose outcomes are recorded now. Outcomes count even where the worker's lease was lost, since what they tell has
 * happened. Outcomes and leases are on their way together, so that a beat takes no longer with many outcomes than with one.
 */
export async function takeBeat(options: HeartbeatOptions, request: HeartbeatRequest, now: number): Promise<string[]> {
  const [recorded, renewed] = await Promise.allSettled([
    recordOutcomes(options, request.outcomes, now),
    renewLeases(options, request, now),
  ]);
  if (renewed.status === "rejected") throw renewed.reason;
  if (recorded.status === "rejected") throw recorded.reason;
  return recorded.value;
}

/** The worker's own lease, then those of its prompts. */
async function renewLeases({ state, config }: HeartbeatOptions, request: HeartbeatRequest, now: number): Promise<void> {
  const { worker, runningAttemptIds } = request;
  if (!worker || !(await state.workers.beat(worker, config.lease_ttl, now))) {
    throw new DrawbridgeError("NOT_FOUND", "This worker's lease is lost. Register again.");
  }
  if (runningAttemptIds.length === 0) return;
  const expiresAt = now + config.prompt_lease_ttl;
  // The registry does not know which account an attempt belongs to; one that is not the account's own is skipped by the store.
  await Promise.all(worker.pools.map(({ accountId }) => state.leases.renew(accountId, runningAttemptIds, expiresAt)));
}

/**
 * Settles each outcome's lease and remembers the outcome, with what the account paid. Repeating it changes nothing. One that the store refuses
 * holds up no other: it stays unacknowledged, and comes again with the next beat.
 */
export async function recordOutcomes(
  options: HeartbeatOptions,
  outcomes: readonly Outcome[],
  now: number,
): Promise<string[]> {
  const recorded = await Promise.all(outcomes.map((outcome) => recordOutcome(options, outcome, now)));
  return outcomes.filter((_, index) => recorded[index]).map(({ attemptId }) => attemptId);
}

async function recordOutcome(
  { state, config, log }: HeartbeatOptions,
  outcome: Outcome,
  now: number,
): Promise<boolean> {
  try {
    const { credits, millicredits } = await state.leases.settle(outcome, now);
    const known = clone(OutcomeSchema, outcome);
    if (credits) known.millicredits = BigInt(millicredits);
    await state.outcomes.record(known, config.outcome_ttl, now);
    return true;
  } catch (error) {
    log.warn({ err: error, attempt_id: outcome.attemptId }, "an outcome was not recorded; the worker sends it again");
    return false;
  }
}

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
 * happened.
 */
export async function takeBeat(options: HeartbeatOptions, request: HeartbeatRequest, now: number): Promise<string[]> {
  const { state, config } = options;
  const acknowledged = await recordOutcomes(options, request.outcomes, now);
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

/**
 * Settles each outcome's lease and remembers the outcome, with what the account paid. Repeating it changes nothing. One that the store refuses
 * holds up no other: it stays unacknowledged, and comes again with the next beat.
 */
export async function recordOutcomes(
  { state, config, log }: HeartbeatOptions,
  outcomes: readonly Outcome[],
  now: number,
): Promise<string[]> {
  const recorded: string[] = [];
  for (const outcome of outcomes) {
    try {
      const { credits, millicredits } = await state.leases.settle(outcome, now);
      const known = clone(OutcomeSchema, outcome);
      if (credits) known.millicredits = BigInt(millicredits);
      await state.outcomes.record(known, config.outcome_ttl, now);
      recorded.push(outcome.attemptId);
    } catch (error) {
      log.warn({ err: error, attempt_id: outcome.attemptId }, "an outcome was not recorded; the worker sends it again");
    }
  }
  return recorded;
}

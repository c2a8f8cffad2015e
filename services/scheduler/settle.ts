// The end of leases: reported by clients, or swept when nobody did.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { LeaseRecord, State } from "../state/state.ts";
import type { Breakers } from "./breaker/breakers.ts";
import type { SchedulerSettings } from "./config.ts";
import type { View } from "./fleet/view.ts";
import type { GivenLease, GivenLeases } from "./given-leases.ts";
import { unusedOutcome } from "./place.ts";

export interface SettleOptions {
  readonly view: View;
  readonly state: Pick<State, "leases" | "outcomes">;
  readonly breakers: Breakers;
  readonly given: GivenLeases;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: SchedulerSettings;
}

/** Settles a lease and learns from its outcome. Whether this call settled it; the worker's own report may have been first. */
export async function report(options: SettleOptions, outcome: Outcome): Promise<boolean> {
  const { view, state, breakers, given, clock, log, config } = options;
  const { accountId, workerId } = outcome;
  if (outcome.reason === ErrorReason.WORKER_UNREACHABLE) view.markDown(workerId, clock.now() + config.worker_down);
  // Before the store is asked, since the conversation's next turn may be here at once.
  const open = given.find(outcome.attemptId);
  if (open && outcome.conversation !== "") view.tellConversation(outcome.conversation, open.candidate);
  const { settled, credits } = await state.leases.settle(outcome, clock.now());
  // Only now: where the store is away the lease is reported again, and is still open then.
  const lease = given.end(outcome.attemptId);
  if (lease) learnSpeed(view, lease, outcome);
  if (credits) view.setCredits(accountId, Number(credits.available));
  // A breaker that cannot be written must not keep a lease from being settled.
  await breakers
    .record(outcome, lease?.probe === true)
    .catch((error: unknown) => log.warn({ err: error, accountId }, "breaker not written"));
  // Only now is its place free in the store too.
  if (lease) view.endLease(lease.candidate, outcome.attemptId);
  return settled;
}

/** Ends the lease of an attempt whose caller does not know whether it has one. Whether it did, and had. */
export async function release(options: SettleOptions, attemptId: string): Promise<boolean> {
  const { given, clock } = options;
  const open = await given.findSoon(attemptId);
  if (open) return report(options, unusedOutcome(open.lease, clock.now()));
  // Nor will it have one.
  given.end(attemptId);
  return false;
}

/** How fast the pool that took a call of ours was. */
function learnSpeed(view: View, { candidate, model }: GivenLease, { startedAt, firstContentAt }: Outcome): void {
  if (!startedAt || !firstContentAt) return;
  view.tellSpeed(model, candidate.account.id, Math.max(0, timestampMs(firstContentAt) - timestampMs(startedAt)));
}

/** Leases that one round of the sweep takes. */
const sweepLimit = 1_000;

/**
 * Settles leases that ended without a report: from the recorded outcome, else as expired, which costs nothing. How many. Without `mayExpire`
 * only those whose outcome is recorded.
 */
export async function sweepLeases(
  { state, view, given, clock, log }: SettleOptions,
  mayExpire = true,
): Promise<number> {
  const now = clock.now();
  const expired = await state.leases.expired(now, sweepLimit);
  for (const lease of expired) {
    const recorded = await state.outcomes.byAttempt(lease, now);
    if (!recorded && !mayExpire) continue;
    const outcome = recorded ?? expiredOutcome(lease, now);
    // The lease says whose credits it holds, whatever the outcome says.
    outcome.accountId = lease.accountId;
    const { settled, credits } = await state.leases.settle(outcome, now);
    if (credits) view.setCredits(lease.accountId, Number(credits.available));
    const own = given.end(lease.attemptId);
    if (own) view.endLease(own.candidate, lease.attemptId);
    if (settled) log.warn({ attempt_id: lease.attemptId, account: lease.accountId }, "lease expired and was settled");
  }
  return expired.length;
}

function expiredOutcome(lease: LeaseRecord, now: number): Outcome {
  return create(OutcomeSchema, {
    attemptId: lease.attemptId,
    requestId: lease.requestId,
    accountId: lease.accountId,
    workerId: lease.workerId,
    end: End.EXPIRED,
    endedAt: timestampFromMs(now),
  });
}

/**
 * Sweeps until the signal is aborted. Any number of schedulers may do so. While the store was away nobody could renew a lease or tell its outcome,
 * so leases expire only once it has been reachable for a lease's time. That holds for a scheduler that has just started, too: it does not know.
 */
export async function keepSweeping(options: SettleOptions, signal: AbortSignal): Promise<void> {
  const { clock, config, log } = options;
  let reachableSince: number | undefined;
  while (!signal.aborted) {
    try {
      await clock.sleep(config.sweep_interval, signal);
      reachableSince ??= clock.monotonic();
      await sweepLeases(options, clock.monotonic() - reachableSince >= config.lease_ttl);
    } catch (error) {
      reachableSince = undefined;
      if (!signal.aborted) log.error({ err: error }, "leases could not be swept");
    }
  }
}

// Candidates in order, each claimed in the store, until one is won; and the way back.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { AcquireRequest, Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { claim, type ClaimOptions } from "./claim.ts";
import type { DecisionRecord } from "./explain/decisions.ts";
import type { Candidate } from "./fleet/candidate.ts";
import type { GivenLease } from "./given-leases.ts";

/** The candidate to try first now: the one that holds the conversation if it can take it at once, else the best. undefined: there is none. */
export function choose(
  { view, clock }: Pick<ClaimOptions, "view" | "clock">,
  { model, conversation, excludedAccountIds }: AcquireRequest,
  passed: readonly Candidate[],
): Candidate | undefined {
  const holder = conversation === "" ? undefined : view.holder(conversation, model);
  if (holder && !passed.includes(holder) && !excludedAccountIds.includes(holder.account.id)) return holder;
  return view.model(model)?.best(excludedAccountIds, passed, clock.now());
}

/** Claims `first`, and if the store refuses, the next best ones. undefined: it refused them all. */
export async function place(
  options: ClaimOptions,
  request: AcquireRequest,
  first: Candidate,
  record: DecisionRecord,
): Promise<GivenLease | undefined> {
  const passed: Candidate[] = [];
  let candidate: Candidate | undefined = first;
  for (let tries = 0; candidate && tries < options.config.claim_tries; tries += 1) {
    record.choosing();
    const result = await claim(options, candidate, request);
    if ("lease" in result) {
      record.taken(candidate);
      return { lease: result.lease, model: request.model, candidate, probe: result.probe };
    }
    record.refused(candidate, result.refused);
    // A breaker that changed may still let the call pass: its present state is known now.
    if (result.refused !== "breaker") passed.push(candidate);
    candidate = choose(options, request, passed);
  }
  return undefined;
}

/** Nothing was done with a lease. */
export function unusedOutcome({ attemptId, requestId, accountId, workerId }: Lease, now: number): Outcome {
  const ended = { attemptId, requestId, accountId, workerId, end: End.CANCELLED, endedAt: timestampFromMs(now) };
  return create(OutcomeSchema, ended);
}

/** A lease was won for somebody who had left meanwhile. */
export async function giveBack(options: ClaimOptions, { lease, candidate, probe }: GivenLease): Promise<void> {
  const { view, leases, breakers, clock } = options;
  const { attemptId, accountId } = lease;
  view.endLease(candidate, attemptId);
  const now = clock.now();
  const outcome = unusedOutcome(lease, now);
  const { credits } = await leases.settle(outcome, now);
  if (credits) view.setCredits(accountId, Number(credits.available));
  await breakers.record(outcome, probe);
}

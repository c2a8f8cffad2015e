// What is true of an account, and why: Ready, Progressing, Degraded, CreditsExhausted, Unauthorized. Pure.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Breaker, BreakerState, type Condition, ConditionSchema } from "#gen/drawbridge/v1/account";
import { type Instance, isReady, poolOf, takesPrompts } from "./observe.ts";
import type { AccountSummary } from "./plan.ts";

export const conditionTypes = ["Ready", "Progressing", "Degraded", "CreditsExhausted", "Unauthorized"] as const;
export type ConditionType = (typeof conditionTypes)[number];

interface Statement {
  readonly status: boolean;
  /** One word, for programs. */
  readonly reason: string;
  /** A sentence, for people. */
  readonly message: string;
}

export interface ConditionFacts {
  readonly summary: AccountSummary;
  readonly breaker: Breaker | undefined;
  /** Why the last worker failed or could not be started; undefined: none did lately. */
  readonly lastFailure: string | undefined;
}

/** The account's conditions now. `changed_at` stays where the status does; the same array if nothing changed. */
export function conditions(facts: ConditionFacts, previous: readonly Condition[], now: number): readonly Condition[] {
  const statements: Record<ConditionType, Statement> = {
    Ready: ready(facts, previous),
    Progressing: progressing(facts),
    Degraded: degraded(facts),
    CreditsExhausted: creditsExhausted(facts),
    Unauthorized: unauthorized(facts),
  };
  const next = conditionTypes.map((type) => {
    const before = previous.find((condition) => condition.type === type);
    const statement = statements[type];
    if (before && isSame(before, statement)) return before;
    const changedAt = before?.status === statement.status ? before.changedAt : timestampFromMs(now);
    return create(ConditionSchema, { type, ...statement, changedAt });
  });
  const unchanged = next.length === previous.length && next.every((condition) => previous.includes(condition));
  return unchanged ? previous : next;
}

function isSame(condition: Condition, { status, reason, message }: Statement): boolean {
  return condition.status === status && condition.reason === reason && condition.message === message;
}

function ready(facts: ConditionFacts, previous: readonly Condition[]): Statement {
  const { summary } = facts;
  const { account, current, outdated } = summary;
  const id = account.spec?.id ?? "";
  if (summary.exhausted) return no("CreditsExhausted", "The account has no credits left. Grant some.");
  if (account.spec?.drained) return no("Drained", "The account is drained and takes no new prompts.");
  if (isStopped(facts.breaker)) return no("Unauthorized", stopMessage(facts.breaker));
  const live = [...current, ...outdated];
  // A pool whose first agent process starts is degraded too, so degraded is enough only to stay ready.
  const wasReady = previous.some(({ type, status }) => type === "Ready" && status);
  const serves = (instance: Instance) => isReady(instance, id) || (wasReady && takesPrompts(instance, id));
  if (live.some(serves)) return yes("WorkersReady", "At least one worker takes prompts.");
  if (summary.wanted === 0) return no("Idle", "No worker runs until a request needs one (workers.min is 0).");
  const ill = current.find((instance) => poolOf(instance, id) !== undefined);
  if (ill) return no("WorkersNotHealthy", poolReason(ill, id));
  if (summary.waiting > 0)
    return no("BackOff", facts.lastFailure ?? "Workers failed; the next one starts after a wait.");
  return no("Starting", "The first worker is starting.");
}

function progressing({ summary }: ConditionFacts): Statement {
  const { current, outdated, wanted, waiting, account } = summary;
  const id = account.spec?.id ?? "";
  if (outdated.length > 0) return yes("Rolling", `Workers of generation ${account.generation} take over.`);
  if (waiting > 0) return yes("BackOff", "Workers failed; the next one starts after a wait.");
  const missing = current.filter((instance) => poolOf(instance, id) !== undefined).length < wanted;
  if (missing) return yes("Starting", "Workers are starting.");
  return no("Settled", "As many workers run as are wanted.");
}

function degraded({ summary, breaker, lastFailure }: ConditionFacts): Statement {
  const id = summary.account.spec?.id ?? "";
  if (isStopped(breaker)) return yes("Unauthorized", stopMessage(breaker));
  if (breaker?.state === BreakerState.OPEN) return yes("BreakerOpen", breaker.reason || "The breaker is open.");
  if (summary.waiting > 0) return yes("WorkersFailing", lastFailure ?? "Workers failed.");
  const ill = summary.current.find(
    (instance) => poolOf(instance, id) !== undefined && !summary.ready.includes(instance),
  );
  if (ill) return yes("WorkerNotHealthy", poolReason(ill, id));
  return no("AsWanted", "Nothing is wrong.");
}

function creditsExhausted({ summary }: ConditionFacts): Statement {
  return summary.exhausted
    ? yes("NoCredits", "Fewer credits are left than a prompt costs; the account's workers end until some are granted.")
    : no("CreditsLeft", "The account can pay for prompts.");
}

function unauthorized({ breaker }: ConditionFacts): Statement {
  return isStopped(breaker)
    ? yes("Refused", stopMessage(breaker))
    : no("NotRefused", "The provider has not refused the account.");
}

/** An open breaker without an end waits for a person: the provider refused the account's credential, or suspended it. */
function isStopped(breaker: Breaker | undefined): boolean {
  return breaker?.state === BreakerState.OPEN && breaker.until === undefined;
}

function stopMessage(breaker: Breaker | undefined): string {
  const why = breaker?.reason || "The provider refused the account.";
  return `${why} Correct it, then run: drawbridge breaker reset ${breaker?.accountId ?? ""}`;
}

function poolReason(instance: Instance, accountId: string): string {
  return poolOf(instance, accountId)?.healthReason || `Worker ${instance.workerId} is not healthy.`;
}

function yes(reason: string, message: string): Statement {
  return { status: true, reason, message };
}

function no(reason: string, message: string): Statement {
  return { status: false, reason, message };
}

// What a request can hope for that nothing can take now: a slot that comes free, a worker that starts, or nothing, with the error that says why.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import type { AcquireRequest } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import { admits } from "./breaker/breaker.ts";
import type { SchedulerSettings } from "./config.ts";
import type { AccountState } from "./fleet/candidate.ts";
import type { ModelIndex } from "./fleet/model-index.ts";
import type { View } from "./fleet/view.ts";

/** What it waits for: "slot" comes free soon, "worker" comes up within a while. */
export type Hope = "slot" | "worker";
export type Prospect = { readonly kind: Hope } | { readonly kind: "hopeless"; readonly error: DrawbridgeError };

export interface ProspectOptions {
  readonly view: View;
  readonly clock: Clock;
  readonly config: SchedulerSettings;
}

export function prospectOf(options: ProspectOptions, request: AcquireRequest): Prospect {
  const { model, excludedAccountIds } = request;
  const index = options.view.model(model);
  if (!index) {
    return hopeless(new DrawbridgeError("MODEL_NOT_FOUND", `The model "${model}" does not exist.`));
  }
  // The usual case, which must not depend on the number of accounts: more candidates are busy than the excluded accounts have.
  const busy = index.rejectedFor(ErrorReason.NO_CAPACITY) + index.rejectedFor(ErrorReason.UNSPECIFIED);
  let excludedPools = 0;
  for (const id of excludedAccountIds) excludedPools += index.members.get(id)?.leaves.size ?? 0;
  if (busy > excludedPools) return { kind: "slot" };
  return lookAtAll(options, request, index);
}

function lookAtAll(
  { clock, config }: ProspectOptions,
  { model, excludedAccountIds }: AcquireRequest,
  index: ModelIndex,
) {
  const now = clock.now();
  const accounts = [...index.members.values()].map(({ account }) => account);
  if (accounts.every(isExhausted)) {
    return hopeless(
      new DrawbridgeError("CREDITS_EXHAUSTED", `All accounts that serve "${model}" have spent their credits.`),
    );
  }
  const rest = accounts.filter(({ id }) => !excludedAccountIds.includes(id));
  const usable = rest.filter((account) => !account.drained && !isExhausted(account));
  const closed = usable.filter((account) => index.panics || !isBlocked(account, now));
  const reasons = new Set(closed.flatMap((account) => index.reasonsOf(account.id)));
  const probing = closed.some((account) => isProbing(account, now));
  if (probing || reasons.has(ErrorReason.NO_CAPACITY) || reasons.has(ErrorReason.UNSPECIFIED))
    return { kind: "slot" } as const;
  // One without any worker gets one when somebody waits; one that could not be reached is replaced.
  if (closed.some(({ id }) => index.reasonsOf(id).length === 0 || index.isAway(id, now))) {
    return { kind: "worker" } as const;
  }
  const retryAfterMs = config.retry_after;
  if (usable.length > closed.length) {
    const message = `The accounts that serve "${model}" fail or cool down at present. Try again later.`;
    const wait = Math.min(...usable.map((account) => blockedFor(account, now)));
    return hopeless(
      new DrawbridgeError("BREAKER_OPEN", message, { retryAfterMs: Number.isFinite(wait) ? wait : retryAfterMs }),
    );
  }
  if (rest.length > 0 && rest.every(isExhausted)) {
    const message = `The accounts that serve "${model}" and were not tried have spent their credits.`;
    return hopeless(new DrawbridgeError("CREDITS_EXHAUSTED", message));
  }
  const message = `No worker serves "${model}" at present. Try again in a moment.`;
  return hopeless(new DrawbridgeError("NO_WORKER", message, { retryAfterMs }));
}

function hopeless(error: DrawbridgeError): Prospect {
  return { kind: "hopeless", error };
}

function isExhausted({ millicredits, cost }: AccountState): boolean {
  return millicredits < cost;
}

/** While probes are under way an answer is near, so that waiting is worth it. */
function isBlocked({ breaker }: AccountState, now: number): boolean {
  return breaker?.state === BreakerState.OPEN && admits(breaker, now) === "none";
}

function isProbing({ breaker }: AccountState, now: number): boolean {
  return breaker?.state === BreakerState.HALF_OPEN && admits(breaker, now) === "none";
}

/** Time until the breaker lets a call through; Infinity: until a person resets it. */
function blockedFor({ breaker }: AccountState, now: number): number {
  return breaker?.until ? Math.max(1, timestampMs(breaker.until) - now) : Infinity;
}

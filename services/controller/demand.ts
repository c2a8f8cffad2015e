// Requests that wait for a model, given to the accounts that could serve it. Pure.
import type { Account } from "#gen/drawbridge/v1/account";
import type { ModelDemand } from "../state/state.ts";
import { isExhausted, workerBounds } from "./desired.ts";
import { type Instance, poolOf } from "./observe.ts";

/**
 * How many requests wait for each account: first for accounts that have workers already, as far as they may grow, so that workers which start are
 * not asked for twice; then for those with the most credits. `isHeldBack`: more workers of this account would not help now.
 */
export function demandByAccount(
  demand: readonly ModelDemand[],
  accounts: readonly Account[],
  instances: readonly Instance[],
  isHeldBack: (accountId: string) => boolean,
): ReadonlyMap<string, number> {
  const waiting = new Map<string, number>();
  const able = accounts.filter(
    (account) => !account.spec?.drained && !isExhausted(account) && !isHeldBack(account.spec?.id ?? ""),
  );
  for (const { model, waiting: requests } of demand) {
    const serving = able.filter(({ spec }) => spec?.models[model] !== undefined);
    let left = requests;
    for (const account of serving.toSorted((a, b) => preference(b, instances) - preference(a, instances))) {
      if (left <= 0) break;
      const id = account.spec?.id ?? "";
      const share = Math.min(left, roomOf(account));
      waiting.set(id, (waiting.get(id) ?? 0) + share);
      left -= share;
    }
  }
  return waiting;
}

/** Prompts that all the workers which the account may have could take at a time. */
function roomOf({ spec }: Account): number {
  return workerBounds(spec).max * Math.max(1, spec?.slots ?? 1);
}

function preference(account: Account, instances: readonly Instance[]): number {
  const id = account.spec?.id ?? "";
  const runs = instances.some(
    (instance) =>
      instance.accountIds.includes(id) &&
      (instance.state === "starting" || (instance.state === "running" && poolOf(instance, id) !== undefined)),
  );
  return (runs ? Number.MAX_SAFE_INTEGER / 2 : 0) + Number(account.credits?.available ?? 0n) / 2;
}

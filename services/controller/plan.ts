// The plan: what is wanted and what there is → what to do, with reasons. Pure: the same view gives the same plan, and a plan that has been
// carried out leaves nothing to do.
import type { Account, AgentSpec } from "#gen/drawbridge/v1/account";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import { isExhausted, workerBounds } from "./desired.ts";
import { type Instance, isCurrent, isReady, poolOf, takesPrompts } from "./observe.ts";
import { freeWorkerIds } from "./worker-id.ts";

export interface PlanView {
  readonly accounts: readonly Account[];
  readonly agents: readonly AgentSpec[];
  readonly instances: readonly Instance[];
  /** How many workers an elastic account should have, by account id; absent: workers.min. */
  readonly targets: ReadonlyMap<string, number>;
  /** Requests that wait for the account's models, by account id. */
  readonly waiting: ReadonlyMap<string, number>;
  /** No worker of the account is started before this time, in ms. */
  readonly retryAt: ReadonlyMap<string, number>;
  /** Workers beyond the wanted number while a changed account rolls. */
  readonly surge: number;
  /** Workers that may be missing meanwhile. */
  readonly unavailable: number;
  readonly now: number;
}

/** One action. */
export interface Step {
  readonly type: typeof ActionType.CREATE | typeof ActionType.DRAIN | typeof ActionType.DESTROY;
  readonly accountId: string;
  readonly workerId: string;
  readonly reason: string;
  /** Whether the worker is taken away because it failed. */
  readonly failed: boolean;
}

/** What the plan saw of one account: the conditions are made of it. */
export interface AccountSummary {
  readonly account: Account;
  readonly wanted: number;
  readonly exhausted: boolean;
  /** Neither failed nor draining, with the present specification. */
  readonly current: readonly Instance[];
  /** The same, with an older one. */
  readonly outdated: readonly Instance[];
  readonly ready: readonly Instance[];
  readonly failed: readonly Instance[];
  /** Workers that are missing and wait for the back-off. */
  readonly waiting: number;
}

export interface Plan {
  readonly steps: readonly Step[];
  readonly summaries: readonly AccountSummary[];
}

export function plan(view: PlanView): Plan {
  const byAccount = Map.groupBy(
    view.instances.flatMap((instance) => instance.accountIds.map((accountId) => ({ accountId, instance }))),
    ({ accountId }) => accountId,
  );
  const summaries = view.accounts.map((account) =>
    summarize(account, byAccount.get(account.spec?.id ?? "")?.map(({ instance }) => instance) ?? [], view),
  );
  const steps = [...failedSteps(view), ...unwantedSteps(view)];
  const taken = new Set(view.instances.filter(({ state }) => state !== "failed").map(({ workerId }) => workerId));
  for (const summary of summaries) {
    const created = createSteps(summary, view, taken);
    for (const { workerId } of created) taken.add(workerId);
    steps.push(...created, ...outdatedSteps(summary, view), ...surplusSteps(summary));
  }
  return { steps, summaries };
}

function summarize(account: Account, instances: readonly Instance[], view: PlanView): AccountSummary {
  const id = account.spec?.id ?? "";
  const live = instances.filter(({ state }) => state === "starting" || state === "running");
  const { current = [], outdated = [] } = Object.groupBy(live, (instance) =>
    isCurrent(instance, account, view.agents) ? "current" : "outdated",
  );
  const exhausted = isExhausted(account);
  const { min, max } = workerBounds(account.spec);
  const wanted = exhausted ? 0 : Math.min(max, Math.max(min, view.targets.get(id) ?? min));
  const missing = Math.max(0, wanted - current.length);
  return {
    account,
    wanted,
    exhausted,
    current,
    outdated,
    ready: current.filter((instance) => isReady(instance, id)),
    failed: instances.filter(({ state }) => state === "failed"),
    waiting: (view.retryAt.get(id) ?? 0) > view.now ? missing : 0,
  };
}

function failedSteps({ instances }: PlanView): Step[] {
  return instances
    .filter(({ state }) => state === "failed")
    .map(({ workerId, accountIds: [accountId = ""], reason }) => ({
      type: ActionType.DESTROY,
      accountId,
      workerId,
      reason,
      failed: true,
    }));
}

/** Workers of which no account is wanted. */
function unwantedSteps({ accounts, instances }: PlanView): Step[] {
  const known = new Set(accounts.map(({ spec }) => spec?.id ?? ""));
  return instances
    .filter(({ accountIds }) => !accountIds.some((id) => known.has(id)))
    .filter(({ state }) => state === "starting" || state === "running")
    .map((instance) => retire(instance, instance.accountIds[0] ?? "", "Its account is not wanted any more."));
}

function createSteps(summary: AccountSummary, view: PlanView, taken: ReadonlySet<string>): Step[] {
  const { wanted, current, outdated, waiting, account } = summary;
  const accountId = account.spec?.id ?? "";
  const missing = wanted - current.length;
  if (missing <= 0 || waiting > 0) return [];
  const room = outdated.length === 0 ? missing : wanted + view.surge - current.length - outdated.length;
  const reason = reasonToCreate(summary, view.waiting.get(accountId) ?? 0);
  const count = Math.max(0, Math.min(missing, room));
  return freeWorkerIds(accountId, count, taken).map((workerId) => ({
    type: ActionType.CREATE,
    accountId,
    workerId,
    reason,
    failed: false,
  }));
}

function reasonToCreate({ account, wanted, current, outdated, failed }: AccountSummary, waiting: number): string {
  if (outdated.length > 0) return `The account has changed (generation ${account.generation}); this worker takes over.`;
  if (failed.length > 0) return `Replaces ${failed.map(({ workerId }) => workerId).join(", ")}.`;
  const missing = `The account has ${current.length} of ${wanted} workers`;
  return waiting > 0
    ? `${missing}, and ${waiting} ${waiting === 1 ? "request waits" : "requests wait"} for its models.`
    : `${missing}.`;
}

/** Workers of an older specification stay as long as they are needed to make up the number; those that serve nobody go first. */
function outdatedSteps(summary: AccountSummary, view: PlanView): Step[] {
  const { account, outdated, ready, wanted } = summary;
  const accountId = account.spec?.id ?? "";
  const useful = outdated.filter((instance) => takesPrompts(instance, accountId));
  const useless = outdated.filter((instance) => !useful.includes(instance));
  const keep = Math.max(0, wanted - view.unavailable - ready.length);
  return [...useless, ...useful.slice(keep)]
    .filter(isExclusive)
    .map((instance) =>
      retire(
        instance,
        accountId,
        reasonToEnd(summary) ?? "A worker with the account's present specification has taken over.",
      ),
    );
}

function surplusSteps(summary: AccountSummary): Step[] {
  const { account, current, wanted } = summary;
  const accountId = account.spec?.id ?? "";
  const { max } = workerBounds(account.spec);
  const candidates = current.filter(isExclusive).toSorted((a, b) => retirementOrder(a, b, accountId));
  const own = candidates.filter(({ process }) => process !== undefined);
  const adopted = candidates.filter(({ process }) => process === undefined);
  const ownSurplus = Math.min(own.length, Math.max(0, current.length - wanted));
  // Workers that somebody else started are left alone within the account's bounds.
  const allowed = wanted === 0 ? 0 : max;
  const adoptedSurplus = Math.max(0, current.length - ownSurplus - allowed);
  const reason = reasonToEnd(summary) ?? `The account has ${current.length} workers and needs ${wanted}.`;
  return [...own.slice(0, ownSurplus), ...adopted.slice(0, adoptedSurplus)].map((instance) =>
    retire(instance, accountId, reason),
  );
}

function reasonToEnd({ exhausted, wanted }: AccountSummary): string | undefined {
  if (exhausted) return "The account's credits are exhausted.";
  if (wanted === 0) return "No request has needed it for a while, and workers.min is 0.";
  return undefined;
}

/** Those that do the least first; of equals, the one with the highest name. */
function retirementOrder(one: Instance, other: Instance, accountId: string): number {
  return usefulness(one, accountId) - usefulness(other, accountId) || (one.workerId < other.workerId ? 1 : -1);
}

function usefulness(instance: Instance, accountId: string): number {
  const pool = poolOf(instance, accountId);
  if (!pool) return -1;
  return (isReady(instance, accountId) ? 1_000_000 : 0) + pool.slots - pool.availableSlots + pool.queueDepth;
}

/** A worker of several accounts is not ended for one of them. */
function isExclusive({ accountIds }: Instance): boolean {
  return accountIds.length === 1;
}

/** A worker that has never taken a prompt needs no draining. */
function retire({ workerId, state }: Instance, accountId: string, reason: string): Step {
  const type = state === "starting" ? ActionType.DESTROY : ActionType.DRAIN;
  return { type, accountId, workerId, reason, failed: false };
}

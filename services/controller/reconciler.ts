// One pass: looks at what is wanted and what there is, plans, begins to act, and writes down what is true of each account.
import { type Account, type AccountSpec, type AgentSpec, type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { StoreSetup } from "../state/store-setup.ts";
import type { Apply, Mandate } from "./apply.ts";
import { conditions } from "./conditions.ts";
import type { ControllerSettings } from "./config.ts";
import { demandByAccount } from "./demand.ts";
import { isElastic, isExhausted } from "./desired.ts";
import type { WorkerDriver } from "./drivers/driver.ts";
import type { Events } from "./events.ts";
import type { FleetMemory } from "./fleet-memory.ts";
import type { HealthChecks } from "./health.ts";
import { type Instance, isReady, observe, present } from "./observe.ts";
import { type AccountSummary, type Plan, plan, type Step } from "./plan.ts";
import type { Retries } from "./retries.ts";
import { hypotheticalAccounts } from "./specs.ts";
import type { WorkerView } from "./worker-view.ts";

export interface ReconcilerOptions {
  readonly state: State;
  readonly setup: StoreSetup;
  readonly agents: readonly AgentSpec[];
  readonly driver: WorkerDriver;
  readonly view: WorkerView;
  readonly health: HealthChecks;
  readonly memory: FleetMemory;
  readonly retries: Retries;
  readonly apply: Apply;
  readonly events: Events;
  readonly settings: ControllerSettings;
  readonly clock: Clock;
  readonly log: Log;
}

export interface PassResult {
  /** What was begun. */
  readonly steps: readonly Step[];
  /** When the next pass is due at the latest because of a back-off, in ms; undefined: none is. */
  readonly wakeAt: number | undefined;
}

/** Disposing waits for actions that run; end their mandate first. */
export interface Reconciler extends AsyncDisposable {
  /** `leadingSince`: start times count from here at the earliest. STATE_UNAVAILABLE until the registry has spoken. */
  pass(mandate: Mandate, leadingSince: number): Promise<PassResult>;
  /** Asks all workers how they are. Whether a pass should follow. */
  checkHealth(signal: AbortSignal): Promise<boolean>;
  /** What a pass would do; with `specs`, if they were applied. Changes nothing. */
  preview(specs: readonly AccountSpec[] | undefined, leadingSince: number): Promise<readonly Step[]>;
  /** Told when the actions of an account are over. */
  onApplied(listener: (succeeded: boolean) => void): Disposable;
}

/** What there is at one moment. */
interface Look {
  readonly accounts: readonly Account[];
  readonly instances: readonly Instance[];
  readonly breakers: ReadonlyMap<string, Breaker>;
  /** Requests that wait, by account id. */
  readonly waiting: ReadonlyMap<string, number>;
}

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { state, driver, view, health, memory, retries, settings, clock, log } = options;
  const listeners = new Set<(succeeded: boolean) => void>();
  /** Accounts whose actions run: they are left alone until these are over. */
  const running = new Map<string, Promise<void>>();

  async function look(leadingSince: number): Promise<Look> {
    if (!view.known) {
      throw new DrawbridgeError(
        "STATE_UNAVAILABLE",
        "The registry has not answered yet, so it is not known what runs.",
      );
    }
    // A store that was emptied has no accounts, and would have all workers end.
    const [accounts, processes, breakerList, demand] = await options.setup.read(() =>
      Promise.all([state.accounts.list(), driver.list(), state.breakers.list(), state.demand.list(clock.now())]),
    );
    const workers = view.list();
    const now = clock.now();
    memory.see(workers, processes, now);
    const { owned, draining, lost, vanishedAt } = memory;
    const trusted = isTrusted(view.heardSince, vanishedAt, now, settings);
    const facts = { workers, processes, owned, draining, lost, trusted, health: health.records, leadingSince, now };
    const instances = observe(facts, settings);
    const breakers = new Map(breakerList.map((each) => [each.accountId, each]));
    const isHeldBack = (id: string) =>
      breakers.get(id)?.state === BreakerState.OPEN || (retries.retryAt.get(id) ?? 0) > now;
    return { accounts, instances, breakers, waiting: demandByAccount(demand, accounts, instances, isHeldBack) };
  }

  function planFor({ accounts, instances, waiting }: Look, keep: boolean): Plan {
    const now = clock.now();
    const usedAt = (accountId: string) => view.usedAt(accountId);
    const targets = memory.targets(accounts, instances, now, { settings, keep, waiting, usedAt });
    const { surge, unavailable } = settings;
    const { retryAt } = retries;
    return plan({ accounts, agents: options.agents, instances, targets, waiting, retryAt, surge, unavailable, now });
  }

  function begin(accountId: string, steps: readonly Step[], account: Account | undefined, mandate: Mandate): void {
    const over = (succeeded: boolean) => {
      running.delete(accountId);
      for (const listener of listeners) listener(succeeded);
    };
    const failed = (error: unknown) => {
      log.error({ err: error, account: accountId }, "actions failed");
      over(false);
    };
    running.set(accountId, options.apply(steps, account, mandate).then(over, failed));
  }

  return {
    async pass(mandate, leadingSince) {
      const seen = await look(leadingSince);
      mandate.signal.throwIfAborted();
      retries.keep(new Set(seen.accounts.map(({ spec }) => spec?.id ?? "")));
      for (const accountId of memory.newGenerations(seen.accounts)) retries.reset(accountId);
      const { steps, summaries } = planFor(seen, true);
      const due = steps.filter(({ accountId }) => !running.has(accountId));
      const accounts = new Map(seen.accounts.map((account) => [account.spec?.id ?? "", account]));
      for (const [accountId, group] of Map.groupBy(due, (step) => step.accountId)) {
        begin(accountId, group, accounts.get(accountId), mandate);
      }
      recordReady(summaries, options);
      await writeConditions(summaries, seen.breakers, options);
      return { steps: due, wakeAt: nextRetry(summaries, retries) };
    },
    async checkHealth(signal) {
      if (!view.known) return false;
      const processes = await driver.list();
      const byId = new Map(processes.map((process) => [process.workerId, process]));
      const workers = present(view.list(), byId);
      const changed = await health.round(workers, [...byId.keys()], signal);
      return changed || (await state.accounts.list()).some(needsLook);
    },
    async preview(specs, leadingSince) {
      const seen = await look(leadingSince);
      const accounts = specs === undefined ? seen.accounts : hypotheticalAccounts(seen.accounts, specs);
      return planFor({ ...seen, accounts }, false).steps;
    },
    onApplied(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(running.values());
    },
  };
}

/** Load and credits change without a hint. */
function needsLook(account: Account): boolean {
  const said = account.conditions.some(({ type, status }) => type === "CreditsExhausted" && status);
  return isElastic(account) || isExhausted(account) !== said;
}

function nextRetry(summaries: readonly AccountSummary[], retries: Retries): number | undefined {
  const times = summaries
    .filter(({ waiting }) => waiting > 0)
    .flatMap(({ account }) => retries.retryAt.get(account.spec?.id ?? "") ?? []);
  return times.length === 0 ? undefined : Math.min(...times);
}

function recordReady(summaries: readonly AccountSummary[], { memory, events }: ReconcilerOptions): void {
  const ready = new Map<string, { incarnation: string; accountId: string }>();
  for (const { account, current } of summaries) {
    const accountId = account.spec?.id ?? "";
    for (const instance of current.filter((each) => isReady(each, accountId))) {
      ready.set(instance.workerId, { incarnation: instance.worker?.incarnation ?? "", accountId });
    }
  }
  const incarnations = new Map([...ready].map(([id, { incarnation }]) => [id, incarnation]));
  for (const workerId of memory.newlyReady(incarnations)) {
    events.record("WorkerReady", "The worker takes prompts.", {
      workerId,
      accountId: ready.get(workerId)?.accountId ?? "",
    });
  }
}

/** Whether the absence of a worker says anything: the registry is heard, has been for a while, and has not just lost most of what it knew. */
function isTrusted(
  heardSince: number | undefined,
  vanishedAt: number | undefined,
  now: number,
  { registry_caution }: ControllerSettings,
): boolean {
  if (heardSince === undefined || now - heardSince < registry_caution) return false;
  return vanishedAt === undefined || now - vanishedAt >= registry_caution;
}

async function writeConditions(
  summaries: readonly AccountSummary[],
  breakers: ReadonlyMap<string, Breaker>,
  options: ReconcilerOptions,
): Promise<void> {
  const { state, retries, events, clock } = options;
  for (const summary of summaries) {
    const { account } = summary;
    const accountId = account.spec?.id ?? "";
    const facts = { summary, breaker: breakers.get(accountId), lastFailure: retries.lastFailure(accountId) };
    const next = conditions(facts, account.conditions, clock.now());
    if (next === account.conditions) continue;
    await state.accounts.setConditions(accountId, next, clock.now());
    for (const { type, status, message } of next) {
      const before = account.conditions.find((condition) => condition.type === type);
      if ((before?.status ?? false) === status) continue;
      events.record("ConditionChanged", `${type} is ${status}: ${message}`, { accountId });
    }
  }
}

// What must be true: nothing that is wanted is taken away, and what is wanted comes about.
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import { isExhausted, runsSpec, workerBounds } from "../../../services/controller/desired.ts";
import type { Clock } from "../../../services/kit/clock.ts";
import type { State } from "../../../services/state/state.ts";
import type { Journal } from "./journal.ts";
import type { SimulatedWorker, SimulatedWorkers } from "./workers.ts";

/** What a controller acts on may be so old. */
const staleMs = 8_000;
/** Long enough for a worker's faults to be acted on, with slow calls and a change of leaders between. */
const faultMs = 120_000;

interface Wanted {
  readonly spec: AccountSpec | undefined;
  readonly exhausted: boolean;
  readonly until: number;
}

export interface JudgeOptions {
  readonly state: State;
  /** Wanted at all times. */
  readonly file: readonly AccountSpec[];
  readonly workers: SimulatedWorkers;
  readonly clock: Clock;
  readonly journal: Journal;
}

export class Judge {
  /** What each account was of late. */
  readonly #wanted = new Map<string, Wanted[]>();
  readonly #options: JudgeOptions;

  constructor(options: JudgeOptions) {
    this.#options = options;
  }

  async remember(): Promise<void> {
    const accounts = await this.#options.state.accounts.list();
    const now = this.#options.clock.now();
    const found = new Map(accounts.map((account) => [account.spec?.id ?? "", account]));
    for (const id of new Set([...this.#wanted.keys(), ...found.keys()])) {
      const account = found.get(id);
      const past = (this.#wanted.get(id) ?? []).filter(({ until }) => now - until < staleMs);
      past.push({ spec: account?.spec, exhausted: account ? isExhausted(account) : false, until: now });
      this.#wanted.set(id, past);
    }
  }

  /** A worker is being taken away: its fault, its account or its fellows must be the reason. */
  justify(how: string, workerId: string): void {
    const { workers, clock, journal } = this.#options;
    const worker = workers.live.get(workerId);
    if (!worker || worker.drainedAt !== undefined) return;
    // A fault that lasts is one however old it is: the driver may have refused many times.
    if (worker.silent || worker.unhealthy || worker.readsAt === Infinity) return;
    if (clock.now() - worker.faultAt < faultMs) return;
    const [account] = worker.spec.accounts;
    if (!account) return;
    const always = this.#options.file.find(({ id }) => id === account.id);
    const views = always ? [{ spec: always, exhausted: false }] : (this.#wanted.get(account.id) ?? []);
    const justified = views.some(({ spec, exhausted }) => {
      if (!spec || exhausted || !runs(worker, spec)) return true;
      const others = [...workers.live.values()].filter((each) => each !== worker && serves(each, spec));
      return others.length >= workerBounds(spec).min;
    });
    if (!justified) journal.violate(`${workerId} was ${how}, and is wanted`);
  }

  /** What is not yet as it is wanted. */
  async difference(): Promise<string | undefined> {
    const { state, workers } = this.#options;
    const accounts = await state.accounts.list();
    const known = new Map(accounts.map((account) => [account.spec?.id ?? "", account]));
    for (const [id, worker] of workers.live) {
      const account = known.get(worker.spec.accounts[0]?.id ?? "");
      if (!account?.spec) return `${id} runs, and its account is gone`;
      if (isExhausted(account)) return `${id} runs, and its account has no credits`;
      if (!serves(worker, account.spec) || !worker.registered) return `${id} is not what is wanted`;
    }
    for (const account of accounts) {
      const { min, max } = workerBounds(account.spec);
      const mine = [...workers.live.values()].filter(({ spec }) => spec.accounts[0]?.id === account.spec?.id);
      if (isExhausted(account)) continue;
      if (mine.length < min || mine.length > max) return `${account.spec?.id} has ${mine.length} of ${min} to ${max}`;
    }
    return undefined;
  }
}

function runs(worker: SimulatedWorker, spec: AccountSpec): boolean {
  return runsSpec({ workerId: "", spec: worker.spec, pid: 0, startedAt: 0 }, spec, []);
}

function serves(worker: SimulatedWorker, spec: AccountSpec): boolean {
  return worker.drainedAt === undefined && runs(worker, spec);
}

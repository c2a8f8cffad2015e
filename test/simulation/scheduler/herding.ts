// How evenly several schedulers spread a load over equal accounts while they know of each other only by the workers' heartbeats. The yardsticks choose on
// the view that a scheduler has (the last heartbeat, corrected by its own calls) and take what they chose; ours is the real scheduler.
import { create } from "@bufbuild/protobuf";
import { AccountSpecSchema } from "#gen/drawbridge/v1/account";
import { AcquireRequestSchema, type Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { silentLog } from "../../../services/kit/log.ts";
import type { Random } from "../../../services/kit/random.ts";
import { schedulerSettings } from "../../../services/scheduler/config.ts";
import { openState } from "../../../services/state/open.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { EventClock } from "./event-clock.ts";
import { scenarioOf } from "./scenario.ts";
import { createSimulatedScheduler, type SimulatedScheduler } from "./schedulers.ts";

export const fleet = {
  accounts: 10,
  slots: 8,
  utilisation: 0.8,
  serviceMs: [500, 1_500],
  heartbeatMs: 5_000,
  intervals: 12,
};

export interface Herding {
  /** The largest deviation of an account's share from the ideal one in any heartbeat interval, as a share of the ideal. */
  readonly deviation: number;
  /** Requests that were given to an account without a free slot while another one had one, as a share of all. */
  readonly misplaced: number;
}

/** The account that a scheduler chooses. `loads` are what it believes. */
export type Yardstick = (loads: readonly number[], random: Random, turn: number) => number;

export const yardsticks: Readonly<Record<string, Yardstick>> = {
  "round robin": (loads, _random, turn) => turn % loads.length,
  random: (loads, random) => Math.floor(random() * loads.length),
  "least loaded": (loads, random) => least(loads, random),
  "power of two choices": (loads, random) => {
    const one = Math.floor(random() * loads.length);
    const other = (one + 1 + Math.floor(random() * (loads.length - 1))) % loads.length;
    return (loads[one] ?? 0) <= (loads[other] ?? 0) ? one : other;
  },
};

function least(loads: readonly number[], random: Random): number {
  const smallest = Math.min(...loads);
  const equal = loads.flatMap((load, index) => (load === smallest ? [index] : []));
  return equal[Math.floor(random() * equal.length)] ?? 0;
}

/** Counts placements, and the prompts that run or wait at each account. */
class Ledger {
  readonly loads = Array.from({ length: fleet.accounts }, () => 0);
  #counts = this.loads.map(() => 0);
  #total = 0;
  #misplaced = 0;
  #deviation = 0;

  placed(account: number): void {
    const full = (load: number) => load >= fleet.slots;
    if (full(this.loads[account] ?? 0) && !this.loads.every(full)) this.#misplaced += 1;
    this.loads[account] = (this.loads[account] ?? 0) + 1;
    this.#counts[account] = (this.#counts[account] ?? 0) + 1;
    this.#total += 1;
  }

  ended(account: number): void {
    this.loads[account] = (this.loads[account] ?? 0) - 1;
  }

  closeInterval(counts: boolean): void {
    const sum = this.#counts.reduce((all, count) => all + count, 0);
    const ideal = sum / fleet.accounts;
    if (counts)
      for (const count of this.#counts) this.#deviation = Math.max(this.#deviation, Math.abs(count - ideal) / ideal);
    this.#counts = this.#counts.map(() => 0);
  }

  get result(): Herding {
    return { deviation: this.#deviation, misplaced: this.#misplaced / this.#total };
  }
}

/** Places one request that arrives; calls `ended` where its prompt is over. */
type Place = (random: Random, serviceMs: number) => Promise<void>;

async function drive(clock: EventClock, random: Random, ledger: Ledger, place: Place, beat: () => void) {
  const [shortest = 0, longest = 0] = fleet.serviceMs;
  const meanMs = (shortest + longest) / 2;
  const gapMs = meanMs / (fleet.accounts * fleet.slots * fleet.utilisation);
  const arrive = () => {
    void place(random, shortest + random() * (longest - shortest));
    clock.after(-Math.log(1 - random()) * gapMs, arrive);
  };
  clock.after(0, arrive);
  for (let interval = 0; interval < fleet.intervals; interval += 1) {
    beat();
    await clock.run(fleet.heartbeatMs);
    // The first one fills the fleet.
    ledger.closeInterval(interval > 0);
  }
  return ledger.result;
}

export function herdingOf(choose: Yardstick, schedulers: number, seed: number): Promise<Herding> {
  const clock = new EventClock();
  const random = seededRandom(seed);
  const ledger = new Ledger();
  const views = Array.from({ length: schedulers }, () => ledger.loads.map(() => 0));
  const turns = views.map((_, index) => index);
  /** When the prompts at each account will be over: a queue of each slot. */
  const slots = ledger.loads.map(() => Array.from({ length: fleet.slots }, () => 0));
  const place: Place = async (chance, serviceMs) => {
    const scheduler = Math.floor(chance() * schedulers);
    const view = views[scheduler] as number[];
    const turn = turns[scheduler] ?? 0;
    turns[scheduler] = turn + 1;
    const account = choose(view, chance, turn);
    ledger.placed(account);
    view[account] = (view[account] ?? 0) + 1;
    const ends = slots[account] as number[];
    const first = ends.indexOf(Math.min(...ends));
    const endsAt = Math.max(clock.now(), ends[first] ?? 0) + serviceMs;
    ends[first] = endsAt;
    clock.after(endsAt - clock.now(), () => {
      ledger.ended(account);
      view[account] = Math.max(0, (view[account] ?? 0) - 1);
    });
  };
  const beat = () => {
    for (const view of views) view.splice(0, view.length, ...ledger.loads);
  };
  return drive(clock, random, ledger, place, beat);
}

export async function ourHerding(schedulers: number, seed: number): Promise<Herding> {
  const clock = new EventClock();
  const random = seededRandom(seed);
  const ledger = new Ledger();
  await using state = await openState("sqlite::memory:", { log: silentLog });
  const settings = schedulerSettings.parse({});
  const scenario = { ...scenarioOf(1), lossShare: 0, delayMs: 0, storeFaultShare: 0 };
  for (const index of ledger.loads.keys()) {
    const spec = create(AccountSpecSchema, {
      id: `a${index}`,
      agent: "demo",
      models: { m: "m" },
      initialMillicredits: 1_000_000_000n,
      millicreditsPerRequest: 1_000n,
      slots: fleet.slots,
    });
    await state.accounts.create(spec, "api", clock.now());
  }
  const all = Array.from({ length: schedulers }, (_, index) =>
    createSimulatedScheduler({ name: `s${index}`, clock, random, state, settings, scenario }),
  );
  for (const scheduler of all) void scheduler.start();
  let revision = 0n;
  let requests = 0;
  const place: Place = async (chance, serviceMs) => {
    const scheduler = all[Math.floor(chance() * schedulers)] as SimulatedScheduler;
    const id = `r${(requests += 1)}`;
    const request = create(AcquireRequestSchema, { requestId: id, attemptId: id, model: "m" });
    const lease = await scheduler.acquire(request, new AbortController().signal, 60_000).catch((error: unknown) => {
      // The measurement is over, and somebody was waiting.
      if (scheduler.alive) throw error;
    });
    if (!lease) return;
    const account = Number(lease.accountId.slice(1));
    ledger.placed(account);
    clock.after(serviceMs, () => {
      ledger.ended(account);
      void scheduler.report(outcomeOf(lease));
    });
  };
  const beat = () => {
    revision += 1n;
    const workers = ledger.loads.map((load, index) => workerOf(index, load, revision));
    for (const scheduler of all) scheduler.resync(workers);
  };
  const result = await drive(clock, random, ledger, place, beat);
  for (const scheduler of all) await scheduler.kill();
  return result;
}

function outcomeOf({ attemptId, requestId, accountId, workerId }: Lease) {
  return create(OutcomeSchema, { attemptId, requestId, accountId, workerId, end: End.FINISHED, content: true });
}

function workerOf(index: number, load: number, revision: bigint): Worker {
  const pool = {
    accountId: `a${index}`,
    models: ["m"],
    slots: fleet.slots,
    availableSlots: Math.max(0, fleet.slots - load),
    health: Health.HEALTHY,
  };
  return create(WorkerSchema, { id: `w${index}`, incarnation: "i", address: "w", revision, pools: [pool] });
}

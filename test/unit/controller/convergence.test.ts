// A virtual fleet: accounts change, workers die, hang and come back, and after each disturbance the plan is carried out until it is empty.
import { describe, expect, it } from "vitest";
import type { Account } from "#gen/drawbridge/v1/account";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import { Health } from "#gen/drawbridge/v1/worker";
import { isExhausted, workerBounds } from "../../../services/controller/desired.ts";
import type { WorkerProcess } from "../../../services/controller/drivers/driver.ts";
import type { Step } from "../../../services/controller/plan.ts";
import { account, healthRecord, now, planOf, processOf, worker, type WorkerFields } from "./fixtures.ts";

interface VirtualWorker {
  /** undefined: started by hand. */
  readonly process: WorkerProcess | undefined;
  readonly accountId: string;
  readonly generation: bigint;
  registered: boolean;
  silent: boolean;
  draining: boolean;
}

class VirtualFleet {
  readonly accounts = new Map<string, Account>();
  readonly workers = new Map<string, VirtualWorker>();
  readonly owned = new Set<string>();
  /** Registrations of processes that ended. */
  readonly ghosts = new Map<string, string>();

  plan(): readonly Step[] {
    const entries = [...this.workers];
    const fields = (each: VirtualWorker): WorkerFields => ({
      generation: each.generation,
      health: each.draining ? Health.DRAINING : Health.HEALTHY,
    });
    const live = entries.filter(([, { registered }]) => registered);
    const { steps } = planOf({
      accounts: [...this.accounts.values()],
      processes: entries.flatMap(([, { process }]) => process ?? []),
      workers: [
        ...live.map(([id, each]) => worker(id, each.accountId, fields(each))),
        ...[...this.ghosts].map(([id, accountId]) => worker(id, accountId)),
      ],
      owned: this.owned,
      health: new Map(
        live.map(([id, { silent }]) => [
          id,
          healthRecord({ unanswered: silent ? 3 : 0, silentSince: now - 3_600_000 }),
        ]),
      ),
    });
    return steps;
  }

  carryOut({ type, workerId, accountId }: Step): void {
    if (type === ActionType.CREATE) {
      const wanted = this.accounts.get(accountId);
      if (!wanted) throw new Error(`${accountId} is not wanted`);
      if (this.workers.has(workerId)) throw new Error(`${workerId} runs already`);
      this.start(workerId, wanted);
    } else if (type === ActionType.DRAIN) {
      const found = this.workers.get(workerId);
      if (found) found.draining = true;
    } else {
      this.workers.delete(workerId);
      this.ghosts.delete(workerId);
    }
  }

  start(workerId: string, { spec, generation }: Account, byHand = false): void {
    const process = byHand || !spec ? undefined : processOf(workerId, this.accounts.get(spec.id) as Account);
    if (process) this.owned.add(workerId);
    const accountId = spec?.id ?? "";
    this.ghosts.delete(workerId);
    this.workers.set(workerId, { process, accountId, generation, registered: byHand, silent: false, draining: false });
  }

  /** A moment passes: what starts is registered, what drains has ended. */
  settle(): void {
    for (const [id, each] of this.workers) {
      each.registered = true;
      if (each.draining) this.workers.delete(id);
    }
  }

  /** Ids of workers that take prompts of the account. */
  serving(accountId: string): string[] {
    const mine = [...this.workers].filter(([, each]) => each.accountId === accountId);
    return mine.filter(([, each]) => each.registered && !each.draining && !each.silent).map(([id]) => id);
  }
}

/** A generator that a seed repeats. */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const ids = ["a", "b", "c d"];

function randomAccount(id: string, below: (limit: number) => number, generation: bigint): Account {
  const min = below(4);
  const fields = { slots: 1 + below(2), workers: { min, max: Math.max(1, min) + below(2) } };
  return account(id, fields, { generation, available: below(4) === 0 ? 0n : 10_000n });
}

function disturb(fleet: VirtualFleet, below: (limit: number) => number): void {
  const id = ids[below(ids.length)] ?? "a";
  const [victimId, victim] = [...fleet.workers][below(Math.max(1, fleet.workers.size))] ?? [];
  const kind = below(6);
  if (kind === 0) fleet.accounts.delete(id);
  else if (kind <= 2) fleet.accounts.set(id, randomAccount(id, below, (fleet.accounts.get(id)?.generation ?? 0n) + 1n));
  else if (kind === 3 && victim) victim.silent = true;
  else if (kind === 4 && victimId !== undefined && victim) {
    fleet.workers.delete(victimId);
    if (victim.process && victim.registered) fleet.ghosts.set(victimId, victim.accountId);
  } else if (kind === 5) fleet.start(`hand-${below(100)}`, fleet.accounts.get(id) ?? account(id), true);
}

/** Carries plans out until there is nothing to do; a plan that has been carried out must not be asked for again. */
function converge(fleet: VirtualFleet): void {
  for (let round = 0; round < 50; round++) {
    const steps = fleet.plan();
    if (steps.length === 0) return;
    const servingBefore = new Map(ids.map((id) => [id, fleet.serving(id).length]));
    for (const step of steps) fleet.carryOut(step);
    for (const [id, wanted] of fleet.accounts) {
      const needed = isExhausted(wanted) ? 0 : workerBounds(wanted.spec).min;
      expect(fleet.serving(id).length).toBeGreaterThanOrEqual(Math.min(needed, servingBefore.get(id) ?? 0));
    }
    const again = fleet.plan().map(({ type, workerId }) => `${type} ${workerId}`);
    for (const { type, workerId } of steps) expect(again).not.toContain(`${type} ${workerId}`);
    fleet.settle();
  }
  throw new Error("the plan never became empty");
}

describe("plan: convergence", () => {
  it("reaches what is wanted from anywhere, never below what is wanted on the way, and then rests", () => {
    for (let seed = 1; seed <= 150; seed++) {
      const below = seeded(seed);
      const fleet = new VirtualFleet();
      for (let disturbance = 0; disturbance < 15; disturbance++) {
        disturb(fleet, below);
        if (below(3) === 0) continue;
        converge(fleet);
        for (const id of ids) {
          const wanted = fleet.accounts.get(id);
          const { min, max } = workerBounds(wanted?.spec);
          const parked = !wanted || isExhausted(wanted) || min === 0;
          expect(fleet.serving(id).length, `seed ${seed}`).toBeGreaterThanOrEqual(parked ? 0 : min);
          expect(fleet.serving(id).length, `seed ${seed}`).toBeLessThanOrEqual(parked ? 0 : max);
        }
        expect(fleet.ghosts.size).toBe(0);
      }
    }
  });
});

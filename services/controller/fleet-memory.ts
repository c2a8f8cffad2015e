// What the controller remembers between two passes, and could do without: after a restart it is made anew from what there is.
import type { Account } from "#gen/drawbridge/v1/account";
import { Health, type Worker } from "#gen/drawbridge/v1/worker";
import { isElastic, workerBounds } from "./desired.ts";
import type { WorkerProcess } from "./drivers/driver.ts";
import type { Instance } from "./observe.ts";
import { loadOf, type ScaleRecord, type ScaleSettings, scale } from "./scale.ts";

export interface FleetMemory {
  /** Takes in what there is now, and forgets what is not there any more. */
  see(workers: readonly Worker[], processes: readonly WorkerProcess[], now: number): void;
  /** Ids of workers that the driver runs or ran. */
  readonly owned: ReadonlySet<string>;
  /** Workers that drain, and since when. */
  readonly draining: ReadonlyMap<string, number>;
  /** Workers of the driver that were registered and are not any more, and since when. */
  readonly lost: ReadonlyMap<string, number>;
  /** When most of the driver's registered workers vanished from the registry at once, in ms; undefined: never. */
  readonly vanishedAt: number | undefined;
  /** The worker has been asked to drain. */
  drains(workerId: string, now: number): void;
  /** The worker's process ended. */
  over(workerId: string): void;
  /** How many workers each elastic account should have. `keep`: remember it for the next time. */
  targets(
    accounts: readonly Account[],
    instances: readonly Instance[],
    now: number,
    options: {
      readonly settings: ScaleSettings;
      readonly keep: boolean;
      /** Requests that wait, by account id. */
      readonly waiting: ReadonlyMap<string, number>;
      readonly usedAt: (accountId: string) => number | undefined;
    },
  ): ReadonlyMap<string, number>;
  /** Ids of accounts whose generation is another one than the last time, or which are new. */
  newGenerations(accounts: readonly Account[]): string[];
  /** Of these workers, the ones that are ready for the first time since they started. */
  newlyReady(incarnations: ReadonlyMap<string, string>): string[];
}

export function createFleetMemory(): FleetMemory {
  const owned = new Set<string>();
  const draining = new Map<string, number>();
  const lost = new Map<string, number>();
  let vanishedAt: number | undefined;
  let registered: ReadonlySet<string> = new Set();
  let generations: ReadonlyMap<string, bigint> = new Map();
  let scales = new Map<string, ScaleRecord>();
  let ready: ReadonlyMap<string, string> = new Map();

  return {
    see(workers, processes, now) {
      for (const { workerId, startedAt } of processes) {
        owned.add(workerId);
        // What was noted before it started concerns an earlier process of this name, of whose end nobody told.
        for (const noted of [draining, lost])
          if ((noted.get(workerId) ?? startedAt) < startedAt) noted.delete(workerId);
      }
      const there = new Set([...workers.map(({ id }) => id), ...processes.map(({ workerId }) => workerId)]);
      for (const id of owned) if (!there.has(id)) owned.delete(id);
      for (const id of draining.keys()) if (!there.has(id)) draining.delete(id);
      const mine = new Set(processes.map(({ workerId }) => workerId));
      const present = new Set(workers.map(({ id }) => id).filter((id) => mine.has(id)));
      const vanished = [...registered].filter((id) => mine.has(id) && !present.has(id));
      for (const id of vanished) lost.set(id, now);
      for (const id of lost.keys()) if (present.has(id) || !mine.has(id)) lost.delete(id);
      if (isMass(vanished.length, registered.size)) vanishedAt = now;
      registered = present;
      for (const { id, health } of workers) if (health === Health.DRAINING && !draining.has(id)) draining.set(id, now);
    },
    owned,
    draining,
    lost,
    get vanishedAt() {
      return vanishedAt;
    },
    drains: (workerId, now) => void draining.set(workerId, now),
    over(workerId) {
      // Until its registration is gone too, what is registered under this id is dead.
      owned.add(workerId);
      draining.delete(workerId);
    },
    targets(accounts, instances, now, { settings, keep, waiting, usedAt }) {
      const next = new Map<string, ScaleRecord>();
      for (const { spec } of accounts.filter(isElastic)) {
        const id = spec?.id ?? "";
        const mine = instances.filter(({ accountIds }) => accountIds.includes(id));
        const load = loadOf(mine, id, { waiting: waiting.get(id) ?? 0, usedAt: usedAt(id) });
        next.set(id, scale(scales.get(id), load, workerBounds(spec), now, settings));
      }
      if (keep) scales = next;
      return new Map([...next].map(([id, { target }]) => [id, target]));
    },
    newGenerations(accounts) {
      const now = new Map(accounts.map(({ spec, generation }) => [spec?.id ?? "", generation]));
      const fresh = [...now].filter(([id, generation]) => generations.get(id) !== generation).map(([id]) => id);
      generations = now;
      return fresh;
    },
    newlyReady(incarnations) {
      const fresh = [...incarnations].filter(([id, incarnation]) => ready.get(id) !== incarnation).map(([id]) => id);
      ready = incarnations;
      return fresh;
    },
  };
}

/** Many at once means that the registry or the network failed, not they. */
function isMass(vanished: number, registered: number): boolean {
  return vanished >= 2 && vanished * 2 > registered;
}

// Which models requests wait for, as each scheduler says it.
import { checkDemand } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import type { DemandStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { text, texts } from "./replies.ts";

/** A model's name outlives its demand by so long in the index, since clocks differ. */
const indexMarginMs = 60_000;

export function createDemandStore({ connection, keys, changes }: ObservedContext): DemandStore {
  return {
    onChange: changes.onChange,

    async report(schedulerId, model, waiting, ttlMs, now) {
      checkDemand(schedulerId, model, waiting);
      // First the index: a name in it without demand is skipped, demand that is not in it would not be seen.
      if (waiting > 0) {
        await connection.command("ZREMRANGEBYSCORE", keys.demandedModels, "-inf", now - indexMarginMs);
        await connection.command("ZADD", keys.demandedModels, "GT", now + ttlMs, model);
      }
      const args = [schedulerId, waiting, now, now + ttlMs, ttlMs];
      const changed = text(await connection.script("report-demand", [keys.demand(model)], args)) === "1";
      if (changed) changes.notify();
    },

    async list(now) {
      const models = texts(await connection.command("ZRANGE", keys.demandedModels, 0, -1)).map((model) => model ?? "");
      const sorted = models.toSorted(compareBytes);
      const replies = await connection.together(sorted.map((model) => ["HVALS", keys.demand(model)]));
      return sorted
        .map((model, index) => ({ model, waiting: waitingOf(texts(replies[index]), now) }))
        .filter(({ waiting }) => waiting > 0);
    },
  };
}

/** The sum of what schedulers say, each as "waiting:expires at". */
function waitingOf(reports: readonly (string | undefined)[], now: number): number {
  return reports
    .map((report = "") => report.split(":").map(Number))
    .filter(([, expiresAt = 0]) => expiresAt > now)
    .reduce((sum, [waiting = 0]) => sum + waiting, 0);
}

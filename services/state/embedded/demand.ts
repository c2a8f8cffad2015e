// Which models requests wait for, as each scheduler says it.
import { checkDemand } from "../checks.ts";
import type { DemandStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database } from "./database.ts";

export function createDemandStore(database: Database, changes: Changes): DemandStore {
  return {
    onChange: changes.onChange,

    async report(schedulerId, model, waiting, ttlMs, now) {
      checkDemand(schedulerId, model, waiting);
      const changed = database.transaction(() => {
        database.run("DELETE FROM demand WHERE expires_at <= ?", now);
        const known = database.get(
          "SELECT waiting FROM demand WHERE model = ? AND scheduler_id = ?",
          model,
          schedulerId,
        );
        if (waiting === 0) {
          database.run("DELETE FROM demand WHERE model = ? AND scheduler_id = ?", model, schedulerId);
        } else {
          database.run("INSERT OR REPLACE INTO demand VALUES (?, ?, ?, ?)", model, schedulerId, waiting, now + ttlMs);
        }
        return Number(known?.["waiting"] ?? 0) !== waiting;
      });
      if (changed) changes.notify();
    },

    async list(now) {
      const rows = database.all(
        "SELECT model, sum(waiting) AS waiting FROM demand WHERE expires_at > ? GROUP BY model ORDER BY model",
        now,
      );
      return rows.map((row) => ({ model: String(row["model"]), waiting: Number(row["waiting"]) }));
    },
  };
}

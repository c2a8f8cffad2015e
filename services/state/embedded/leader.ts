// Who leads, with an epoch that grows whenever the lock changes hands.
import type { LeaderLock } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database } from "./database.ts";

export function createLeaderLock(database: Database, changes: Changes): LeaderLock {
  /** The last term, with nothing left if it is over. */
  const last = (now: number) => {
    const row = database.get("SELECT * FROM leader WHERE id = 1");
    if (!row) return undefined;
    const leftMs = Math.max(0, Number(row["expires_at"]) - now);
    return { owner: String(row["owner"]), epoch: Number(row["epoch"]), leftMs };
  };
  return {
    onChange: changes.onChange,

    acquire: async (owner, ttlMs, now) =>
      database.transaction(() => {
        const held = last(now);
        const runs = held !== undefined && held.leftMs > 0;
        if (runs && held.owner !== owner) return { leads: false, ...held };
        // An owner whose lock has ended may have been overtaken without noticing: its next term is a new one.
        const epoch = runs ? held.epoch : Math.max((held?.epoch ?? 0) + 1, now);
        database.run("INSERT OR REPLACE INTO leader VALUES (1, ?, ?, ?)", owner, epoch, now + ttlMs);
        return { leads: true, owner, epoch, leftMs: ttlMs };
      }),

    async release(owner) {
      const sql = "UPDATE leader SET expires_at = 0 WHERE id = 1 AND owner = ? AND expires_at > 0 RETURNING id";
      if (database.get(sql, owner)) changes.notify();
    },

    async current(now) {
      const held = last(now);
      return held && held.leftMs > 0 ? held : undefined;
    },
  };
}

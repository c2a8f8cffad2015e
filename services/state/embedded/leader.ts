// Who leads, with an epoch that grows whenever the lock changes hands.
import type { LeaderLock } from "../state.ts";
import type { Database } from "./database.ts";

export function createLeaderLock(database: Database): LeaderLock {
  const current = (now: number) => {
    const row = database.get("SELECT * FROM leader WHERE id = 1");
    if (!row) return undefined;
    const { owner, epoch } = { owner: String(row["owner"]), epoch: Number(row["epoch"]) };
    return { owner, epoch, free: Number(row["expires_at"]) <= now };
  };
  return {
    acquire: async (owner, ttlMs, now) =>
      database.transaction(() => {
        const held = current(now);
        if (held && !held.free && held.owner !== owner) return { leads: false, owner: held.owner, epoch: held.epoch };
        // An owner whose lock has ended may have been overtaken without noticing: its next term is a new one.
        const epoch = held && !held.free ? held.epoch : (held?.epoch ?? 0) + 1;
        database.run("INSERT OR REPLACE INTO leader VALUES (1, ?, ?, ?)", owner, epoch, now + ttlMs);
        return { leads: true, owner, epoch };
      }),

    async release(owner) {
      database.run("UPDATE leader SET expires_at = 0 WHERE id = 1 AND owner = ?", owner);
    },

    async current(now) {
      const held = current(now);
      return held && !held.free ? { owner: held.owner, epoch: held.epoch } : undefined;
    },
  };
}

// Who leads: a lock that the server lets go by itself, and an epoch that outlives it.
import type { LeaderLock } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { text, texts } from "./replies.ts";

export function createLeaderLock({ connection, keys, changes }: ObservedContext): LeaderLock {
  return {
    onChange: changes.onChange,

    async acquire(owner, ttlMs, now) {
      const args = [owner, now, now + ttlMs, ttlMs];
      const reply = await connection.script("acquire-leader", [keys.leader, keys.leaderEpoch], args);
      const [leads, holder = "", epoch, leftMs] = texts(reply);
      return { leads: leads === "1", owner: holder, epoch: Number(epoch), leftMs: Number(leftMs) };
    },

    async release(owner) {
      const released = await connection.script("release-leader", [keys.leader], [owner]);
      if (Number(released) === 1) changes.notify();
    },

    async current(now) {
      const lock = text(await connection.command("GET", keys.leader));
      if (lock === undefined) return undefined;
      const { owner, epoch, expiresAt } = JSON.parse(lock) as { owner: string; epoch: number; expiresAt: number };
      return expiresAt > now ? { owner, epoch, leftMs: expiresAt - now } : undefined;
    },
  };
}

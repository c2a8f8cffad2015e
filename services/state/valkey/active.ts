// Which entities have something open. Their leases and holds stand in slots of their own, so a sweep must know where to look. An entity is
// marked before it gets something open, not more than once a minute by one process, so that the mark costs the request path next to
// nothing; it is forgotten when it has had nothing open for a while.
import type { Connection } from "./connection.ts";
import { scored, text } from "./replies.ts";

export interface ActiveIndex {
  /** Call before something of the entity becomes open. */
  mark(id: string, now: number): Promise<void>;
  /** Members of the entities' sets of open things whose score is at or before `now`: the earliest ones over all entities. */
  due(now: number, limit: number): Promise<{ readonly id: string; readonly member: string; readonly score: number }[]>;
}

/** A mark is good for so long in the process that made it. */
const markMs = 60_000;
/** A mark this old is nobody's any more, however much clocks differ. */
const oldMs = 600_000;
/** Marks remembered by one process; beyond that it marks more often. */
const rememberedMax = 50_000;

export function createActiveIndex(connection: Connection, index: string, openSet: (id: string) => string): ActiveIndex {
  const marked = new Map<string, number>();

  const forgetIdle = async (candidates: readonly string[], now: number) => {
    const counts = await connection.together(candidates.map((id) => ["ZCARD", openSet(id)]));
    const idle = candidates.filter((_, position) => text(counts[position]) === "0");
    for (const id of idle) await connection.script("forget-active", [index], [id, now - oldMs]);
  };

  return {
    async mark(id, now) {
      const at = marked.get(id);
      if (at !== undefined && Math.abs(now - at) < markMs) return;
      await connection.command("ZADD", index, "GT", now, id);
      if (marked.size >= rememberedMax) marked.clear();
      marked.set(id, now);
    },

    async due(now, limit) {
      const entities = scored(await connection.command("ZRANGE", index, "0", "-1", "WITHSCORES"));
      const replies = await connection.together(
        entities.map(({ member }) => ["ZRANGEBYSCORE", openSet(member), "-inf", now, "WITHSCORES", "LIMIT", 0, limit]),
      );
      const due = replies.flatMap((reply, position) =>
        scored(reply).map((each) => ({ id: entities[position]?.member ?? "", ...each })),
      );
      const old = entities.filter(
        ({ score }, position) => score < now - oldMs && scored(replies[position]).length === 0,
      );
      if (old.length > 0)
        await forgetIdle(
          old.map(({ member }) => member),
          now,
        );
      return due.toSorted((a, b) => a.score - b.score).slice(0, limit);
    },
  };
}

// Which entities have something open. Their leases and holds stand in slots of their own, so a sweep must know where to look. An entity is
// marked before it gets something open, not more than once a minute by one process, so that the mark costs the request path next to
// nothing; it is forgotten when it has had nothing open for a while. Marks can be lost, as when a replica takes over that had not heard of
// them, so now and then, and when a process begins, the sweep looks at everybody.
import type { Command, Connection } from "./connection.ts";
import { scored, text, texts } from "./replies.ts";

export interface ActiveIndexOptions {
  readonly connection: Connection;
  /** The key of the index. */
  readonly index: string;
  /** The key of an entity's set of open things, by expiry. */
  readonly openSet: (id: string) => string;
  /** Gives the ids of all entities. */
  readonly everybody: Command;
}

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
/** How often a sweep looks at everybody, marked or not. */
const everybodyMs = 600_000;
/** Marks remembered by one process; beyond that it marks more often. */
const rememberedMax = 50_000;

export function createActiveIndex({ connection, index, openSet, everybody }: ActiveIndexOptions): ActiveIndex {
  const marked = new Map<string, number>();
  let lookedAtEverybodyAt = Number.NEGATIVE_INFINITY;

  const dueOf = async (ids: readonly string[], now: number, limit: number) => {
    const replies = await connection.together(
      ids.map((id) => ["ZRANGEBYSCORE", openSet(id), "-inf", now, "WITHSCORES", "LIMIT", 0, limit]),
    );
    return replies.flatMap((reply, position) => scored(reply).map((each) => ({ id: ids[position] ?? "", ...each })));
  };
  const forgetIdle = async (ids: readonly string[], now: number) => {
    const counts = await connection.together(ids.map((id) => ["ZCARD", openSet(id)]));
    const idle = ids.filter((_, position) => text(counts[position]) === "0");
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
      const marks = scored(await connection.command("ZRANGE", index, 0, -1, "WITHSCORES"));
      const ids = new Set(marks.map(({ member }) => member));
      if (Math.abs(now - lookedAtEverybodyAt) >= everybodyMs) {
        for (const id of texts(await connection.command(...everybody))) ids.add(id ?? "");
        lookedAtEverybodyAt = now;
      }
      const due = await dueOf([...ids], now, limit);
      const old = marks.filter(({ score }) => score < now - oldMs).map(({ member }) => member);
      if (old.length > 0) await forgetIdle(old, now);
      return due.toSorted((a, b) => a.score - b.score).slice(0, limit);
    },
  };
}

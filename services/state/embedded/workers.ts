// Who is alive: a row for each worker, alive until its lease ends.
import { clone } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { WorkerDirectory } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { Database, Row } from "./database.ts";
import { decode, encode } from "../records.ts";

const counter = "workers";

export function createWorkerDirectory(database: Database, commits: GroupCommit, changes: Changes): WorkerDirectory {
  const revision = () => Number(database.get("SELECT value FROM counters WHERE name = ?", counter)?.["value"] ?? 0);

  /** What is stored: what the registry adds stands in columns of its own. */
  const strip = (worker: Worker): string => {
    const stored = clone(WorkerSchema, worker);
    stored.revision = 0n;
    stored.registeredAt = undefined;
    stored.expiresAt = undefined;
    return encode(WorkerSchema, stored);
  };

  return {
    onChange: changes.onChange,

    async put(worker, ttlMs, now) {
      const stored = database.transaction(() => {
        const known = database.get("SELECT incarnation, registered_at FROM workers WHERE id = ?", worker.id);
        const registeredAt = known?.["incarnation"] === worker.incarnation ? Number(known["registered_at"]) : now;
        const row = database.get(
          `INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (id) DO UPDATE SET incarnation = excluded.incarnation, record = excluded.record,
             registered_at = excluded.registered_at, expires_at = excluded.expires_at, revision = excluded.revision
           RETURNING *`,
          worker.id,
          worker.incarnation,
          strip(worker),
          registeredAt,
          now + ttlMs,
          database.next(counter),
        );
        return workerOf(row as Row);
      });
      changes.notify();
      return stored;
    },

    async beat(worker, ttlMs, now) {
      const record = strip(worker);
      const result = await commits.run(() => {
        const known = database.get("SELECT record, incarnation, expires_at FROM workers WHERE id = ?", worker.id);
        if (!known || known["incarnation"] !== worker.incarnation || Number(known["expires_at"]) <= now) return "lost";
        database.run("UPDATE workers SET expires_at = ? WHERE id = ?", now + ttlMs, worker.id);
        if (known["record"] === record) return "same";
        const next = database.next(counter);
        database.run("UPDATE workers SET record = ?, revision = ? WHERE id = ?", record, next, worker.id);
        return "changed";
      });
      if (result === "changed") changes.notify();
      return result !== "lost";
    },

    async remove(workerId, incarnation, _now) {
      const removed = database.transaction(() => {
        const count = database.run("DELETE FROM workers WHERE id = ? AND incarnation = ?", workerId, incarnation);
        if (count > 0) database.next(counter);
        return count > 0;
      });
      if (removed) changes.notify();
      return removed;
    },

    async list(now) {
      return database.transaction(() => ({
        workers: database.all("SELECT * FROM workers WHERE expires_at > ? ORDER BY id", now).map(workerOf),
        revision: revision(),
      }));
    },

    async prune(now) {
      const pruned = database.transaction(() => {
        const rows = database.all("DELETE FROM workers WHERE expires_at <= ? RETURNING id", now);
        if (rows.length > 0) database.next(counter);
        return rows.map((row) => String(row["id"]));
      });
      if (pruned.length > 0) changes.notify();
      return pruned;
    },
  };
}

function workerOf(row: Row): Worker {
  const worker = decode(WorkerSchema, row["record"]);
  worker.revision = BigInt(Number(row["revision"]));
  worker.registeredAt = timestampFromMs(Number(row["registered_at"]));
  worker.expiresAt = timestampFromMs(Number(row["expires_at"]));
  return worker;
}

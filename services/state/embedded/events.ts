// The fleet's event log: the newest ones, each with a revision.
import { create } from "@bufbuild/protobuf";
import { FleetEventSchema } from "#gen/drawbridge/v1/fleet_service";
import type { EventLog } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database } from "./database.ts";
import { decode, encode } from "../records.ts";

const keptMax = 10_000;

export function createEventLog(database: Database, changes: Changes): EventLog {
  return {
    onChange: changes.onChange,

    async append(event) {
      const revision = database.transaction(() => {
        const record = encode(FleetEventSchema, create(FleetEventSchema, event));
        const row = database.get("INSERT INTO events (record) VALUES (?) RETURNING revision", record);
        const appended = Number(row?.["revision"]);
        database.run("DELETE FROM events WHERE revision <= ?", appended - keptMax);
        return appended;
      });
      changes.notify();
      return revision;
    },

    async list(afterRevision, limit) {
      return database.transaction(() => {
        const rows = database.all(
          "SELECT * FROM events WHERE revision > ? ORDER BY revision LIMIT ?",
          afterRevision,
          limit,
        );
        const newest = database.get("SELECT max(revision) AS revision FROM events");
        const events = rows.map((row) => {
          const event = decode(FleetEventSchema, row["record"]);
          event.revision = BigInt(Number(row["revision"]));
          return event;
        });
        return { events, revision: Number(newest?.["revision"] ?? 0) };
      });
    },
  };
}

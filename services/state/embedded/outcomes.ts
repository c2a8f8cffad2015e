// What became of attempts, remembered for the sweeps.
import { OutcomeSchema } from "#gen/drawbridge/v1/usage";
import type { OutcomeStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database } from "./database.ts";
import type { GroupCommit } from "./group-commit.ts";
import { decode, encode } from "../records.ts";

/** Expired rows that one recording clears away at most. */
const clearLimit = 8;

export function createOutcomeStore(database: Database, commits: GroupCommit, changes: Changes): OutcomeStore {
  return {
    onChange: changes.onChange,

    async record(outcome, ttlMs, now) {
      const recorded = await commits.run(() => {
        database.run(
          "DELETE FROM outcomes WHERE attempt_id IN (SELECT attempt_id FROM outcomes WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
          now,
          clearLimit,
        );
        return database.run(
          "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?)",
          outcome.attemptId,
          outcome.requestId,
          outcome.content ? 1 : 0,
          encode(OutcomeSchema, outcome),
          now,
          now + ttlMs,
        );
      });
      if (recorded > 0) changes.notify();
    },

    async byAttempt({ attemptId }, now) {
      const row = database.get("SELECT record FROM outcomes WHERE attempt_id = ? AND expires_at > ?", attemptId, now);
      return row && decode(OutcomeSchema, row["record"]);
    },

    async finalOf(requestId, now) {
      const row = database.get(
        `SELECT record FROM outcomes WHERE request_id = ? AND content = 1 AND expires_at > ?
         ORDER BY recorded_at, attempt_id LIMIT 1`,
        requestId,
        now,
      );
      return row && decode(OutcomeSchema, row["record"]);
    },
  };
}

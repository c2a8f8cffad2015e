// Holds and the usage ledger.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import type { End, Usage, UsageEntry, UsageSource } from "#gen/drawbridge/v1/usage";
import { UsageEntrySchema } from "#gen/drawbridge/v1/usage";
import { budgetRoom } from "../budgets.ts";
import { holdCharge } from "../charges.ts";
import { checkAdmitRequest, checkSettleRequest } from "../checks.ts";
import { levelsAt, levelUnit, limitStatus, tighter } from "../limits.ts";
import { pagePosition, pageToken } from "../paging.ts";
import type { HoldRecord, Ledger, SettleRequest, UsageQuery } from "../state.ts";
import { admit } from "./admission.ts";
import { heldBudget, levelsOf, limitsOf, settleSpending, spendingOf } from "./spending.ts";
import type { Changes } from "./changes.ts";
import type { Database, Row } from "./database.ts";
import type { GroupCommit } from "./group-commit.ts";
import { addQuota, quotaOf } from "./quota.ts";
import { decode } from "../records.ts";

export function createLedger(database: Database, commits: GroupCommit, changes: Changes): Ledger {
  return {
    onChange: changes.onChange,

    async admit(request) {
      checkAdmitRequest(request);
      return await commits.run(() => admit(database, request));
    },

    async settle(request) {
      checkSettleRequest(request);
      const result = await commits.run(() => settle(database, request));
      if (result?.settled) changes.notify();
      return result;
    },

    async renew(holds, expiresAt) {
      if (holds.length === 0) return;
      await commits.run(() => {
        for (const { userId, requestId } of holds) {
          database.run(
            "UPDATE holds SET expires_at = ? WHERE request_id = ? AND user_id = ?",
            expiresAt,
            requestId,
            userId,
          );
        }
      });
    },

    expired: async (now, limit) =>
      database.all("SELECT * FROM holds WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", now, limit).map(holdOf),

    async hold(userId, requestId) {
      const row = database.get("SELECT * FROM holds WHERE request_id = ? AND user_id = ?", requestId, userId);
      return row && holdOf(row);
    },

    async limits(userId, tier, now, keyId) {
      const user = database.get("SELECT requests_level, tokens_level, levels_at FROM users WHERE id = ?", userId);
      const ofUser = limitStatus(levelsAt(user && levelsOf(user), tier, now), tier);
      const key = keyId === undefined ? undefined : database.get("SELECT * FROM api_keys WHERE id = ?", keyId);
      const limits = key && limitsOf(key);
      return limits ? tighter(ofUser, limitStatus(levelsAt(levelsOf(key), limits, now), limits)) : ofUser;
    },

    async quota(userId) {
      const user = database.get("SELECT granted, available, held, spent FROM users WHERE id = ?", userId);
      return user && quotaOf(user);
    },

    usage: async (query) => usage(database, query),

    async trim(before, limit) {
      return database.run(
        `DELETE FROM usage WHERE (user_id, request_id) IN
           (SELECT user_id, request_id FROM usage WHERE at < ? ORDER BY at LIMIT ?)`,
        before,
        limit,
      );
    },
  };
}

function settle(database: Database, request: SettleRequest): { settled: boolean; entry: UsageEntry } | undefined {
  const known = database.get(
    "SELECT * FROM usage WHERE request_id = ? AND user_id = ?",
    request.requestId,
    request.userId,
  );
  if (known) return { settled: false, entry: entryOf(known) };
  const hold = database.get(
    "DELETE FROM holds WHERE request_id = ? AND user_id = ? RETURNING *",
    request.requestId,
    request.userId,
  );
  if (!hold) return undefined;
  const charge = charged(database, hold, request);
  correctTokens(database, hold, request.usage);
  return { settled: true, entry: entryOf(append(database, hold, request, charge)) };
}

/** Moves money: the charge to spent, the rest of the hold back. */
function charged(database: Database, hold: Row, request: SettleRequest): number {
  const held = Number(hold["micros"]);
  const keyId = String(hold["key_id"]);
  const user = database.get("SELECT * FROM users WHERE id = ?", request.userId) ?? {};
  const key = database.get("SELECT * FROM api_keys WHERE id = ?", keyId) ?? {};
  const charge = holdCharge(
    request.costMicros,
    held,
    Number(user["available"]),
    budgetRoom(heldBudget(hold, "user"), held, spendingOf(user)),
    budgetRoom(heldBudget(hold, "key"), held, spendingOf(key)),
  );
  addQuota(database, request.userId, { available: held - charge, held: -held, spent: charge });
  database.run("UPDATE api_keys SET held = held - ?, spent = spent + ? WHERE id = ?", held, charge, keyId);
  settleSpending(database, "users", request.userId, heldBudget(hold, "user").period, held, charge);
  settleSpending(database, "api_keys", keyId, heldBudget(hold, "key").period, held, charge);
  return charge;
}

/** Gives back the tokens that were reserved and not used, or takes what was used beyond; a bucket may go into debt. */
function correctTokens(database: Database, hold: Row, used: Usage | undefined): void {
  const actual = used ? Number(used.inputTokens + used.outputTokens) : 0;
  const difference = (Number(hold["tokens"]) - actual) * levelUnit;
  for (const [table, id] of [
    ["users", hold["user_id"]],
    ["api_keys", hold["key_id"]],
  ] as const) {
    database.run(
      `UPDATE ${table} SET tokens_level = tokens_level + ? WHERE id = ? AND tokens_level IS NOT NULL`,
      difference,
      id ?? null,
    );
  }
}

function append(database: Database, hold: Row, request: SettleRequest, charge: number): Row {
  const used = request.usage;
  const row = database.get(
    `INSERT INTO usage (request_id, user_id, key_id, model, account_id, input_tokens, cached_input_tokens, output_tokens,
       reasoning_tokens, source, micros, millicredits, end, at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    request.requestId,
    request.userId,
    hold["key_id"] ?? null,
    hold["model"] ?? null,
    request.accountId,
    used ? Number(used.inputTokens) : null,
    used ? Number(used.cachedInputTokens) : null,
    used ? Number(used.outputTokens) : null,
    used ? Number(used.reasoningTokens) : null,
    used ? used.source : null,
    charge,
    request.millicredits,
    request.end,
    request.now,
  );
  return row as Row;
}

function usage(database: Database, query: UsageQuery): { entries: UsageEntry[]; nextPageToken: string } {
  const conditions: string[] = [];
  const values: (string | number)[] = [];
  const where = (condition: string, value: string | number | undefined) => {
    if (value === undefined) return;
    conditions.push(condition);
    values.push(value);
  };
  where("user_id = ?", query.userId);
  where("key_id = ?", query.keyId);
  where("model = ?", query.model);
  where("at >= ?", query.since);
  where("at < ?", query.until);
  if (query.pageToken) {
    const { at, requestId, userId } = pagePosition(query.pageToken);
    conditions.push("(at, request_id, user_id) < (?, ?, ?)");
    values.push(at, requestId, userId);
  }
  const filter = conditions.length > 0 ? `WHERE ${conditions.join(" AND ")}` : "";
  const order = "ORDER BY at DESC, request_id DESC, user_id DESC";
  const rows = database.all(`SELECT * FROM usage ${filter} ${order} LIMIT ?`, ...values, query.limit + 1);
  const page = rows.slice(0, query.limit);
  const last = page.at(-1);
  return {
    entries: page.map(entryOf),
    nextPageToken:
      rows.length > page.length && last
        ? pageToken({
            at: Number(last["at"]),
            requestId: String(last["request_id"]),
            userId: String(last["user_id"]),
          })
        : "",
  };
}

function holdOf(row: Row): HoldRecord {
  return {
    requestId: String(row["request_id"]),
    userId: String(row["user_id"]),
    keyId: String(row["key_id"]),
    model: String(row["model"]),
    holdMicros: Number(row["micros"]),
    tokens: Number(row["tokens"]),
    price: row["price"] == null ? undefined : decode(PriceSchema, row["price"]),
    createdAt: Number(row["created_at"]),
    expiresAt: Number(row["expires_at"]),
  };
}

function entryOf(row: Row): UsageEntry {
  const count = (name: string) => BigInt(Number(row[name] ?? 0));
  return create(UsageEntrySchema, {
    requestId: String(row["request_id"]),
    userId: String(row["user_id"]),
    keyId: String(row["key_id"]),
    model: String(row["model"]),
    accountId: String(row["account_id"]),
    ...(row["source"] == null
      ? {}
      : {
          usage: {
            inputTokens: count("input_tokens"),
            cachedInputTokens: count("cached_input_tokens"),
            outputTokens: count("output_tokens"),
            reasoningTokens: count("reasoning_tokens"),
            source: Number(row["source"]) as UsageSource,
          },
        }),
    costMicros: count("micros"),
    millicredits: count("millicredits"),
    end: Number(row["end"]) as End,
    at: timestampFromMs(Number(row["at"])),
  });
}

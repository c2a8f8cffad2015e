// Users, and their quota.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type BudgetWindow, type User, UserSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { budgetMessage } from "../budgets.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccessStore } from "../state.ts";
import type { Changed } from "./changes.ts";
import { type Database, type Row, updateColumns } from "./database.ts";
import { addQuota, quotaOf } from "./quota.ts";
import { spendingOf } from "./spending.ts";

export function createUserStore(database: Database, changed: Changed) {
  return {
    async createUser(user, now) {
      checkId("The user's id", user.id);
      checkAmount("quotaMicros", user.quotaMicros);
      if (user.budget) checkAmount("budget", user.budget.micros);
      return changed(() => {
        if (database.get("SELECT 1 FROM users WHERE id = ?", user.id)) {
          throw new DrawbridgeError("ALREADY_EXISTS", `There is a user "${user.id}" already, or was one.`);
        }
        database.run(
          `INSERT INTO users (id, tier, granted, available, held, spent, budget, budget_window, created_at)
           VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?)`,
          user.id,
          user.tier,
          user.quotaMicros,
          user.quotaMicros,
          user.budget?.micros ?? null,
          user.budget?.window ?? 1,
          now,
        );
        return needUser(database, user.id);
      });
    },

    getUser: async (id) => findUser(database, id),

    listUsers: async (afterId, limit) =>
      database
        .all("SELECT * FROM users WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?", afterId, limit)
        .map(userOf),

    async updateUser(id, changes) {
      if (changes.budget) checkAmount("budget", changes.budget.micros);
      return changed(() => {
        needUser(database, id);
        updateColumns(database, "users", id, {
          ...("tier" in changes ? { tier: changes.tier ?? "" } : {}),
          ...("disabled" in changes ? { disabled: changes.disabled ? 1 : 0 } : {}),
          ...("budget" in changes
            ? { budget: changes.budget?.micros ?? null, budget_window: changes.budget?.window ?? 1 }
            : {}),
        });
        return needUser(database, id);
      });
    },

    deleteUser: async (id, now) =>
      changed(() => {
        needUser(database, id);
        database.run("UPDATE users SET deleted_at = ? WHERE id = ?", now, id);
        database.run("UPDATE api_keys SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", now, id);
      }),

    async grantQuota(userId, grantId, micros, now) {
      checkAmount("micros", micros);
      return changed(() => {
        needUser(database, userId);
        grantOnce(database, { userId, grantId, micros, now });
        return needUser(database, userId);
      });
    },
  } satisfies Partial<AccessStore>;
}

function findUser(database: Database, id: string): User | undefined {
  const row = database.get("SELECT * FROM users WHERE id = ? AND deleted_at IS NULL", id);
  return row && userOf(row);
}

export function needUser(database: Database, id: string): User {
  const user = findUser(database, id);
  if (!user) throw new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
  return user;
}

interface Grant {
  readonly userId: string;
  readonly grantId: string;
  readonly micros: number;
  readonly now: number;
}

/** Runs inside a transaction. */
export function grantOnce(database: Database, { userId, grantId, micros, now }: Grant): void {
  const fresh = database.run("INSERT OR IGNORE INTO quota_grants VALUES (?, ?, ?)", userId, grantId, now) > 0;
  if (fresh) addQuota(database, userId, { granted: micros, available: micros });
}

function userOf(row: Row): User {
  const terms =
    row["budget"] == null
      ? undefined
      : { micros: Number(row["budget"]), window: Number(row["budget_window"]) as BudgetWindow };
  return create(UserSchema, {
    id: String(row["id"]),
    tier: String(row["tier"]),
    quota: quotaOf(row),
    createdAt: timestampFromMs(Number(row["created_at"])),
    disabled: Number(row["disabled"]) === 1,
    ...(terms ? { budget: budgetMessage(terms, spendingOf(row)) } : {}),
  });
}

// Users, and their quota.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type BudgetWindow,
  type QuotaBalance,
  QuotaBalanceSchema,
  type User,
  UserSchema,
} from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { budgetMessage, type BudgetTerms, type Spending } from "../budgets.ts";
import { checkAmount, checkId, maxAmount, tooMuchGranted } from "../checks.ts";
import type { AccessStore } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { Context, ObservedContext } from "./context.ts";
import { listById } from "./pages.ts";
import { fields, text } from "./replies.ts";

type UserStore = Pick<AccessStore, "createUser" | "getUser" | "listUsers" | "updateUser" | "deleteUser" | "grantQuota">;

export function createUserStore(context: ObservedContext): UserStore {
  const { connection, keys, changes } = context;
  const getUser = (id: string) => readUser(context, id);
  return {
    async createUser(user, now) {
      checkId("The user's id", user.id);
      checkAmount("quotaMicros", user.quotaMicros);
      if (user.budget) checkAmount("budget", user.budget.micros);
      // First the list: a name in it without a user is skipped, a user who is not in it would be lost.
      await connection.command("ZADD", keys.users, 0, user.id);
      const more = budgetFields(user.budget).set;
      const created = await connection.script(
        "create-user",
        [keys.user(user.id)],
        [user.tier, user.quotaMicros, now, ...more],
      );
      if (text(created) !== "1") {
        throw new DrawbridgeError("ALREADY_EXISTS", `There is a user "${user.id}" already, or was one.`);
      }
      changes.notify();
      return needUser(context, user.id);
    },

    getUser,

    listUsers: (afterId, limit) =>
      listById(connection, keys.users, { afterId, limit }, (ids) => Promise.all(ids.map(getUser))),

    async updateUser(id, { tier, disabled, ...changed }) {
      if (changed.budget) checkAmount("budget", changed.budget.micros);
      await updateRecord(context, keys.user(id), () => noUser(id), [
        ...(tier === undefined ? [] : [{ set: ["tier", tier], remove: [] }]),
        ...(disabled === undefined ? [] : [{ set: ["disabled", disabled ? 1 : 0], remove: [] }]),
        ...("budget" in changed ? [budgetFields(changed.budget)] : []),
      ]);
      return needUser(context, id);
    },

    async deleteUser(id, now) {
      const userKeys = [keys.user(id), keys.userKeys(id)];
      if (text(await connection.script("delete-user", userKeys, [now, keys.key(id, "")])) !== "1") throw noUser(id);
      changes.notify();
    },

    async grantQuota(userId, grantId, micros, _now) {
      checkAmount("micros", micros);
      await grantQuota(context, userId, grantId, micros);
      return needUser(context, userId);
    },
  };
}

function noUser(id: string): DrawbridgeError {
  return new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
}

async function readUser({ connection, keys }: Context, id: string): Promise<User | undefined> {
  const stored = fields(await connection.command("HGETALL", keys.user(id)));
  return stored.has("tier") && !stored.has("deleted_at") ? userOf(id, stored) : undefined;
}

export async function needUser(context: Context, id: string): Promise<User> {
  const user = await readUser(context, id);
  if (!user) throw noUser(id);
  return user;
}

/** Grants once for each grant id; whether this call did. NOT_FOUND, INVALID_ARGUMENT. */
export async function grantQuota(
  { connection, keys, changes }: ObservedContext,
  userId: string,
  grantId: string,
  micros: number,
): Promise<boolean> {
  const grantKeys = [keys.user(userId), keys.quotaGrants(userId)];
  const verdict = await connection.script("grant-quota", grantKeys, [grantId, micros, maxAmount]);
  if (verdict === "missing") throw noUser(userId);
  if (verdict === "too much") throw tooMuchGranted(`User "${userId}"`);
  changes.notify();
  return verdict === "granted";
}

/** Fields of a record to set, with their values, and fields to delete. */
export interface FieldChanges {
  readonly set: readonly Argument[];
  readonly remove: readonly string[];
}

export function budgetFields(budget: BudgetTerms | undefined): FieldChanges {
  if (!budget) return { set: [], remove: ["budget", "window"] };
  return { set: ["budget", budget.micros, "window", budget.window || 1], remove: [] };
}

/** Changes a user or a key. Throws `missing()` where there is none. */
export async function updateRecord(
  { connection, changes }: ObservedContext,
  record: string,
  missing: () => DrawbridgeError,
  updates: readonly FieldChanges[],
): Promise<void> {
  const set = updates.flatMap((update) => update.set);
  const remove = updates.flatMap((update) => update.remove);
  const updated = await connection.script("update-record", [record], [set.length, ...set, ...remove]);
  if (text(updated) !== "1") throw missing();
  changes.notify();
}

/** What a user's or a key's record says of its budget. */
export function budgetTermsOf(stored: ReadonlyMap<string, string>): BudgetTerms | undefined {
  const budget = stored.get("budget");
  return budget === undefined
    ? undefined
    : { micros: Number(budget), window: Number(stored.get("window") ?? 1) as BudgetWindow };
}

export function spendingOf(stored: ReadonlyMap<string, string>): Spending {
  return {
    spent: Number(stored.get("spent") ?? 0),
    held: Number(stored.get("held") ?? 0),
    period: stored.get("period") ?? "",
    periodSpent: Number(stored.get("period_spent") ?? 0),
    periodHeld: Number(stored.get("period_held") ?? 0),
  };
}

function userOf(id: string, stored: ReadonlyMap<string, string>): User {
  const terms = budgetTermsOf(stored);
  return create(UserSchema, {
    id,
    tier: stored.get("tier") ?? "",
    quota: quotaOf(["granted", "available", "held", "spent"].map((name) => stored.get(name))),
    createdAt: timestampFromMs(Number(stored.get("created_at"))),
    disabled: stored.get("disabled") === "1",
    ...(terms ? { budget: budgetMessage(terms, spendingOf(stored)) } : {}),
  });
}

/** granted, available, held, spent */
export function quotaOf(amounts: readonly (string | undefined)[]): QuotaBalance {
  const [granted = 0n, available = 0n, held = 0n, spent = 0n] = amounts.map((amount) => BigInt(amount ?? 0));
  return create(QuotaBalanceSchema, { granted, available, held, spent });
}

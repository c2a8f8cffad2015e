// Accounts: the desired state, its conditions, and grants of credits.
import { clone, create, equals, fromJson, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Account, AccountSchema, AccountSpecSchema, ConditionSchema } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId } from "../checks.ts";
import type { AccountStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import { addCredits, creditsOf } from "./credits.ts";
import type { Database, Row } from "./database.ts";
import { decode, encode } from "../records.ts";

export function createAccountStore(database: Database, changes: Changes): AccountStore {
  const find = (id: string): Account | undefined => {
    const row = database.get("SELECT * FROM accounts WHERE id = ?", id);
    return row && accountOf(database, row);
  };
  const need = (id: string, revision: number): Account => {
    const account = find(id);
    if (!account) throw new DrawbridgeError("NOT_FOUND", `There is no account "${id}".`);
    if (revision !== 0 && account.revision !== BigInt(revision)) {
      throw new DrawbridgeError(
        "REVISION_CONFLICT",
        `Account "${id}" has changed since it was read (revision ${account.revision}, not ${revision}). Read it again.`,
      );
    }
    return account;
  };
  const makeAvailable = (id: string, available: number) => {
    const difference = available - Number(creditsOf(database, id).available);
    return addCredits(database, id, { granted: difference, available: difference });
  };
  const changed = <T>(work: () => T): T => {
    const result = database.transaction(work);
    changes.notify();
    return result;
  };

  return {
    onChange: changes.onChange,

    async create(spec, managedBy, now) {
      const initial = Number(spec.initialMillicredits);
      checkId("The account's id", spec.id);
      checkAmount("initial_millicredits", initial);
      return changed(() => {
        if (find(spec.id)) throw new DrawbridgeError("ALREADY_EXISTS", `There is an account "${spec.id}" already.`);
        database.run(
          "INSERT INTO accounts (id, spec, generation, revision, managed_by, created_at) VALUES (?, ?, 1, ?, ?, ?)",
          spec.id,
          encode(AccountSpecSchema, spec),
          database.next("accounts"),
          managedBy,
          now,
        );
        makeAvailable(spec.id, initial);
        return need(spec.id, 0);
      });
    },

    get: async (id) => find(id),

    list: async () => database.all("SELECT * FROM accounts ORDER BY id").map((row) => accountOf(database, row)),

    update: async (spec, revision, _now) =>
      changed(() => {
        const account = need(spec.id, revision);
        if (account.spec && equals(AccountSpecSchema, account.spec, spec)) return account;
        database.run(
          "UPDATE accounts SET spec = ?, generation = generation + 1, revision = ? WHERE id = ?",
          encode(AccountSpecSchema, clone(AccountSpecSchema, spec)),
          database.next("accounts"),
          spec.id,
        );
        return need(spec.id, 0);
      }),

    remove: async (id, revision, _now) =>
      changed(() => {
        need(id, revision);
        database.run("DELETE FROM accounts WHERE id = ?", id);
      }),

    async setConditions(id, conditions, _now) {
      const json = JSON.stringify(conditions.map((each) => toJson(ConditionSchema, each)));
      database.run("UPDATE accounts SET conditions = ? WHERE id = ?", json, id);
    },

    async grant(id, grantId, millicredits, now) {
      checkAmount("millicredits", millicredits);
      return changed(() => {
        need(id, 0);
        const fresh = database.run("INSERT OR IGNORE INTO credit_grants VALUES (?, ?, ?)", id, grantId, now) > 0;
        if (!fresh) return creditsOf(database, id);
        return addCredits(database, id, { granted: millicredits, available: millicredits });
      });
    },

    async setAvailable(id, available, _now) {
      checkAmount("available", available);
      return changed(() => {
        need(id, 0);
        return makeAvailable(id, available);
      });
    },
  };
}

function accountOf(database: Database, row: Row): Account {
  const id = String(row["id"]);
  const conditions = JSON.parse(String(row["conditions"])) as unknown[];
  return create(AccountSchema, {
    spec: decode(AccountSpecSchema, row["spec"]),
    generation: BigInt(Number(row["generation"])),
    revision: BigInt(Number(row["revision"])),
    credits: creditsOf(database, id),
    conditions: conditions.map((each) => fromJson(ConditionSchema, each as never, { ignoreUnknownFields: true })),
    managedBy: String(row["managed_by"]),
    createdAt: timestampFromMs(Number(row["created_at"])),
  });
}

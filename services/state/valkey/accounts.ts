// Accounts: the desired state, its conditions, and grants of credits. An account's keys share a slot.
import { create, equals, toJson } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Account,
  AccountSchema,
  type AccountSpec,
  AccountSpecSchema,
  ConditionSchema,
  type CreditBalance,
  CreditBalanceSchema,
} from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { checkAmount, checkId, maxAmount, tooMuchGranted } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import { decodeValue } from "../records.ts";
import type { AccountStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { text, texts } from "./replies.ts";

/** What `account:{id}` holds, beside the specification. */
interface AccountRecord {
  readonly spec: unknown;
  readonly generation: number;
  readonly managedBy: string;
  readonly createdAt: number;
}

export function createAccountStore(context: ObservedContext): AccountStore {
  const { connection, keys, changes } = context;
  const read = async (id: string): Promise<Account | undefined> => {
    const reply = await connection.script("read-account", accountKeys(context, id), []);
    return reply === null ? undefined : accountOf(texts(reply));
  };
  const need = async (id: string): Promise<Account> => {
    const account = await read(id);
    if (!account) throw notFound(id);
    return account;
  };
  /** A changed balance, or the refusal to change it. */
  const balance = (id: string, reply: unknown): CreditBalance => {
    if (reply === "missing") throw notFound(id);
    if (reply === "too much") throw tooMuchGranted(`Account "${id}"`);
    changes.notify();
    return balanceOf(texts(reply));
  };

  return {
    onChange: changes.onChange,

    async create(spec, managedBy, now) {
      const initial = Number(spec.initialMillicredits);
      checkId("The account's id", spec.id);
      checkAmount("initial_millicredits", initial);
      // First the list: a name in it without an account is skipped, an account that is not in it would be lost.
      await connection.command("SADD", keys.accounts, spec.id);
      const record = recordOf(spec, { generation: 1, managedBy, createdAt: now });
      const args = [record, gateOf(spec), initial, maxAmount];
      const verdict = await connection.script("create-account", accountKeys(context, spec.id), args);
      if (verdict === "too much") throw tooMuchGranted(`Account "${spec.id}"`);
      if (verdict !== "created") {
        throw new DrawbridgeError("ALREADY_EXISTS", `There is an account "${spec.id}" already.`);
      }
      changes.notify();
      return need(spec.id);
    },

    get: read,

    async list() {
      const ids = texts(await connection.command("SMEMBERS", keys.accounts)).map((id) => id ?? "");
      const accounts = await Promise.all(ids.toSorted(compareBytes).map(read));
      return accounts.filter((account) => account !== undefined);
    },

    async update(spec, revision, _now) {
      for (;;) {
        const account = await need(spec.id);
        if (revision !== 0 && account.revision !== BigInt(revision)) throw conflict(spec.id, revision);
        if (account.spec && equals(AccountSpecSchema, account.spec, spec)) return account;
        const record = recordOf(spec, {
          generation: Number(account.generation) + 1,
          managedBy: account.managedBy,
          createdAt: account.createdAt ? timestampMs(account.createdAt) : 0,
        });
        const args = [String(account.revision), record, gateOf(spec)];
        const verdict = await connection.script("update-account", [keys.account(spec.id), keys.books(spec.id)], args);
        if (verdict === "missing") throw notFound(spec.id);
        // Somebody wrote between reading and writing: read again, unless the caller named what they had read.
        if (verdict === "conflict" && revision === 0) continue;
        if (verdict === "conflict") throw conflict(spec.id, revision);
        changes.notify();
        return need(spec.id);
      }
    },

    async remove(id, revision, _now) {
      const accountsKeys = [keys.account(id), keys.books(id), keys.conditions(id)];
      const verdict = await connection.script("remove-account", accountsKeys, [revision]);
      if (verdict === "missing") throw notFound(id);
      if (verdict === "conflict") throw conflict(id, revision);
      changes.notify();
    },

    async setConditions(id, conditions, _now) {
      const json = JSON.stringify(conditions.map((each) => toJson(ConditionSchema, each)));
      await connection.script("set-conditions", [keys.account(id), keys.conditions(id)], [json]);
    },

    async grant(id, grantId, millicredits, _now) {
      checkAmount("millicredits", millicredits);
      const grantKeys = [keys.account(id), keys.books(id), keys.credits(id), keys.creditGrants(id)];
      return balance(id, await connection.script("grant-credits", grantKeys, [grantId, millicredits, maxAmount]));
    },

    async setAvailable(id, available, _now) {
      checkAmount("available", available);
      const creditKeys = [keys.account(id), keys.books(id), keys.credits(id)];
      return balance(id, await connection.script("set-credits", creditKeys, [available, maxAmount]));
    },
  };
}

function accountKeys({ keys }: ObservedContext, id: string): string[] {
  return [keys.account(id), keys.books(id), keys.credits(id), keys.conditions(id)];
}

function notFound(id: string): DrawbridgeError {
  return new DrawbridgeError("NOT_FOUND", `There is no account "${id}".`);
}

function conflict(id: string, revision: number): DrawbridgeError {
  return new DrawbridgeError(
    "REVISION_CONFLICT",
    `Account "${id}" has changed since it was read (revision ${revision}). Read it again.`,
  );
}

/** What leases look at: whether the account takes any. */
function gateOf(spec: AccountSpec): "open" | "drained" {
  return spec.drained ? "drained" : "open";
}

function recordOf(spec: AccountSpec, rest: Omit<AccountRecord, "spec">): string {
  return JSON.stringify({ spec: toJson(AccountSpecSchema, spec), ...rest });
}

function accountOf(reply: readonly (string | undefined)[]): Account {
  const [json = "", conditions, revision, ...amounts] = reply;
  const record = JSON.parse(json) as AccountRecord;
  return create(AccountSchema, {
    spec: decodeValue(AccountSpecSchema, record.spec),
    generation: BigInt(record.generation),
    revision: BigInt(revision ?? 0),
    credits: balanceOf(amounts),
    conditions: conditions
      ? (JSON.parse(conditions) as unknown[]).map((each) => decodeValue(ConditionSchema, each))
      : [],
    managedBy: record.managedBy,
    createdAt: timestampFromMs(record.createdAt),
  });
}

/** granted, available, held, spent */
export function balanceOf(amounts: readonly (string | undefined)[]): CreditBalance {
  const [granted, available, held, spent] = amounts.map((amount) => BigInt(text(amount) ?? 0));
  return create(CreditBalanceSchema, {
    granted: granted ?? 0n,
    available: available ?? 0n,
    held: held ?? 0n,
    spent: spent ?? 0n,
  });
}

// Rules about specifications that concern more than one field, and what becomes of accounts when specifications are applied. Pure.
import { clone, create, equals } from "@bufbuild/protobuf";
import {
  type Account,
  AccountSchema,
  type AccountSpec,
  AccountSpecSchema,
  CreditBalanceSchema,
} from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../kit/errors.ts";
import { isPlainSecret, secretReference } from "./secrets.ts";

/**
 * INVALID_ARGUMENT, with the known names, for an account whose agent nobody knows; for bounds that contradict each other; and for a secret that is
 * written out.
 */
export function checkSpec({ id, agent, workers, env }: AccountSpec, profiles: readonly string[]): void {
  if (!profiles.includes(agent)) {
    const known = [...new Set(profiles)].sort().join(", ");
    throw new DrawbridgeError(
      "INVALID_ARGUMENT",
      `Account ${id}: there is no agent "${agent}". Known are ${known}; others are defined under "agents" of the controller's configuration.`,
    );
  }
  if (workers && workers.min > workers.max) {
    throw new DrawbridgeError(
      "INVALID_ARGUMENT",
      `Account ${id}: workers.min is ${workers.min} and workers.max is ${workers.max}. Let min be at most max.`,
    );
  }
  for (const [name, { source }] of Object.entries(env)) {
    if (source.case !== "value" || !isPlainSecret(name, source.value)) continue;
    const message = `Account ${id}: env.${name} is a secret, and those are never stored. Refer to it: ${secretReference}.`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message);
  }
}

/** INVALID_ARGUMENT if two specifications have the same id. */
export function checkUnique(specs: readonly AccountSpec[]): void {
  const seen = new Set<string>();
  for (const { id } of specs) {
    if (seen.has(id))
      throw new DrawbridgeError("INVALID_ARGUMENT", `Account ${id} stands there twice. Keep one of them.`);
    seen.add(id);
  }
}

/** Fields by their names in the contract. */
const fieldsByName = new Map(AccountSpecSchema.fields.map((field) => [field.name, field]));
const changeable = [...fieldsByName.keys()].filter((name) => name !== "id");

/** The present specification with the fields of another one that the mask names; no mask: the other one. */
export function mergeSpec(
  present: AccountSpec,
  changes: AccountSpec,
  mask: readonly string[] | undefined,
): AccountSpec {
  if (mask === undefined || mask.length === 0) return changes;
  const merged = clone(AccountSpecSchema, present);
  for (const path of mask) {
    if (!changeable.includes(path)) {
      throw new DrawbridgeError(
        "INVALID_ARGUMENT",
        `update_mask: "${path}" cannot be changed. Fields that can: ${changeable.join(", ")}.`,
      );
    }
    const name = fieldsByName.get(path)?.localName as Exclude<keyof AccountSpec, "$typeName" | "$unknown">;
    Object.assign(merged, { [name]: changes[name] });
  }
  return merged;
}

export interface ApplyChanges {
  readonly created: readonly AccountSpec[];
  readonly updated: readonly AccountSpec[];
  readonly deleted: readonly string[];
  readonly unchanged: readonly string[];
  /** Accounts of these names are managed through the API, and stay as they are. */
  readonly conflicting: readonly string[];
}

/** What makes the accounts that are managed by "file" exactly these. */
export function changesFor(present: readonly Account[], specs: readonly AccountSpec[]): ApplyChanges {
  const accounts = new Map(present.map((account) => [account.spec?.id ?? "", account]));
  const wanted = new Set(specs.map(({ id }) => id));
  const known = specs.filter(({ id }) => accounts.has(id));
  const conflicting = known.filter(({ id }) => accounts.get(id)?.managedBy !== "file").map(({ id }) => id);
  const ours = known.filter(({ id }) => !conflicting.includes(id));
  const isUnchanged = (spec: AccountSpec) => {
    const before = accounts.get(spec.id)?.spec;
    return before !== undefined && equals(AccountSpecSchema, before, spec);
  };
  return {
    created: specs.filter(({ id }) => !accounts.has(id)),
    updated: ours.filter((spec) => !isUnchanged(spec)),
    deleted: present
      .filter(({ managedBy, spec }) => managedBy === "file" && !wanted.has(spec?.id ?? ""))
      .map(({ spec }) => spec?.id ?? ""),
    unchanged: ours.filter(isUnchanged).map(({ id }) => id),
    conflicting,
  };
}

/** The accounts as they would be after that. */
export function hypotheticalAccounts(present: readonly Account[], specs: readonly AccountSpec[]): Account[] {
  const { created, updated, deleted } = changesFor(present, specs);
  const changed = new Map(updated.map((spec) => [spec.id, spec]));
  const kept = present
    .filter(({ spec }) => !deleted.includes(spec?.id ?? ""))
    .map((account) => {
      const spec = changed.get(account.spec?.id ?? "");
      return spec ? create(AccountSchema, { ...account, spec, generation: account.generation + 1n }) : account;
    });
  return [...kept, ...created.map(newAccount)].toSorted((a, b) => ((a.spec?.id ?? "") < (b.spec?.id ?? "") ? -1 : 1));
}

function newAccount(spec: AccountSpec): Account {
  const granted = spec.initialMillicredits;
  const credits = create(CreditBalanceSchema, { granted, available: granted });
  return create(AccountSchema, { spec, generation: 1n, revision: 0n, credits, managedBy: "file" });
}

// Makes the accounts that are managed by "file" exactly those of a file.
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { State } from "../state/state.ts";
import type { Events } from "./events.ts";
import { changesFor, checkSpec, checkUnique } from "./specs.ts";

export interface ApplyAccountsOptions {
  readonly state: State;
  readonly clock: Clock;
  readonly events: Events;
  readonly profiles: readonly string[];
  /** An account of that id is managed through the API: refuse everything (ALREADY_EXISTS), or leave that account as it is. */
  readonly conflicts: "refuse" | "skip";
}

export interface AppliedAccounts {
  readonly created: string[];
  readonly updated: string[];
  readonly deleted: string[];
  readonly unchanged: string[];
  /** Left as they are. */
  readonly skipped: string[];
}

/** Everything is checked before anything is written; what is written may be repeated. */
export async function applyAccounts(
  specs: readonly AccountSpec[],
  { state, clock, events, profiles, conflicts }: ApplyAccountsOptions,
): Promise<AppliedAccounts> {
  checkUnique(specs);
  for (const spec of specs) checkSpec(spec, profiles);
  const changes = changesFor(await state.accounts.list(), specs);
  if (conflicts === "refuse" && changes.conflicting.length > 0) {
    throw new DrawbridgeError(
      "ALREADY_EXISTS",
      `Accounts that are managed through the API: ${changes.conflicting.join(", ")}. Delete them first, or take them out of the file.`,
    );
  }
  for (const spec of changes.created) {
    await state.accounts.create(spec, "file", clock.now());
    events.record("AccountCreated", "The account is new in the file.", { accountId: spec.id });
  }
  for (const spec of changes.updated) {
    await state.accounts.update(spec, 0, clock.now());
    events.record("AccountUpdated", "The account has changed in the file.", { accountId: spec.id });
  }
  for (const id of changes.deleted) {
    await state.accounts.remove(id, 0, clock.now());
    events.record("AccountDeleted", "The account is not in the file any more; its workers drain.", { accountId: id });
  }
  return {
    created: changes.created.map(({ id }) => id),
    updated: changes.updated.map(({ id }) => id),
    deleted: [...changes.deleted],
    unchanged: [...changes.unchanged],
    skipped: [...changes.conflicting],
  };
}

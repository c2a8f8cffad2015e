// Makes the accounts that are managed by "file" exactly those of a file.
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { State } from "../state/state.ts";
import type { Events } from "./events.ts";
import { type ApplyChanges, changesFor, checkSpec, checkUnique } from "./specs.ts";

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

/** Each lost race means that somebody else has changed one of the accounts. */
const triesMax = 10;

/** Everything is checked before anything is written; what is written may be repeated. Others may apply the same file at the same time. */
export async function applyAccounts(
  specs: readonly AccountSpec[],
  options: ApplyAccountsOptions,
): Promise<AppliedAccounts> {
  checkUnique(specs);
  for (const spec of specs) checkSpec(spec, options.profiles);
  const done: Done = { created: [], updated: [], deleted: [] };
  for (let tries = 1; ; tries++) {
    const changes = changesFor(await options.state.accounts.list(), specs);
    if (options.conflicts === "refuse" && changes.conflicting.length > 0) {
      throw new DrawbridgeError(
        "ALREADY_EXISTS",
        `Accounts that are managed through the API: ${changes.conflicting.join(", ")}. Delete them first, or take them out of the file.`,
      );
    }
    try {
      await carryOut(changes, done, options);
    } catch (error) {
      if (tries < triesMax && isRace(error)) continue;
      throw error;
    }
    const changed = new Set([...done.created, ...done.updated]);
    return {
      ...done,
      unchanged: changes.unchanged.filter((id) => !changed.has(id)),
      skipped: [...changes.conflicting],
    };
  }
}

type Done = Pick<AppliedAccounts, "created" | "updated" | "deleted">;

async function carryOut(
  changes: ApplyChanges,
  done: Done,
  { state, clock, events }: ApplyAccountsOptions,
): Promise<void> {
  for (const spec of changes.created) {
    await state.accounts.create(spec, "file", clock.now());
    done.created.push(spec.id);
    events.record("AccountCreated", "The account is new in the file.", { accountId: spec.id });
  }
  for (const spec of changes.updated) {
    await state.accounts.update(spec, 0, clock.now());
    done.updated.push(spec.id);
    events.record("AccountUpdated", "The account has changed in the file.", { accountId: spec.id });
  }
  for (const id of changes.deleted) {
    await state.accounts.remove(id, 0, clock.now());
    done.deleted.push(id);
    events.record("AccountDeleted", "The account is not in the file any more; its workers drain.", { accountId: id });
  }
}

/** Somebody else created or deleted one of them between the look and the change. */
function isRace(error: unknown): boolean {
  return error instanceof DrawbridgeError && (error.reason === "ALREADY_EXISTS" || error.reason === "NOT_FOUND");
}

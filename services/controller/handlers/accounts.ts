// FleetService: accounts.
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { applyAccounts } from "../apply-accounts.ts";
import { checkSpec, mergeSpec } from "../specs.ts";
import { accountNotFound, readAccount, readAccounts } from "./account-records.ts";
import type { HandlerDependencies } from "./dependencies.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";
import { pageTokenAfter, readPageToken } from "./page-token.ts";

const pageSizeDefault = 1_000;

type AccountMethods =
  | "createAccount"
  | "getAccount"
  | "listAccounts"
  | "updateAccount"
  | "deleteAccount"
  | "applyAccounts";

export function accountHandlers(dependencies: HandlerDependencies): Pick<FleetHandlers, AccountMethods> {
  const { state, clock, events, profiles } = dependencies;
  return {
    async createAccount(request) {
      const spec = required(request.spec);
      checkSpec(spec, profiles);
      await state.accounts.create(spec, "api", clock.now());
      events.record("AccountCreated", "The account was created through the API.", { accountId: spec.id });
      return { account: await readAccount(spec.id, dependencies) };
    },

    async getAccount({ id }) {
      return { account: await readAccount(id, dependencies) };
    },

    async listAccounts({ pageSize, pageToken }) {
      const after = readPageToken(pageToken);
      const rest = (await readAccounts(dependencies)).filter(({ spec }) => (spec?.id ?? "") > after);
      const accounts = rest.slice(0, pageSize || pageSizeDefault);
      const last = accounts.at(-1)?.spec?.id;
      const nextPageToken = last !== undefined && rest.length > accounts.length ? pageTokenAfter(last) : "";
      return { accounts, nextPageToken };
    },

    async updateAccount(request) {
      const changes = required(request.spec);
      const present = await state.accounts.get(changes.id);
      if (!present?.spec) throw accountNotFound(changes.id);
      const spec = mergeSpec(present.spec, changes, request.updateMask?.paths);
      checkSpec(spec, profiles);
      // A masked change is made of what was read, so it must not overwrite what came in between.
      const revision = request.revision === 0n && request.updateMask ? present.revision : request.revision;
      await state.accounts.update(spec, Number(revision), clock.now());
      events.record("AccountUpdated", "The account was changed through the API.", { accountId: spec.id });
      return { account: await readAccount(spec.id, dependencies) };
    },

    async deleteAccount({ id, revision }) {
      await state.accounts.remove(id, Number(revision), clock.now());
      events.record("AccountDeleted", "The account was deleted through the API; its workers drain.", { accountId: id });
      return {};
    },

    async applyAccounts({ specs }) {
      return await applyAccounts(specs, { ...dependencies, conflicts: "refuse" });
    },
  };
}

function required(spec: AccountSpec | undefined): AccountSpec {
  if (spec) return spec;
  throw new DrawbridgeError("INVALID_ARGUMENT", "spec: a value is required.");
}

// Accounts as the contract shows them: the stored record, with breaker and workers filled in.
import { create } from "@bufbuild/protobuf";
import { type Account, AccountSchema, type Breaker } from "#gen/drawbridge/v1/account";
import type { Worker } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { HandlerDependencies } from "./dependencies.ts";

export function completeAccount(account: Account, breaker: Breaker | undefined, workers: readonly Worker[]): Account {
  const id = account.spec?.id ?? "";
  const workerIds = workers
    .filter(({ pools }) => pools.some(({ accountId }) => accountId === id))
    .map((each) => each.id);
  return create(AccountSchema, { ...account, workerIds, ...(breaker ? { breaker } : {}) });
}

/** NOT_FOUND. */
export async function readAccount(id: string, { state, view }: HandlerDependencies): Promise<Account> {
  const [account, breaker] = await Promise.all([state.accounts.get(id), state.breakers.get(id)]);
  if (!account) throw accountNotFound(id);
  return completeAccount(account, breaker, view.list());
}

/** All, by id. */
export async function readAccounts({ state, view }: HandlerDependencies): Promise<Account[]> {
  const [accounts, breakers] = await Promise.all([state.accounts.list(), state.breakers.list()]);
  const byAccount = new Map(breakers.map((breaker) => [breaker.accountId, breaker]));
  const workers = view.list();
  return accounts.map((account) => completeAccount(account, byAccount.get(account.spec?.id ?? ""), workers));
}

export function accountNotFound(id: string): DrawbridgeError {
  return new DrawbridgeError(
    "NOT_FOUND",
    `There is no account ${id}. \`drawbridge account list\` shows those that are there.`,
  );
}

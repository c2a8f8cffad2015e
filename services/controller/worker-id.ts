// Names of workers: the account's id and a number, safe in file names, host names and process lists. Pure.
import { createHash } from "node:crypto";

const lengthMax = 80;

/** Different for different accounts: an id that has to be changed gets a digest. */
export function workerIdPrefix(accountId: string): string {
  const safe = accountId.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, lengthMax);
  if (safe === accountId) return accountId;
  return `${safe}-${createHash("sha256").update(accountId).digest("hex").slice(0, 10)}`;
}

/** The lowest numbers that are free, so that a worker which is replaced keeps its name. */
export function freeWorkerIds(accountId: string, count: number, taken: ReadonlySet<string>): string[] {
  const prefix = workerIdPrefix(accountId);
  const ids: string[] = [];
  for (let number = 1; ids.length < count; number++) {
    const id = `${prefix}-${number}`;
    if (!taken.has(id)) ids.push(id);
  }
  return ids;
}

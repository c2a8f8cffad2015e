// How the ledger names who answered: an account of the fleet by its id, a channel by its own.
import { fleetId } from "./spec.ts";

const channelPrefix = "channel:";

/** How requests that a channel answered stand in the ledger. */
export function channelAccount(channelId: string): string {
  return `${channelPrefix}${channelId}`;
}

/** The channel of what stands in the ledger as its account; undefined: nobody answered. */
export function channelOf(accountId: string | undefined): string | undefined {
  if (!accountId) return undefined;
  return accountId.startsWith(channelPrefix) ? accountId.slice(channelPrefix.length) : fleetId;
}

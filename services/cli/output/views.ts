// How each kind of object is shown: its JSON for scripts, its columns for people.
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type AdminKey,
  type ApiKey,
  type Budget,
  BudgetWindow,
  type Channel,
  type Price,
  type RateLimits,
  type RedemptionCode,
  type Tier,
  type User,
} from "#gen/drawbridge/v1/access_service";
import type { Account, Breaker } from "#gen/drawbridge/v1/account";
import { ChannelState, type ChannelStatus } from "#gen/drawbridge/v1/channel";
import type { Action, FleetEvent } from "#gen/drawbridge/v1/fleet_service";
import type { Candidate } from "#gen/drawbridge/v1/scheduler_service";
import type { UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Worker } from "#gen/drawbridge/v1/worker";
import { nameOf } from "../../kit/enum-name.ts";
import {
  accountRow,
  actionRow,
  adminKeyRow,
  breakerRow,
  breakerState,
  candidateRow,
  channelRow,
  codeRow,
  eventRow,
  keyRow,
  limitsRow,
  priceRow,
  tierRow,
  usageRow,
  userRow,
  workerRow,
} from "./rows.ts";
import type { Column } from "./table.ts";
import { creditsText, dollarsText, localTimeText, relativeText } from "./text.ts";

export interface View<Item> {
  readonly json: (item: Item) => object;
  readonly columns: readonly Column<Item>[];
  /** What stands there where a list is empty. */
  readonly none: string;
}

export const userView: View<User> = {
  json: userRow,
  none: "There are no users.",
  columns: [
    { title: "USER", text: ({ id }) => id },
    { title: "TIER", text: ({ tier }) => tier },
    { title: "GRANTED", text: ({ quota }) => dollarsText(quota?.granted ?? 0n), right: true },
    { title: "AVAILABLE", text: ({ quota }) => dollarsText(quota?.available ?? 0n), right: true },
    { title: "HELD", text: ({ quota }) => dollarsText(quota?.held ?? 0n), right: true },
    { title: "SPENT", text: ({ quota }) => dollarsText(quota?.spent ?? 0n), right: true },
    { title: "BUDGET", text: ({ budget }) => budgetText(budget) },
    { title: "STATE", text: ({ disabled }) => (disabled ? "disabled" : "active") },
  ],
};

/** $1.00 a day */
function budgetText(budget: Budget | undefined): string {
  if (!budget) return "";
  const { micros, window } = budget;
  const per = window === BudgetWindow.TOTAL ? "" : ` a ${nameOf(BudgetWindow, window)}`;
  return `${dollarsText(micros)}${per}`;
}

export const adminKeyView: View<AdminKey> = {
  json: adminKeyRow,
  none: "There are no admin keys.",
  columns: [
    { title: "KEY", text: ({ id }) => id },
    { title: "NAME", text: ({ name }) => name },
    { title: "ROLE", text: (key) => adminKeyRow(key).role },
    { title: "BEGINS", text: ({ prefix }) => prefix },
    { title: "MADE", text: ({ createdAt }) => optional(createdAt, (at) => localTimeText(timestampMs(at))) },
  ],
};

export const codeView: View<RedemptionCode> = {
  json: codeRow,
  none: "There are no codes.",
  columns: [
    { title: "CODE", text: ({ id }) => id },
    { title: "NAME", text: ({ name }) => name },
    { title: "BEGINS", text: ({ prefix }) => prefix },
    { title: "WORTH", text: ({ quotaMicros }) => dollarsText(quotaMicros), right: true },
    { title: "STATE", text: codeState },
  ],
};

function codeState({ redeemedBy, expiresAt }: RedemptionCode, now: number): string {
  if (redeemedBy !== "") return `used by ${redeemedBy}`;
  if (!expiresAt) return "valid";
  return `${timestampMs(expiresAt) <= now ? "expired" : "expires"} ${relative(expiresAt, now)}`;
}

export const keyView: View<ApiKey> = {
  json: keyRow,
  none: "There are no keys.",
  columns: [
    { title: "KEY", text: ({ id }) => id },
    { title: "USER", text: ({ userId }) => userId },
    { title: "NAME", text: ({ name }) => name },
    { title: "BEGINS", text: ({ prefix }) => prefix },
    { title: "MODELS", text: ({ models }) => models.join(", ") || "all" },
    { title: "FROM", text: ({ allowedAddresses }) => allowedAddresses.join(", ") || "anywhere" },
    { title: "BUDGET", text: ({ budget }) => budgetText(budget), right: true },
    { title: "LIMITS", text: ({ limits }) => limitsText(limits) },
    { title: "SPENT", text: ({ spentMicros }) => dollarsText(spentMicros), right: true },
    { title: "STATE", text: keyState },
  ],
};

/** What a key may do in a minute and at a time, as far as it is limited. */
function limitsText(limits: RateLimits | undefined): string {
  const { rpm, tpm, concurrency } = limitsRow(limits);
  const parts = [rpm === null ? "" : `${rpm} rpm`, tpm === null ? "" : `${tpm} tpm`];
  return [...parts, concurrency === null ? "" : `${concurrency} at once`].filter((part) => part !== "").join(", ");
}

function keyState({ revokedAt, expiresAt }: ApiKey, now: number): string {
  if (revokedAt) return `revoked ${relative(revokedAt, now)}`;
  if (!expiresAt) return "valid";
  return `${timestampMs(expiresAt) <= now ? "expired" : "expires"} ${relative(expiresAt, now)}`;
}

export const usageView: View<UsageEntry> = {
  json: usageRow,
  none: "There is no usage.",
  columns: [
    { title: "TIME", text: ({ at }) => optional(at, (time) => localTimeText(timestampMs(time))) },
    { title: "USER", text: ({ userId }) => userId },
    { title: "MODEL", text: ({ model }) => model },
    { title: "ACCOUNT", text: ({ accountId }) => accountId },
    { title: "INPUT", text: ({ usage }) => String(usage?.inputTokens ?? 0n), right: true },
    { title: "OUTPUT", text: ({ usage }) => String(usage?.outputTokens ?? 0n), right: true },
    { title: "COUNTED", text: (entry) => (entry.usage ? usageRow(entry).source : "") },
    { title: "COST", text: ({ costMicros }) => dollarsText(costMicros), right: true },
    { title: "CREDITS", text: ({ millicredits }) => creditsText(millicredits), right: true },
    { title: "END", text: (entry) => words(usageRow(entry).end) },
    { title: "REQUEST", text: ({ requestId }) => requestId },
  ],
};

export const accountView: View<Account> = {
  json: accountRow,
  none: "There are no accounts. Write some in drawbridge.yaml, then `drawbridge apply -f drawbridge.yaml`.",
  columns: [
    { title: "ACCOUNT", text: ({ spec }) => spec?.id ?? "" },
    { title: "AGENT", text: ({ spec }) => spec?.agent ?? "" },
    { title: "MODELS", text: (account) => accountRow(account).models.join(", ") },
    { title: "CREDITS", text: ({ credits }) => creditsText(credits?.available ?? 0n), right: true },
    { title: "HELD", text: ({ credits }) => creditsText(credits?.held ?? 0n), right: true },
    { title: "SPENT", text: ({ credits }) => creditsText(credits?.spent ?? 0n), right: true },
    { title: "GRANTED", text: ({ credits }) => creditsText(credits?.granted ?? 0n), right: true },
    { title: "BREAKER", text: ({ breaker }) => words(breakerState(breaker)) },
    { title: "WORKERS", text: ({ workerIds }) => String(workerIds.length), right: true },
    { title: "STATE", text: accountState },
  ],
};

function accountState({ conditions }: Account): string {
  const ready = conditions.find(({ type }) => type === "Ready");
  if (!ready) return "new";
  return ready.status ? "ready" : `not ready: ${ready.reason}`;
}

export const workerView: View<Worker> = {
  json: workerRow,
  none: "There are no workers.",
  columns: [
    { title: "WORKER", text: ({ id }) => id },
    { title: "ACCOUNTS", text: ({ pools }) => pools.map((pool) => pool.accountId).join(", ") },
    { title: "HEALTH", text: (worker) => workerRow(worker).health },
    { title: "FREE", text: (worker) => freeSlots(worker), right: true },
    { title: "QUEUED", text: (worker) => String(workerRow(worker).queue_depth), right: true },
    { title: "PID", text: ({ pid }) => (pid === 0 ? "" : String(pid)), right: true },
    { title: "ADDRESS", text: ({ address }) => address },
    { title: "VERSION", text: ({ version }) => version },
  ],
};

function freeSlots(worker: Worker): string {
  const { available_slots, slots } = workerRow(worker);
  return `${available_slots}/${slots}`;
}

export const breakerView: View<Breaker> = {
  json: breakerRow,
  none: "No account has had a failure: all breakers are closed.",
  columns: [
    { title: "ACCOUNT", text: ({ accountId }) => accountId },
    { title: "BREAKER", text: (breaker) => words(breakerState(breaker)) },
    { title: "SINCE", text: ({ changedAt }, now) => optional(changedAt, (at) => relative(at, now)) },
    { title: "UNTIL", text: breakerUntil },
    { title: "OPENINGS", text: ({ openings }) => String(openings), right: true },
    { title: "REASON", text: ({ reason }) => reason },
  ],
};

function breakerUntil(breaker: Breaker, now: number): string {
  if (breaker.until) return relative(breaker.until, now);
  return breakerState(breaker) === "open" ? "it is reset" : "";
}

export const actionView: View<Action> = {
  json: actionRow,
  none: "Nothing to do: the workers are as wanted.",
  columns: [
    { title: "ACTION", text: (action) => actionRow(action).type },
    { title: "ACCOUNT", text: ({ accountId }) => accountId },
    { title: "WORKER", text: ({ workerId }) => workerId },
    { title: "REASON", text: ({ reason }) => reason },
  ],
};

export const eventView: View<FleetEvent> = {
  json: eventRow,
  none: "Nothing has happened yet.",
  columns: [
    { title: "TIME", text: ({ at }) => optional(at, (time) => localTimeText(timestampMs(time))) },
    { title: "EVENT", text: ({ type }) => type },
    { title: "ACCOUNT", text: ({ accountId }) => accountId },
    { title: "WORKER", text: ({ workerId }) => workerId },
    { title: "MESSAGE", text: ({ message }) => message },
  ],
};

export const candidateView: View<Candidate> = {
  json: candidateRow,
  none: "No account serves the model. `drawbridge account list` shows what accounts serve.",
  columns: [
    { title: "RANK", text: ({ rank }) => (rank === 0 ? "" : String(rank)), right: true },
    { title: "ACCOUNT", text: ({ accountId }) => accountId },
    { title: "WORKER", text: ({ workerId }) => workerId },
    { title: "SCORE", text: ({ score, rank }) => (rank === 0 ? "" : score.toFixed(1)), right: true },
    { title: "CREDITS", text: (candidate) => creditsText(candidateRow(candidate).credits), right: true },
    { title: "FREE", text: ({ availableSlots }) => String(availableSlots), right: true },
    { title: "QUEUED", text: ({ queueDepth }) => String(queueDepth), right: true },
    { title: "WHY", text: ({ explanation }) => explanation },
  ],
};

export const tierView: View<Tier> = {
  json: tierRow,
  none: "There are no tiers.",
  columns: [
    { title: "TIER", text: ({ name }) => name },
    { title: "REQUESTS/MIN", text: ({ requestsPerMinute }) => String(requestsPerMinute), right: true },
    { title: "TOKENS/MIN", text: ({ tokensPerMinute }) => String(tokensPerMinute), right: true },
    { title: "CONCURRENCY", text: ({ concurrency }) => String(concurrency), right: true },
    { title: "RATIO", text: ({ ratioPermille }) => creditsText(ratioPermille), right: true },
    { title: "PRIORITY", text: (tier) => tierRow(tier).priority },
    { title: "BUDGET", text: ({ budget }) => budgetText(budget) },
  ],
};

export const priceView: View<Price> = {
  json: priceRow,
  none: "No model has a price: requests cost their users nothing.",
  columns: [
    { title: "MODEL", text: ({ model }) => model },
    { title: "INPUT/MTOK", text: ({ inputMicrosPerMillion }) => dollarsText(inputMicrosPerMillion), right: true },
    {
      title: "CACHED/MTOK",
      text: ({ cachedInputMicrosPerMillion: cached, inputMicrosPerMillion }) =>
        dollarsText(cached ?? inputMicrosPerMillion),
      right: true,
    },
    { title: "OUTPUT/MTOK", text: ({ outputMicrosPerMillion }) => dollarsText(outputMicrosPerMillion), right: true },
    { title: "REQUEST", text: ({ requestMicros }) => dollarsText(requestMicros), right: true },
  ],
};

export const channelView: View<Channel> = {
  json: channelRow,
  none: "There are no channels.",
  columns: [
    { title: "CHANNEL", text: ({ id }) => id },
    { title: "KIND", text: ({ kind }) => kind },
    { title: "STATE", text: (channel) => words(channelRow(channel).state) },
    { title: "PRIORITY", text: ({ priority }) => String(priority), right: true },
    { title: "WEIGHT", text: ({ weight }) => String(weight), right: true },
    { title: "RUNNING", text: ({ status }) => String(status?.inFlight ?? 0n), right: true },
    { title: "TRIES", text: ({ status }) => String(status?.requests ?? 0n), right: true },
    { title: "FAILED", text: ({ status }) => String(status?.errors ?? 0n), right: true },
    { title: "KEYS", text: channelKeys },
    { title: "MODELS", text: ({ models }) => models.join(", ") },
    { title: "WHY", text: ({ status }, now) => channelReason(status, now) },
  ],
};

/** Usable keys of all. */
function channelKeys({ status }: Channel): string {
  const keys = status?.keys ?? [];
  return keys.length === 0 ? "" : `${keys.filter(({ state }) => state === ChannelState.READY).length}/${keys.length}`;
}

function channelReason(status: ChannelStatus | undefined, now: number): string {
  if (!status?.reason) return "";
  return status.until ? `${status.reason}, until ${relative(status.until, now)}` : status.reason;
}

function optional<T>(value: T | undefined, text: (value: T) => string): string {
  return value === undefined ? "" : text(value);
}

function relative(timestamp: Timestamp, now: number): string {
  return relativeText(timestampMs(timestamp), now);
}

/** half_open → half open. */
function words(name: string): string {
  return name.replaceAll("_", " ");
}

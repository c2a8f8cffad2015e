// The gateway's settings: prices, tiers, and how it serves. Money is written in dollars and read as whole millionths.
import { availableParallelism } from "node:os";
import { create } from "@bufbuild/protobuf";
import { z } from "zod";
import {
  type Budget,
  BudgetSchema,
  BudgetWindow,
  type Price,
  PriceSchema,
  type Tier,
  TierSchema,
} from "#gen/drawbridge/v1/access_service";
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { retrySettings } from "../client/config.ts";
import { byteSize, duration } from "../kit/settings.ts";
import { isNetwork } from "./access/addresses.ts";

export { channelsSetting } from "./channels/manage/settings.ts";

/** Whether a number has so many decimals at most: then it is the number nearest to a whole multiple of the last one. */
function hasDecimals(value: number, unitsInOne: number): boolean {
  return Math.round(value * unitsInOne) / unitsInOne === value;
}

const microsInDollar = 1_000_000;

/** A number of dollars with at most six decimals → whole millionths. */
function dollars(): z.ZodType<bigint, number> {
  return z
    .number()
    .min(0)
    .max(1_000_000)
    .refine((value) => hasDecimals(value, microsInDollar), "expected dollars with at most six decimals")
    .transform((value) => BigInt(Math.round(value * microsInDollar)));
}

const priceSetting = z.strictObject({
  /** Dollars per million input tokens. */
  input: dollars(),
  /** Dollars per million output tokens. */
  output: dollars(),
  /** Dollars per million input tokens that came from the provider's cache. Default: as input. */
  cached_input: dollars().optional(),
  /** Dollars for each request that is paid at all. Default 0. */
  request: dollars().optional(),
});

/** Model → price. A model without a price costs nothing. */
export const pricesSetting = z
  .record(z.string().min(1).max(256), priceSetting)
  .transform((prices) => Object.entries(prices).map(([model, price]) => priceMessage(model, price)))
  .prefault({});

function priceMessage(model: string, price: z.output<typeof priceSetting>): Price {
  return create(PriceSchema, {
    model,
    inputMicrosPerMillion: price.input,
    outputMicrosPerMillion: price.output,
    ...(price.cached_input === undefined ? {} : { cachedInputMicrosPerMillion: price.cached_input }),
    requestMicros: price.request ?? 0n,
  });
}

const windows = {
  total: BudgetWindow.TOTAL,
  day: BudgetWindow.DAY,
  week: BudgetWindow.WEEK,
  month: BudgetWindow.MONTH,
} as const;

const priorities = { low: Priority.LOW, normal: Priority.NORMAL, high: Priority.HIGH } as const;

const budgetSetting = z.strictObject({
  /** Dollars. */
  amount: dollars(),
  /** When spending begins anew: total (never), day, week (Monday) or month, in UTC. */
  per: z.enum(["total", "day", "week", "month"]),
});

function budgetMessage({ amount, per }: z.output<typeof budgetSetting>): Budget {
  return create(BudgetSchema, { micros: amount, window: windows[per] });
}

const tierSetting = z.strictObject({
  /** Requests per minute, per user. Default 600. */
  rpm: z.int().min(0).max(1_000_000_000).default(600),
  /** Tokens per minute, per user. Default 1000000. */
  tpm: z.int().min(0).max(1_000_000_000_000).default(1_000_000),
  /** Requests at the same time, per user. Default 32. */
  concurrency: z.int().min(0).max(1_000_000).default(32),
  /** Prices are multiplied by this; at most three decimals. Default 1. */
  ratio: z
    .number()
    .min(0)
    .max(1_000)
    .refine((ratio) => hasDecimals(ratio, 1_000), "expected at most three decimals")
    .default(1),
  /** The class in which their requests wait for the fleet: low, normal or high. An overloaded gateway refuses a lower one first. Default normal. */
  priority: z.enum(["low", "normal", "high"]).default("normal"),
  /** What each of its users may spend in a window, unless they have a budget of their own. Default: all that they have. */
  budget: budgetSetting.optional(),
});

export const defaultTierName = "default";

/** Name → tier. There is always one named "default". */
export const tiersSetting = z
  .record(z.string().min(1).max(64), tierSetting)
  .transform((tiers) => {
    const all = { [defaultTierName]: tierSetting.parse({}), ...tiers };
    return Object.entries(all).map(([name, tier]) => tierMessage(name, tier));
  })
  .prefault({});

function tierMessage(name: string, tier: z.output<typeof tierSetting>): Tier {
  return create(TierSchema, {
    name,
    requestsPerMinute: BigInt(tier.rpm),
    tokensPerMinute: BigInt(tier.tpm),
    concurrency: BigInt(tier.concurrency),
    ratioPermille: BigInt(Math.round(tier.ratio * 1_000)),
    priority: priorities[tier.priority],
    ...(tier.budget ? { budget: budgetMessage(tier.budget) } : {}),
  });
}

/** A duration that is not so short that a loop with it would never rest. */
function atLeast(leastMs: number): z.ZodType<number, string> {
  return duration().refine((ms) => ms >= leastMs, `expected at least ${leastMs}ms`);
}

export const gatewaySettings = z
  .strictObject({
    /** Processes that share the port, so that all cores work: a number, or "auto" for one on each core. Default 1. */
    processes: z
      .union([z.literal("auto"), z.int().min(1).max(64)], { error: 'expected a number from 1 to 64, or "auto"' })
      .default(1)
      .transform((processes) => (processes === "auto" ? availableParallelism() : processes)),
    /** The largest request body, images included. Default 8MiB. */
    body_limit: byteSize().prefault("8MiB"),
    /** The largest form with files, such as a sound to be transcribed. Default 32MiB. */
    upload_limit: byteSize().prefault("32MiB"),
    /** The most bytes of a request's headers, of all together. Default 32KiB. */
    header_limit: byteSize().prefault("32KiB"),
    /** Time for a connection to send a request's headers, so that slow senders hold none open. Default 10s. */
    headers_timeout: atLeast(100).prefault("10s"),
    /** Time for a whole request to arrive, its headers included. Default 120s. */
    receive_timeout: atLeast(100).prefault("120s"),
    /** How long a connection stays open between two requests. Default 75s. */
    idle_timeout: atLeast(1).prefault("75s"),
    /** Time for a whole answer; a client's shorter x-stainless-timeout bounds it too. Default 600s. */
    request_timeout: atLeast(1).prefault("600s"),
    /** A client that takes nothing of a stream for so long has left. Default 60s. */
    stall_timeout: atLeast(1).prefault("60s"),
    /** Output tokens that a hold covers where the request has no limit of its own. Default 4096. */
    default_output_tokens: z.int().min(1).max(10_000_000).default(4_096),
    /** The most output tokens that a request may ask for, and that a hold covers; one that asks for more gets this. Default 128000. */
    output_tokens_max: z.int().min(1).max(10_000_000).default(128_000),
    /** The most input tokens of a request. Default 1000000. */
    input_tokens_max: z.int().min(1).max(100_000_000).default(1_000_000),
    /** A hold whose gateway is gone is swept after so long; running requests renew theirs three times in it. Default 60s. */
    hold_ttl: atLeast(1_000).prefault("60s"),
    /** How often holds that ended are looked for. Default 5s. */
    sweep_interval: atLeast(50).prefault("5s"),
    /** Entries of the usage ledger are kept for so long; what was spent stays in the balances. Default 400d. */
    usage_retention: atLeast(60_000).prefault("400d"),
    /** A comment is sent on a stream that has been silent for so long. Default 15s. */
    keep_alive_interval: atLeast(10).prefault("15s"),
    /** A stream whose first content takes longer gets its headers then, and comments until it comes; a failure after that is an event. Default 10s. */
    first_content_wait: atLeast(10).prefault("10s"),
    /** Whole answers that are kept to be replayed for a repeated Idempotency-Key. Default 1000. */
    idempotency_answers_max: z.int().min(0).max(100_000).default(1_000),
    /** How long an Idempotency-Key is remembered. Default 24h. */
    idempotency_ttl: atLeast(1_000).prefault("24h"),
    /** Answers of /v1/responses that this gateway keeps in memory to be continued or asked for again; 0: none. Default 1000. */
    stored_responses_max: z.int().min(0).max(100_000).default(1_000),
    /** How long it keeps them. Default 1h. */
    stored_responses_ttl: atLeast(1_000).prefault("1h"),
    /** Addresses and networks of proxies whose x-forwarded-for is believed. Default: none, so the client is whoever connects. */
    trusted_proxies: z
      .array(z.string().refine(isNetwork, "expected an address or a network such as 10.0.0.0/8"))
      .max(256)
      .prefault([]),
    /** Origins of web pages that may call the API, such as https://app.example.com; "*": all. Default: none. */
    cors_origins: z
      .array(z.string().refine(isOrigin, 'expected an origin such as https://app.example.com, or "*"'))
      .max(256)
      .prefault([]),
    /** A file with the certificate chain (PEM): the public port speaks TLS. It is read again when it changes. Default: none, so no TLS. */
    tls_cert: z.string().default(""),
    /** The file with its private key (PEM). Default: none. */
    tls_key: z.string().default(""),
    /** When the gateway has too much to do it refuses requests (503) before memory or latency goes: low priority at 80 % of these, normal at 95 %, high at 100 %. */
    overload: z
      .strictObject({
        /** Requests that run at the same time. Default 10000. */
        in_flight_max: z.int().min(1).max(1_000_000).default(10_000),
        /** Bytes of the bodies of requests that run. Default 512MiB. */
        in_flight_bytes_max: byteSize().prefault("512MiB"),
        /** How late the process comes to its work: the median of a second. Default 1s. */
        event_loop_delay_max: atLeast(20).prefault("1s"),
        /** The used share of the heap that the process may have. Default 0.9. */
        heap_share_max: z.number().min(0.1).max(1).default(0.9),
      })
      .prefault({}),
    /** What a refused client is told to wait while the gateway stops or the fleet is busy. Default 1s. */
    retry_after: atLeast(1).prefault("1s"),
    /** What is tried again on another account before the first content. */
    retry: retrySettings.prefault({}),
    /** How often channels and the files of their keys are read again without a hint. Default 30s. */
    channel_refresh: atLeast(50).prefault("30s"),
  })
  .refine((settings) => settings.headers_timeout <= settings.receive_timeout, {
    path: ["receive_timeout"],
    error: "expected at least headers_timeout, which is a part of it",
  })
  .refine((settings) => (settings.tls_cert === "") === (settings.tls_key === ""), {
    path: ["tls_key"],
    error: "expected tls_cert and tls_key together, or neither",
  })
  .prefault({});

function isOrigin(text: string): boolean {
  return text === "*" || (URL.canParse(text) && new URL(text).origin === text);
}

/** What the gateway is given: its section, and the prices and tiers of the file. */
export interface GatewaySettings extends z.output<typeof gatewaySettings> {
  readonly prices: readonly Price[];
  readonly tiers: readonly Tier[];
  readonly channels: readonly ChannelSpec[];
  /** Mixed into the hashes of keys; empty: nothing is. Changing it makes every key unknown. */
  readonly keyPepper: string;
}

/** What the server of the public port is told of the settings. */
export function publicServerOptions({ header_limit, tls_cert, tls_key }: GatewaySettings) {
  return {
    limits: { headerBytesMax: header_limit },
    ...(tls_cert === "" ? {} : { tls: { certFile: tls_cert, keyFile: tls_key } }),
  };
}

// The gateway's settings: prices, tiers, and how it serves. Money is written in dollars and read as whole millionths.
import { create } from "@bufbuild/protobuf";
import { z } from "zod";
import { type Price, PriceSchema, type Tier, TierSchema } from "#gen/drawbridge/v1/access_service";
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import { byteSize, duration } from "../kit/settings.ts";

export { channelsSetting } from "./channels/settings.ts";

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
  });
}

/** A duration that is not so short that a loop with it would never rest. */
function atLeast(leastMs: number): z.ZodType<number, string> {
  return duration().refine((ms) => ms >= leastMs, `expected at least ${leastMs}ms`);
}

export const gatewaySettings = z
  .strictObject({
    /** The largest request body, images included. Default 8MiB. */
    body_limit: byteSize().prefault("8MiB"),
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
    /** A comment is sent on a stream that has been silent for so long. Default 15s. */
    keep_alive_interval: atLeast(10).prefault("15s"),
    /** Whole answers that are kept to be replayed for a repeated Idempotency-Key. Default 1000. */
    idempotency_answers_max: z.int().min(0).max(100_000).default(1_000),
    /** How long an Idempotency-Key is remembered. Default 24h. */
    idempotency_ttl: atLeast(1_000).prefault("24h"),
    /** What a refused client is told to wait while the gateway stops or the fleet is busy. Default 1s. */
    retry_after: atLeast(1).prefault("1s"),
    /** How often channels and the files of their keys are read again without a hint. Default 30s. */
    channel_refresh: atLeast(50).prefault("30s"),
  })
  .refine((settings) => settings.headers_timeout <= settings.receive_timeout, {
    path: ["receive_timeout"],
    error: "expected at least headers_timeout, which is a part of it",
  })
  .prefault({});

/** What the gateway is given: its section, and the prices and tiers of the file. */
export interface GatewaySettings extends z.output<typeof gatewaySettings> {
  readonly prices: readonly Price[];
  readonly tiers: readonly Tier[];
  readonly channels: readonly ChannelSpec[];
  /** Mixed into the hashes of keys; empty: nothing is. Changing it makes every key unknown. */
  readonly keyPepper: string;
}

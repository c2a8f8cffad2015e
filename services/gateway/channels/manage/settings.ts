// `channels` of the configuration file: its schema, and the specifications that it becomes.
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { z } from "zod";
import {
  type ChannelBreaker,
  ChannelBreakerSchema,
  type ChannelKey,
  ChannelKeySchema,
  type ChannelSpec,
  ChannelSpecSchema,
  type ChannelTimeouts,
  ChannelTimeoutsSchema,
} from "#gen/drawbridge/v1/channel";
import { duration } from "../../../kit/settings.ts";
import { channelRoutes, specProblem } from "../spec.ts";

const modelName = z.string().min(1).max(256);

/** Public name to the upstream's own name; a list gives both the same name. */
const models = z
  .union([z.record(modelName, modelName), z.array(modelName)], {
    error: "expected names such as { public-name: name-of-the-upstream }, or a list of names",
  })
  .transform((value) => (Array.isArray(value) ? Object.fromEntries(value.map((name) => [name, name])) : value));

const apiKey = z.union(
  [
    z.strictObject({ from_env: z.string().min(1).max(256) }),
    z.strictObject({ from_file: z.string().min(1).max(4_096) }),
  ],
  { error: "expected { from_env: VARIABLE } or { from_file: PATH }; a key itself does not belong into this file" },
);

const timeouts = z.strictObject({
  /** Time to connect. Default 10s. */
  connect: duration().optional(),
  /** Time from the request to the answer's headers. Default 120s. */
  first_byte: duration().optional(),
  /** Time between two pieces of an answer. Default 60s. */
  idle: duration().optional(),
  /** Time for one try as a whole. Default: as long as the request may take. */
  total: duration().optional(),
});

const breaker = z.strictObject({
  /** Fewer calls than this in the window open nothing. Default 5. */
  calls_min: z.int().min(1).max(10_000).optional(),
  /** The share of failures that opens, from 0.01 to 1. Default 0.5. */
  failure_rate: z.number().min(0.01).max(1).optional(),
  /** Calls older than this do not count. Default 30s. */
  window: duration().optional(),
  /** The first open time; it doubles with every opening in a row. Default 2s. */
  open: duration().optional(),
  /** The longest open time, and how long a key rests whose plan is used up. Default 5m. */
  open_max: duration().optional(),
});

const priority = z.int().min(-1_000_000).max(1_000_000);
const weight = z.int().min(1).max(1_000_000);

const upstream = z.strictObject({
  /** Names the channel everywhere: letters, digits, dots, dashes and underscores. */
  id: z
    .string()
    .max(64)
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'expected a name such as "openai-1"'),
  /** What it speaks. */
  kind: z.literal("openai"),
  /** Where it is, with its version part. */
  base_url: z.string().max(2_048),
  /** Its keys, by reference. Default none. */
  api_keys: z.array(apiKey).max(64).default([]),
  /** What it serves. */
  models,
  /** Higher ones first. Default 0, as the fleet's. */
  priority: priority.default(0),
  /** Share among channels of one priority. Default 1. */
  weight: weight.default(1),
  /** Requests at the same time, for each gateway; 0: no limit. Default 0. */
  concurrency: z.int().min(0).max(1_000_000).default(0),
  /** Paths below /v1 that it serves. Default: all that the gateway knows. */
  routes: z.array(z.enum(channelRoutes)).max(64).default([]),
  timeouts: timeouts.optional(),
  breaker: breaker.optional(),
});

/** The fleet among the channels. */
const fleet = z.strictObject({
  id: z.literal("fleet"),
  kind: z.literal("fleet"),
  priority: priority.default(0),
  weight: weight.default(1),
});

const channelsMax = 1_000;

/** `channels`: upstreams beside the fleet. Default none. */
export const channelsSetting = z
  .array(z.discriminatedUnion("kind", [upstream, fleet]))
  .max(channelsMax)
  .transform((channels, context) =>
    channels.map((channel, index) => {
      const spec = specOf(channel);
      const problem = channels.findIndex(({ id }) => id === spec.id) < index ? "id: given twice." : specProblem(spec);
      if (problem !== undefined) {
        const [, field = "", message = problem] = /^([a-z_.]+): (.*)$/s.exec(problem) ?? [];
        context.addIssue({ code: "custom", path: [index, ...(field ? [field] : [])], message });
      }
      return spec;
    }),
  )
  .prefault([]);

function specOf(channel: z.output<typeof upstream> | z.output<typeof fleet>): ChannelSpec {
  const { id, kind, priority, weight } = channel;
  if (channel.kind === "fleet") return create(ChannelSpecSchema, { id, kind, priority, weight });
  const { base_url: baseUrl, api_keys: keys, models, concurrency, routes, timeouts, breaker } = channel;
  return create(ChannelSpecSchema, {
    id,
    kind,
    baseUrl,
    apiKeys: keys.map(keyOf),
    models,
    priority,
    weight,
    concurrency,
    routes: [...routes],
    ...(timeouts ? { timeouts: timeoutsOf(timeouts) } : {}),
    ...(breaker ? { breaker: breakerOf(breaker) } : {}),
  });
}

function keyOf(key: z.output<typeof apiKey>): ChannelKey {
  const source =
    "from_env" in key
      ? ({ case: "fromEnv", value: key.from_env } as const)
      : ({ case: "fromFile", value: key.from_file } as const);
  return create(ChannelKeySchema, { source });
}

function timeoutsOf({ connect, first_byte, idle, total }: z.output<typeof timeouts>): ChannelTimeouts {
  return create(ChannelTimeoutsSchema, {
    ...spanOf("connect", connect),
    ...spanOf("firstByte", first_byte),
    ...spanOf("idle", idle),
    ...spanOf("total", total),
  });
}

function breakerOf({ calls_min, failure_rate, window, open, open_max }: z.output<typeof breaker>): ChannelBreaker {
  return create(ChannelBreakerSchema, {
    ...(calls_min === undefined ? {} : { callsMin: calls_min }),
    ...(failure_rate === undefined ? {} : { failurePercent: Math.round(failure_rate * 100) }),
    ...spanOf("window", window),
    ...spanOf("open", open),
    ...spanOf("openMax", open_max),
  });
}

function spanOf(name: string, ms: number | undefined) {
  return ms === undefined ? {} : { [name]: durationFromMs(ms) };
}

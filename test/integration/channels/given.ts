// A gateway with upstream channels beside its scripted fleet, and what tests ask of its books.
import type { UsageEntry } from "#gen/drawbridge/v1/usage";
import { until } from "../../support/until.ts";
import {
  type GatewayUnderTest,
  type GatewayUnderTestOptions,
  model,
  startGatewayUnderTest,
} from "../gateway/harness.ts";
import type { Upstream } from "../../support/upstream.ts";

/** Served by the upstreams alone. */
export const upstreamModel = "gpt-x";

export interface ChannelFields {
  readonly id?: string;
  readonly keys?: readonly string[];
  readonly [field: string]: unknown;
}

/** A channel of the configuration file; its models have another name at the upstream. Keys are variables. */
export function channelTo(
  { baseUrl }: Pick<Upstream, "baseUrl">,
  { id = "up", keys = ["KEY_A"], ...fields }: ChannelFields = {},
) {
  return {
    id,
    kind: "openai",
    base_url: baseUrl,
    api_keys: keys.map((name) => ({ from_env: name })),
    models: { [upstreamModel]: "own-name", [model]: "own-fleet-name" },
    ...fields,
  };
}

export const environment = { KEY_A: "sk-upstream-a", KEY_B: "sk-upstream-b", KEY_C: "sk-upstream-c" };

const price = { input: 1, output: 100 };

export function startWithChannels(
  channels: readonly object[],
  options: GatewayUnderTestOptions = {},
): Promise<GatewayUnderTest> {
  return startGatewayUnderTest({
    channels,
    environment,
    prices: { [model]: price, [upstreamModel]: { ...price, cached_input: 0.1 }, embed: { input: 2, output: 0 } },
    ...options,
  });
}

/** Ledger entries, newest first, once nothing is held and there are so many; with the equation of the user's quota. */
export async function ledgerOf({ state }: GatewayUnderTest, count: number, userId = "default"): Promise<UsageEntry[]> {
  return await until(`the ledger has ${count} entries`, async () => {
    const quota = await state.ledger.quota(userId);
    const { entries } = await state.ledger.usage({ userId, limit: 1_000 });
    if (!quota || quota.held !== 0n || entries.length < count) return undefined;
    const spent = entries.reduce((sum, entry) => sum + entry.costMicros, 0n);
    if (spent !== quota.spent || quota.granted !== quota.available + quota.spent) {
      throw new Error(`The books do not add up: ${spent} in the ledger, ${JSON.stringify(quota, (_, v) => String(v))}`);
    }
    if (entries.length > count) throw new Error(`There are ${entries.length} entries.`);
    return entries;
  });
}

export async function allOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

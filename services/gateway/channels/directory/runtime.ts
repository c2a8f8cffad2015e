// A channel as this gateway runs it: its connections, its keys' states, its breaker and its counts.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Pool } from "undici";
import type { Channel } from "#gen/drawbridge/v1/access_service";
import { type ChannelSpec, ChannelState, type ChannelStatus, ChannelStatusSchema } from "#gen/drawbridge/v1/channel";
import type { Clock } from "../../../kit/clock.ts";
import type { Random } from "../../../kit/random.ts";
import { type Condition, createHealth, type Sample } from "./health.ts";
import { type Environment, resolveKeys, type UpstreamKey } from "./keys.ts";
import { breakerPolicyOf, type ChannelRoute, limitsOf } from "../spec.ts";

/** One try on a channel. Its end must be told, once. */
export interface Try {
  readonly channel: ChannelRuntime;
  readonly key: UpstreamKey;
  end(sample: Sample, failed: boolean): void;
}

export interface ChannelRuntime extends AsyncDisposable {
  readonly id: string;
  readonly spec: ChannelSpec;
  readonly revision: bigint;
  readonly pool: Pool;
  readonly priority: number;
  readonly weight: number;
  serves(model: string, route: ChannelRoute): boolean;
  /** Whether a try could begin now, with a key that is not among the tried ones. */
  free(now: number, triedKeys: ReadonlySet<string>): boolean;
  /** Begins a try; undefined: none could begin. */
  begin(now: number, triedKeys: ReadonlySet<string>, preferredKey: string | undefined): Try | undefined;
  condition(now: number): Condition;
  status(now: number): ChannelStatus;
  /** Looks again where the keys are. */
  resolveKeys(): Promise<void>;
  /** Takes nothing new; resolves when what runs has ended. Disposing ends it at once. */
  close(): Promise<void>;
}

export interface RuntimeOptions {
  readonly channel: Channel & { readonly spec: ChannelSpec };
  readonly environment: Environment;
  readonly clock: Clock;
  readonly random: Random;
}

/** Connections to one upstream at the same time. */
const connectionsMax = 1_024;
const keepAliveMs = 30_000;

export async function createRuntime(options: RuntimeOptions): Promise<ChannelRuntime> {
  const { channel, environment, clock, random } = options;
  const { spec } = channel;
  const { connectMs, firstByteMs, idleMs } = limitsOf(spec);
  const health = createHealth(breakerPolicyOf(spec), random);
  const counts = { inFlight: 0, requests: 0, errors: 0 };
  const routes = new Set(spec.routes);
  let keys = await resolveKeys(spec.apiKeys, environment, []);
  const pool = new Pool(new URL(spec.baseUrl).origin, {
    connections: Math.min(connectionsMax, spec.concurrency || connectionsMax),
    connect: { timeout: connectMs },
    headersTimeout: firstByteMs,
    bodyTimeout: idleMs,
    keepAliveTimeout: keepAliveMs,
    pipelining: 1,
  });
  const usableKeys = (now: number, tried: ReadonlySet<string>) =>
    keys.filter((key) => key.condition(now).state === ChannelState.READY && !tried.has(`${spec.id} ${key.name}`));
  const hasRoom = () => spec.concurrency === 0 || counts.inFlight < spec.concurrency;

  const condition = (now: number): Condition => {
    if (channel.disabled) return { state: ChannelState.DISABLED, reason: "switched off", until: undefined };
    if (keys.length > 0 && usableKeys(now, new Set()).length === 0) return worstOf(keys, now);
    return health.condition(now);
  };

  const runtime: ChannelRuntime = {
    id: spec.id,
    spec,
    revision: channel.revision,
    pool,
    priority: spec.priority,
    weight: spec.weight,
    condition,
    serves: (model, route) => Object.hasOwn(spec.models, model) && (routes.size === 0 || routes.has(route)),
    free: (now, tried) => !channel.disabled && hasRoom() && usableKeys(now, tried).length > 0 && health.admits(now),
    begin(now, tried, preferredKey) {
      if (channel.disabled || !hasRoom()) return undefined;
      const usable = usableKeys(now, tried);
      const key = usable.find(({ name }) => name === preferredKey) ?? usable[Math.floor(random() * usable.length)];
      const tell = key && health.begin(now);
      if (!key || !tell) return undefined;
      counts.inFlight += 1;
      counts.requests += 1;
      return {
        channel: runtime,
        key,
        end(sample, failed) {
          counts.inFlight -= 1;
          if (failed) counts.errors += 1;
          tell(sample, clock.now());
        },
      };
    },
    status(now) {
      const { state, reason, until } = condition(now);
      return create(ChannelStatusSchema, {
        state,
        reason,
        ...(until === undefined ? {} : { until: timestampFromMs(until) }),
        keys: keys.map((key) => key.status(now)),
        inFlight: BigInt(counts.inFlight),
        requests: BigInt(counts.requests),
        errors: BigInt(counts.errors),
      });
    },
    async resolveKeys() {
      keys = await resolveKeys(spec.apiKeys, environment, keys);
    },
    close: () => pool.close(),
    [Symbol.asyncDispose]: () => pool.destroy(),
  };
  return runtime;
}

/** What a channel without a usable key says: the one that comes back first, else why the first one stays out. */
function worstOf(keys: readonly UpstreamKey[], now: number): Condition {
  const conditions = keys.map((key) => key.condition(now));
  const resting = conditions.filter(({ until }) => until !== undefined);
  const soonest = resting.toSorted((a, b) => (a.until ?? 0) - (b.until ?? 0))[0];
  const found = soonest ?? conditions[0];
  if (!found) return { state: ChannelState.DISABLED, reason: "it has no key", until: undefined };
  return { ...found, reason: `no usable key: ${found.reason}` };
}

// The channels that there are, as this gateway runs them: read from the store at a hint and by time, held in memory between.
import { equals } from "@bufbuild/protobuf";
import { type Channel, ChannelSchema } from "#gen/drawbridge/v1/access_service";
import { type ChannelSpec, ChannelState, type ChannelStatus } from "#gen/drawbridge/v1/channel";
import type { Clock } from "../../../kit/clock.ts";
import type { Log } from "../../../kit/log.ts";
import type { Random } from "../../../kit/random.ts";
import type { ChannelStore } from "../../../state/state.ts";
import type { Environment } from "./keys.ts";
import { type ChannelRuntime, createRuntime } from "./runtime.ts";
import { type ChannelRoute, defaultFleetSpec, fleetId } from "../spec.ts";

export interface FleetChannel {
  readonly id: string;
  readonly priority: number;
  readonly weight: number;
  readonly disabled: boolean;
}

export interface ChannelDirectory extends AsyncDisposable {
  /** Reads the channels, and goes on reading them. */
  start(): Promise<void>;
  /** Resolves when what was stored before the call is in force here. */
  refresh(): Promise<void>;
  readonly fleet: FleetChannel;
  /** Upstreams that serve a model on a route, whether or not they can now. */
  serving(model: string, route: ChannelRoute): readonly ChannelRuntime[];
  /** Public names of the models of upstreams, and since when each channel has had them. */
  models(): ReadonlyMap<string, { readonly createdAtMs: number; readonly ready: boolean }>;
  status(channelId: string): ChannelStatus | undefined;
  list(): readonly ChannelRuntime[];
}

export interface DirectoryOptions {
  readonly channels: ChannelStore;
  /** Where keys are found that a channel refers to. */
  readonly environment: Environment;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How often channels and key files are read without a hint. */
  readonly resyncMs: number;
}

interface Entry {
  readonly channel: Channel;
  readonly runtime: ChannelRuntime;
}

export function createDirectory(options: DirectoryOptions): ChannelDirectory {
  const { channels, environment, clock, random, log, resyncMs } = options;
  const ending = new AbortController();
  const closing = new Set<ChannelRuntime>();
  let entries: ReadonlyMap<string, Entry> = new Map();
  let fleet: FleetChannel = { ...fleetOf(defaultFleetSpec), disabled: false };
  let running: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  let following: Promise<void> = Promise.resolve();

  /** What runs on it finishes. */
  const close = (runtime: ChannelRuntime) => {
    closing.add(runtime);
    runtime
      .close()
      .catch((error: unknown) => log.warn({ err: error, channel: runtime.id }, "a channel's connections did not close"))
      .finally(() => closing.delete(runtime));
  };
  /** One that has not changed keeps its runtime, and with it what its breaker and its keys remember. */
  const entryOf = async (channel: Channel & { spec: ChannelSpec }): Promise<Entry> => {
    const known = entries.get(channel.id);
    if (known && equals(ChannelSchema, known.channel, channel)) {
      await known.runtime.resolveKeys();
      return known;
    }
    return { channel, runtime: await createRuntime({ channel, environment, clock, random }) };
  };
  const read = async () => {
    const stored = (await channels.list()).filter(hasSpec);
    const own = stored.find(({ kind }) => kind === fleetId);
    const upstreams = stored.filter(({ kind }) => kind === "openai");
    const found = new Map<string, Entry>();
    for (const channel of upstreams) {
      try {
        found.set(channel.id, await entryOf(channel));
      } catch (error) {
        // One that is no good must not keep the others from changing.
        log.error({ err: error, channel: channel.id }, "a channel cannot be used");
      }
    }
    const before = entries;
    entries = found;
    fleet = { ...fleetOf(own?.spec ?? defaultFleetSpec), disabled: own?.disabled ?? false };
    for (const { runtime } of before.values()) if (found.get(runtime.id)?.runtime !== runtime) close(runtime);
  };
  /** One reading at a time; who asks during one gets the one after it. */
  const refresh = (): Promise<void> =>
    (next ??= running
      .catch(() => {})
      .then(() => {
        next = undefined;
        running = read();
        return running;
      }));
  const follow = async (signal: AbortSignal) => {
    while (!signal.aborted) {
      try {
        await clock.sleep(resyncMs, signal);
        await refresh();
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "channels could not be read; they stay as they were");
      }
    }
  };
  const subscription = channels.onChange(() => {
    refresh().catch((error: unknown) => log.warn({ err: error }, "channels could not be read; they stay as they were"));
  });

  return {
    async start() {
      await refresh();
      following = follow(ending.signal);
    },
    refresh,
    get fleet() {
      return fleet;
    },
    serving: (model, route) =>
      entries.size === 0 ? [] : runtimes(entries).filter((runtime) => runtime.serves(model, route)),
    models() {
      const models = new Map<string, { createdAtMs: number; ready: boolean }>();
      const now = clock.now();
      for (const { channel, runtime } of entries.values()) {
        if (channel.disabled) continue;
        const createdAtMs = Number(channel.createdAt?.seconds ?? 0n) * 1_000;
        const ready = runtime.condition(now).state !== ChannelState.DISABLED;
        for (const name of channel.models) {
          const known = models.get(name);
          models.set(name, {
            createdAtMs: Math.min(known?.createdAtMs ?? createdAtMs, createdAtMs),
            ready: ready || (known?.ready ?? false),
          });
        }
      }
      return models;
    },
    status: (id) => entries.get(id)?.runtime.status(clock.now()),
    list: () => runtimes(entries),
    async [Symbol.asyncDispose]() {
      subscription[Symbol.dispose]();
      ending.abort();
      await following;
      await running.catch(() => {});
      const all = [...runtimes(entries), ...closing];
      entries = new Map();
      await Promise.all(all.map((runtime) => runtime[Symbol.asyncDispose]()));
    },
  };
}

function runtimes(entries: ReadonlyMap<string, Entry>): ChannelRuntime[] {
  return [...entries.values()].map(({ runtime }) => runtime);
}

function hasSpec(channel: Channel): channel is Channel & { spec: ChannelSpec } {
  return channel.spec !== undefined;
}

function fleetOf({ priority, weight }: ChannelSpec): Omit<FleetChannel, "disabled"> {
  return { id: fleetId, priority, weight };
}

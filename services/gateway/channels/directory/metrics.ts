// Metrics of channels: tries as telemetry tells them, states as they are when somebody looks.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { ChannelState } from "#gen/drawbridge/v1/channel";
import type { Clock } from "../../../kit/clock.ts";
import type { ChannelDirectory } from "./directory.ts";
import { type ChannelTried, channelTried } from "./telemetry.ts";

export interface ChannelMetricsOptions {
  readonly registry: Registry;
  readonly directory: ChannelDirectory;
  readonly clock: Clock;
}

const secondsBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** Counts until it is disposed. */
export function addChannelMetrics({ registry, directory, clock }: ChannelMetricsOptions): Disposable {
  const registers = [registry];
  const tries = new Counter({
    name: "drawbridge_channel_tries_total",
    help: "Tries on upstream channels, by what became of them: answered, refused, failed, broken, cancelled.",
    labelNames: ["channel", "result"],
    registers,
  });
  const firstContent = new Histogram({
    name: "drawbridge_channel_first_content_seconds",
    help: "Time from a try's begin to the first content of its answer.",
    labelNames: ["channel"],
    buckets: secondsBuckets,
    registers,
  });
  const state = new Gauge({
    name: "drawbridge_channel_state",
    help: "What a channel can do now: 0 ready, 1 open or resting, 2 half open, 3 disabled.",
    labelNames: ["channel"],
    registers,
    collect() {
      this.reset();
      for (const channel of directory.list()) {
        this.set({ channel: channel.id }, channel.condition(clock.now()).state - ChannelState.READY);
      }
    },
  });
  const inFlight = new Gauge({
    name: "drawbridge_channel_in_flight",
    help: "Requests that run on a channel.",
    labelNames: ["channel"],
    registers,
    collect() {
      this.reset();
      for (const channel of directory.list()) {
        this.set({ channel: channel.id }, Number(channel.status(clock.now()).inFlight));
      }
    },
  });
  const onTried = (message: unknown) => {
    const { channel, result, firstContentMs } = message as ChannelTried;
    tries.inc({ channel, result });
    if (firstContentMs !== undefined) firstContent.observe({ channel }, firstContentMs / 1_000);
  };
  channelTried.subscribe(onTried);
  return {
    [Symbol.dispose]() {
      channelTried.unsubscribe(onTried);
      for (const each of [tries, firstContent, state, inFlight]) each.reset();
    },
  };
}

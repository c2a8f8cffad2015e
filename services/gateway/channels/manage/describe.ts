// Channels as they are shown: with the fleet's own, with its models, and with what each one is on this gateway.
import { clone, create } from "@bufbuild/protobuf";
import { type Channel, ChannelSchema } from "#gen/drawbridge/v1/access_service";
import { type ChannelStatus, ChannelStatusSchema } from "#gen/drawbridge/v1/channel";
import { defaultFleetSpec, fleetId } from "../spec.ts";

export interface DescribeOptions {
  /** Models that the fleet serves. */
  readonly fleetModels: () => Promise<readonly string[]>;
  /** What a channel is on this gateway; undefined: it has not met it yet. */
  readonly status: (channelId: string) => ChannelStatus | undefined;
}

export function createDescribe({ fleetModels, status }: DescribeOptions) {
  return async (channels: readonly Channel[]): Promise<Channel[]> => {
    const models = channels.some(({ kind }) => kind === "fleet") ? await fleetModels() : [];
    return channels.map((stored) => {
      const channel = clone(ChannelSchema, stored);
      if (channel.kind === "fleet") channel.models = [...models];
      channel.status = status(channel.id) ?? create(ChannelStatusSchema);
      return channel;
    });
  };
}

/** All channels, by id: the stored ones, and the fleet's where nobody has stored it. */
export function withFleet(stored: readonly Channel[]): readonly Channel[] {
  if (stored.some(({ id }) => id === fleetId)) return stored;
  const { id, kind, priority, weight } = defaultFleetSpec;
  const fleet = create(ChannelSchema, { id, kind, priority, weight, spec: defaultFleetSpec, managedBy: "file" });
  return [...stored, fleet].toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

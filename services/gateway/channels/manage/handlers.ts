// The channel methods of AccessService: wire to store and back.
import type { ServiceImpl } from "@connectrpc/connect";
import type { AccessService, Channel } from "#gen/drawbridge/v1/access_service";
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import type { Clock } from "../../../kit/clock.ts";
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { ChannelStore } from "../../../state/state.ts";
import { withFleet } from "./describe.ts";
import { checkSpec, defaultFleetSpec, fleetId } from "../spec.ts";

export interface ChannelHandlerOptions {
  readonly channels: ChannelStore;
  /** Fills in what a channel is on this gateway, and which models the fleet serves. */
  readonly describe: (channels: readonly Channel[]) => Promise<Channel[]>;
  /** Resolves when what is stored is in force on this gateway. */
  readonly refresh: () => Promise<void>;
  readonly clock: Clock;
}

export function createChannelHandlers({ channels, describe, refresh, clock }: ChannelHandlerOptions) {
  /** Who changed a channel may use it at once. */
  const described = async (channel: Channel) => {
    await refresh();
    return (await describe([channel]))[0];
  };
  /** The fleet's channel is there before anybody has stored it. */
  const ensureFleet = async (id: string) => {
    if (id !== fleetId || (await channels.get(fleetId))) return;
    await channels.create(defaultFleetSpec, "api", clock.now()).catch((error: unknown) => {
      if (!(error instanceof DrawbridgeError && error.reason === "ALREADY_EXISTS")) throw error;
    });
  };
  const setDisabled = async (id: string, disabled: boolean) => {
    await ensureFleet(id);
    return { channel: await described(await channels.setDisabled(id, disabled)) };
  };
  return {
    async listChannels() {
      return { channels: await describe(withFleet(await channels.list())) };
    },

    async createChannel({ spec }) {
      return { channel: await described(await channels.create(checked(spec), "api", clock.now())) };
    },

    async updateChannel({ spec, revision }) {
      const wanted = checked(spec);
      await ensureFleet(wanted.id);
      return { channel: await described(await channels.update(wanted, "api", Number(revision))) };
    },

    async deleteChannel({ id }) {
      await channels.remove(id);
      await refresh();
      return {};
    },

    enableChannel: ({ id }) => setDisabled(id, false),
    disableChannel: ({ id }) => setDisabled(id, true),
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}

function checked(spec: ChannelSpec | undefined): ChannelSpec {
  if (!spec) throw new DrawbridgeError("INVALID_ARGUMENT", "spec: a value is required.");
  checkSpec(spec);
  return spec;
}

// Brings the channels of the configuration file into the store when a gateway starts, and takes out those that it has no more. What was made by
// command stays, and so does whether a channel is switched off.
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import type { Clock } from "../../../kit/clock.ts";
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { ChannelStore } from "../../../state/state.ts";

export async function applyChannels(
  channels: ChannelStore,
  specs: readonly ChannelSpec[],
  clock: Clock,
): Promise<void> {
  const stored = await channels.list();
  for (const spec of specs) {
    if (stored.some(({ id }) => id === spec.id)) await channels.update(spec, "file", 0);
    else await unless("ALREADY_EXISTS", channels.create(spec, "file", clock.now()));
  }
  const wanted = new Set(specs.map(({ id }) => id));
  for (const { id, managedBy } of stored) {
    if (managedBy === "file" && !wanted.has(id)) await unless("NOT_FOUND", channels.remove(id));
  }
}

/** Other gateways start from the same file at the same time. */
async function unless(reason: "ALREADY_EXISTS" | "NOT_FOUND", work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof DrawbridgeError && error.reason === reason)) throw error;
  }
}

// Channels as every implementation keeps them: changes as pure functions of the stored record, applied where nobody else was first.
import { clone, create, equals } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Channel, ChannelSchema } from "#gen/drawbridge/v1/access_service";
import { type ChannelSpec, ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { DrawbridgeError } from "../kit/errors.ts";
import { checkId } from "./checks.ts";
import type { ChannelStore } from "./state.ts";

/** What an implementation brings: records as text, replaced only where they still are what was read. */
export interface ChannelRecords {
  read(id: string): Promise<Channel | undefined>;
  list(): Promise<Channel[]>;
  /** Replaces `before` (undefined: none) by `after` (undefined: none). false: another was first. */
  replace(id: string, before: Channel | undefined, after: Channel | undefined): Promise<boolean>;
}

/** Who is overtaken so often in a row has met a fault, not a colleague. */
const triesMax = 100;

export function createChannelStore(
  records: ChannelRecords,
  changes: { readonly onChange: ChannelStore["onChange"]; readonly notify: () => void },
): ChannelStore {
  /** Applies a change to what is stored, until nobody else was first; what it gave. */
  const change = async <T extends Channel | undefined>(
    id: string,
    next: (before: Channel | undefined) => T,
  ): Promise<T> => {
    checkId("The channel's id", id);
    for (let tries = 0; tries < triesMax; tries += 1) {
      const before = await records.read(id);
      const after = next(before);
      if (after === before) return after;
      if (!(await records.replace(id, before, after))) continue;
      changes.notify();
      return after;
    }
    throw new DrawbridgeError("REVISION_CONFLICT", `Channel "${id}" is changed by many at the same time. Try again.`);
  };
  return {
    onChange: changes.onChange,
    get: (id) => records.read(id),
    list: () => records.list(),
    create: (spec, managedBy, now) =>
      change(spec.id, (before) => {
        if (before) throw new DrawbridgeError("ALREADY_EXISTS", `There is a channel "${spec.id}" already.`);
        const createdAt = timestampFromMs(now);
        return withSpec(create(ChannelSchema, { managedBy, revision: 1n, createdAt }), spec);
      }),
    update: (spec, managedBy, revision) =>
      change(spec.id, (before) => updated(needed(before, spec.id), spec, managedBy, BigInt(revision))),
    setDisabled: (id, disabled) =>
      change(id, (before) => ({ ...needed(before, id), disabled, revision: needed(before, id).revision + 1n })),
    async remove(id) {
      await change(id, (before) => {
        needed(before, id);
        return undefined;
      });
    },
  };
}

function needed(channel: Channel | undefined, id: string): Channel {
  if (!channel) throw new DrawbridgeError("NOT_FOUND", `There is no channel "${id}".`);
  return channel;
}

function updated(before: Channel, spec: ChannelSpec, managedBy: string, revision: bigint): Channel {
  if (revision !== 0n && revision !== before.revision) {
    throw new DrawbridgeError(
      "REVISION_CONFLICT",
      `Channel "${spec.id}" has changed since it was read. Read it again.`,
    );
  }
  const same = before.spec && equals(ChannelSpecSchema, before.spec, spec) && before.managedBy === managedBy;
  if (same) return before;
  const after = clone(ChannelSchema, before);
  after.managedBy = managedBy;
  after.revision = before.revision + 1n;
  return withSpec(after, spec);
}

/** The fields beside the specification repeat it, for readers who know no specification yet. */
function withSpec(channel: Channel, spec: ChannelSpec): Channel {
  channel.id = spec.id;
  channel.kind = spec.kind;
  channel.priority = spec.priority;
  channel.weight = spec.weight;
  channel.models = Object.keys(spec.models).toSorted();
  channel.spec = spec;
  return channel;
}

// Channels: records in one hash, by id. There are few of them, and whoever wants one wants all.
import { ChannelSchema } from "#gen/drawbridge/v1/access_service";
import { type ChannelRecords, createChannelStore } from "../channel-records.ts";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { ChannelStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { fields, text } from "./replies.ts";

export function createValkeyChannelStore(context: ObservedContext): ChannelStore {
  return createChannelStore(channelRecords(context), context.changes);
}

function channelRecords({ connection, keys }: ObservedContext): ChannelRecords {
  return {
    async read(id) {
      const record = text(await connection.command("HGET", keys.channels, id));
      return record === undefined ? undefined : decode(ChannelSchema, record);
    },
    async list() {
      const records = [...fields(await connection.command("HGETALL", keys.channels))];
      return records.toSorted(([a], [b]) => compareBytes(a, b)).map(([, record]) => decode(ChannelSchema, record));
    },
    async replace(id, before, after) {
      const revision = before === undefined ? "" : String(before.revision);
      const args = [id, revision, after === undefined ? "" : encode(ChannelSchema, after)];
      return text(await connection.script("replace-channel", [keys.channels], args)) === "1";
    },
  };
}

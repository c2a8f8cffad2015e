// Channels.
import { ChannelSchema } from "#gen/drawbridge/v1/access_service";
import { type ChannelRecords, createChannelStore } from "../channel-records.ts";
import { decode, encode } from "../records.ts";
import type { ChannelStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database } from "./database.ts";

export function createEmbeddedChannelStore(database: Database, changes: Changes): ChannelStore {
  return createChannelStore(channelRecords(database), changes);
}

function channelRecords(database: Database): ChannelRecords {
  const revisionOf = (id: string) => {
    const row = database.get("SELECT revision FROM channels WHERE id = ?", id);
    return row === undefined ? undefined : Number(row["revision"]);
  };
  return {
    async read(id) {
      const row = database.get("SELECT record FROM channels WHERE id = ?", id);
      return row && decode(ChannelSchema, row["record"]);
    },
    list: async () =>
      database.all("SELECT record FROM channels ORDER BY id").map((row) => decode(ChannelSchema, row["record"])),
    replace: async (id, before, after) =>
      database.transaction(() => {
        if (revisionOf(id) !== (before && Number(before.revision))) return false;
        if (after) {
          const record = encode(ChannelSchema, after);
          database.run("INSERT OR REPLACE INTO channels VALUES (?, ?, ?)", id, record, Number(after.revision));
        } else database.run("DELETE FROM channels WHERE id = ?", id);
        return true;
      }),
  };
}

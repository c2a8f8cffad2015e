// The fleet's event log: a stream whose ids are the revisions.
import { create } from "@bufbuild/protobuf";
import { FleetEventSchema } from "#gen/drawbridge/v1/fleet_service";
import { decode, encode } from "../records.ts";
import type { EventLog } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { texts } from "./replies.ts";

const keptMax = 10_000;

export function createEventLog({ connection, keys, changes }: ObservedContext): EventLog {
  return {
    onChange: changes.onChange,

    async append(event) {
      const record = encode(FleetEventSchema, create(FleetEventSchema, event));
      const revision = Number(await connection.script("append-event", [keys.events], [record, keptMax]));
      changes.notify();
      return revision;
    },

    async list(afterRevision, limit) {
      const reply = await connection.script("list-events", [keys.events], [afterRevision, limit]);
      const [revision, entries] = reply as [number, [id: string, values: unknown][]];
      const events = entries.map(([id, values]) => {
        const event = decode(FleetEventSchema, texts(values)[1]);
        event.revision = BigInt(id.split("-")[0] ?? 0);
        return event;
      });
      return { events, revision: Number(revision) };
    },
  };
}

// Which models there are, as the scheduler knows them; remembered for a moment.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import type { Model, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../../kit/clock.ts";

export interface Models {
  list(): Promise<readonly Model[]>;
  find(name: string): Promise<Model | undefined>;
}

/** How long an answer of the scheduler is good for, in ms. */
const maxAgeMs = 500;

export function createModels(scheduler: Pick<Client<typeof SchedulerService>, "listModels">, clock: Clock): Models {
  let known: { readonly models: readonly Model[]; readonly byName: ReadonlyMap<string, Model> } | undefined;
  let readAt = 0;
  let reading: Promise<void> | undefined;
  const read = async () => {
    const { models } = await scheduler.listModels({}, { timeoutMs: 5_000 });
    known = { models, byName: new Map(models.map((model) => [model.name, model])) };
    readAt = clock.monotonic();
  };
  const current = async () => {
    if (!known || clock.monotonic() - readAt >= maxAgeMs) {
      await (reading ??= read().finally(() => {
        reading = undefined;
      }));
    }
    return known ?? { models: [], byName: new Map<string, Model>() };
  };
  return {
    list: async () => (await current()).models,
    find: async (name) => (await current()).byName.get(name),
  };
}

/** A model in OpenAI's form. */
export function modelBody(model: Model) {
  return {
    id: model.name,
    object: "model",
    created: Math.floor((model.createdAt ? timestampMs(model.createdAt) : 0) / 1_000),
    owned_by: "drawbridge",
  };
}

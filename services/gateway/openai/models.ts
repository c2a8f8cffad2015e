// Which models there are, as the scheduler knows them; remembered for a moment.
import type { Client } from "@connectrpc/connect";
import type { Model, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../../kit/clock.ts";
import { engineFailure } from "./errors.ts";

export interface Models {
  list(): Promise<readonly Model[]>;
  find(name: string): Promise<Model | undefined>;
}

interface Known {
  readonly models: readonly Model[];
  readonly byName: ReadonlyMap<string, Model>;
  readonly readAt: number;
}

/** How long an answer of the scheduler is good for, and how long it may take, in ms. */
const maxAgeMs = 500;
const timeoutMs = 5_000;

export function createModels(scheduler: Pick<Client<typeof SchedulerService>, "listModels">, clock: Clock): Models {
  let known: Known | undefined;
  let reading: Promise<Known> | undefined;
  const read = async (): Promise<Known> => {
    try {
      const { models } = await scheduler.listModels({}, { timeoutMs });
      known = { models, byName: new Map(models.map((model) => [model.name, model])), readAt: clock.monotonic() };
      return known;
    } catch (error) {
      throw engineFailure(error);
    }
  };
  const current = async (): Promise<Known> => {
    if (known && clock.monotonic() - known.readAt < maxAgeMs) return known;
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return await reading;
  };
  return {
    list: async () => (await current()).models,
    find: async (name) => (await current()).byName.get(name),
  };
}

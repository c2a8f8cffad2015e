// All models: the fleet's and those of upstream channels.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Model, ModelSchema } from "#gen/drawbridge/v1/scheduler_service";
import type { Models } from "../../openai/models.ts";
import type { ChannelDirectory } from "./directory.ts";

export function withChannelModels(fleet: Models, directory: ChannelDirectory): Models {
  const merged = async (): Promise<readonly Model[]> => {
    const channels = directory.models();
    const listed = directory.fleet.disabled ? [] : fleet.list();
    if (channels.size === 0) return await listed;
    // Upstreams go on where the engine is away.
    const own = await Promise.resolve(listed).catch(() => []);
    const known = new Set(own.map(({ name }) => name));
    const ready = own.map((model) => (channels.get(model.name)?.ready ? { ...model, ready: true } : model));
    const others = [...channels].filter(([name]) => !known.has(name)).map(([name, model]) => modelOf(name, model));
    return [...ready, ...others].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  };
  return {
    list: merged,
    find: async (name) => (await merged()).find((model) => model.name === name),
  };
}

function modelOf(
  name: string,
  { ready, createdAtMs }: { readonly ready: boolean; readonly createdAtMs: number },
): Model {
  return create(ModelSchema, { name, ready, createdAt: timestampFromMs(createdAtMs) });
}

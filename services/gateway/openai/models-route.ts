// GET /v1/models and /v1/models/{id}: the models that the caller's key may use.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { FastifyRequest } from "fastify";
import type { Model } from "#gen/drawbridge/v1/scheduler_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Models } from "./models.ts";

export async function listModels(models: Models, request: FastifyRequest) {
  const all = await models.list();
  return { object: "list", data: all.filter((model) => mayUse(request, model.name)).map(modelBody) };
}

export async function retrieveModel(models: Models, request: FastifyRequest, id: string) {
  const model = mayUse(request, id) ? await models.find(id) : undefined;
  if (!model) throw modelNotFound(id);
  return modelBody(model);
}

export function modelNotFound(id: string): DrawbridgeError {
  return new DrawbridgeError("MODEL_NOT_FOUND", `The model '${id}' does not exist or you do not have access to it.`);
}

function mayUse({ exchange }: FastifyRequest, model: string): boolean {
  const models = exchange.caller?.key.models ?? [];
  return models.length === 0 || models.includes(model);
}

function modelBody(model: Model) {
  return {
    id: model.name,
    object: "model",
    created: Math.floor((model.createdAt ? timestampMs(model.createdAt) : 0) / 1_000),
    owned_by: "drawbridge",
  };
}

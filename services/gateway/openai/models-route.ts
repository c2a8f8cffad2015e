// GET /v1/models and /v1/models/{id}: the models that the caller's key may use.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { FastifyRequest } from "fastify";
import type { Model } from "#gen/drawbridge/v1/scheduler_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Models } from "./models.ts";

export async function listModels(models: Models, request: FastifyRequest) {
  return { object: "list", data: (await usableModels(models, request)).map(modelBody) };
}

export async function retrieveModel(models: Models, request: FastifyRequest, id: string) {
  return modelBody(await usableModel(models, request, id));
}

export async function usableModels(models: Models, request: FastifyRequest): Promise<Model[]> {
  return (await models.list()).filter(({ name }) => mayUse(request, name));
}

export async function usableModel(models: Models, request: FastifyRequest, id: string): Promise<Model> {
  const model = mayUse(request, id) ? await models.find(id) : undefined;
  if (!model) throw modelNotFound(id);
  return model;
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

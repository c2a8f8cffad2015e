// GET /v1/models and /v1/models/{id} for clients that speak Anthropic's API.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import type { Model } from "#gen/drawbridge/v1/scheduler_service";
import { usableModel, usableModels } from "../openai/models-route.ts";
import type { Models } from "../openai/models.ts";
import { parseBody } from "../openai/parse.ts";

const id = z.string().max(256).optional();
const pageQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1_000).default(20),
  after_id: id,
  before_id: id,
});

/** One page, as Anthropic cuts them. */
export async function listModelPage(models: Models, request: FastifyRequest) {
  const { limit, after_id: after, before_id: before } = parseBody(pageQuery, request.query, {});
  const all = (await usableModels(models, request)).map(modelInfo);
  const begin = after === undefined ? 0 : all.findIndex((each) => each.id === after) + 1;
  const found = before === undefined ? -1 : all.findIndex((each) => each.id === before);
  const end = found === -1 ? all.length : found;
  const backwards = found !== -1;
  const data = backwards ? all.slice(Math.max(begin, end - limit), end) : all.slice(begin, begin + limit);
  const more = backwards ? end - limit > begin : begin + limit < end;
  return { data, has_more: more, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}

export async function retrieveModelInfo(models: Models, request: FastifyRequest, name: string) {
  return modelInfo(await usableModel(models, request, name));
}

function modelInfo(model: Model) {
  return {
    type: "model",
    id: model.name,
    display_name: model.name,
    created_at: new Date(model.createdAt ? timestampMs(model.createdAt) : 0).toISOString(),
  };
}

// GET and DELETE /v1/responses/{id}, and POST /v1/responses/{id}/cancel.
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from "fastify";
import { errorBody } from "../openai/errors.ts";
import { ParameterError } from "../openai/parse.ts";
import type { ResponseStore } from "./store.ts";

interface Route {
  Params: { id: string };
  Querystring: { stream?: string };
}

export function addResponseRoutes(app: FastifyInstance, guarded: RouteShorthandOptions, store: ResponseStore): void {
  app.get<Route>("/v1/responses/:id", guarded, async (request, reply) => {
    if (request.query.stream === "true") {
      throw new ParameterError(
        "A stored response is given whole: leave `stream` out.",
        "stream",
        "unsupported_parameter",
      );
    }
    const { id } = request.params;
    return store.get(userOf(request), id)?.body ?? notFound(reply, id);
  });
  app.delete<Route>("/v1/responses/:id", guarded, async (request, reply) => {
    const { id } = request.params;
    if (!store.remove(userOf(request), id)) return notFound(reply, id);
    return { id, object: "response", deleted: true };
  });
  app.post<Route>("/v1/responses/:id/cancel", guarded, async (request, reply) => {
    const { id } = request.params;
    if (!store.get(userOf(request), id)) return notFound(reply, id);
    throw new ParameterError("Only a response in the background can be cancelled: close the stream of this one.", "id");
  });
}

function userOf({ exchange }: FastifyRequest<Route>): string {
  return exchange.caller?.userId ?? "";
}

function notFound(reply: FastifyReply, id: string): FastifyReply {
  const message = `Response with id '${id}' not found.`;
  return reply.code(404).send(errorBody(message, "invalid_request_error", null, null));
}

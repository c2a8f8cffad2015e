// Cross-origin calls from web pages, where the configuration names their origins.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

/** How long a browser may remember a preflight's answer, in s. */
const maxAgeSeconds = 600;

const exposedHeaders = [
  "x-request-id",
  "request-id",
  "openai-processing-ms",
  "idempotent-replayed",
  "x-drawbridge-ignored-parameters",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  ...["limit", "remaining", "reset"].flatMap((what) => [`x-ratelimit-${what}-requests`, `x-ratelimit-${what}-tokens`]),
].join(", ");

/** Adds headers for pages of these origins to every answer, and answers their preflights. Without origins it adds nothing. */
export function addCors(app: FastifyInstance, origins: readonly string[]): void {
  if (origins.length === 0) return;
  const allows = (origin: string) => origins.includes("*") || origins.includes(origin);
  app.addHook("onRequest", async (request: FastifyRequest, reply: FastifyReply) => {
    // On the raw response, so that streams have them too.
    reply.raw.setHeader("vary", "Origin");
    const { origin } = request.headers;
    if (origin === undefined || !allows(origin)) return;
    reply.raw.setHeader("access-control-allow-origin", origin);
    reply.raw.setHeader("access-control-expose-headers", exposedHeaders);
  });
  app.options("/*", async (request, reply) => {
    const { origin } = request.headers;
    if (origin !== undefined && allows(origin)) {
      reply.headers({
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers":
          request.headers["access-control-request-headers"] ?? "authorization, content-type",
        "access-control-max-age": String(maxAgeSeconds),
      });
    }
    return reply.code(204).send();
  });
}

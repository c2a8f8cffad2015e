// Which of the two APIs a client speaks: errors and headers have a form in each.
import type { FastifyRequest } from "fastify";

export type Dialect = "openai" | "anthropic";

/** By the path, and by the header that Anthropic's clients send with every request. */
export function dialectOf({ url, headers }: Pick<FastifyRequest, "url" | "headers">): Dialect {
  const anthropic = /^\/v1\/messages(?:[/?]|$)/.test(url) || headers["anthropic-version"] !== undefined;
  return anthropic ? "anthropic" : "openai";
}

export function speaksAnthropic({ exchange }: FastifyRequest): boolean {
  return exchange.dialect === "anthropic";
}

/** The key, in either API's header, as a bearer token. */
export function authorizationOf({ headers }: FastifyRequest): string | undefined {
  const key = headers["x-api-key"];
  return headers.authorization ?? (typeof key === "string" && key !== "" ? `Bearer ${key}` : undefined);
}

// The gateway's plain routes, and what holds for all of them: an exchange for each request, headers on every answer, errors in OpenAI's form.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Authenticator } from "../access/authenticate.ts";
import type { Billing } from "../access/billing.ts";
import type { GatewaySettings } from "../config.ts";
import { type ChatOptions, handleChat } from "../openai/chat-route.ts";
import { type ErrorAnswer, errorAnswer, errorBody } from "../openai/errors.ts";
import { modelBody, type Models } from "../openai/models.ts";
import { ParameterError } from "../openai/parse.ts";
import { beginExchange, commonHeaders, endExchange } from "./exchange.ts";
import type { Metrics } from "./metrics.ts";

export interface RouteOptions extends ChatOptions {
  readonly authenticator: Authenticator;
  readonly billing: Billing;
  readonly models: Models;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: GatewaySettings;
}

export function addRoutes(app: FastifyInstance, options: RouteOptions): void {
  addEveryAnswer(app, options);
  addProbes(app, options);
  const { config } = options;
  const authenticate = (request: FastifyRequest) => authenticateRequest(request, options);

  app.post(
    "/v1/chat/completions",
    { onRequest: authenticate, bodyLimit: config.body_limit },
    async (request, reply) => {
      try {
        return await handleChat(options, request, reply);
      } finally {
        // Nobody gets an answer any more, so that no hook tells of its end.
        const { raw } = reply;
        if (raw.destroyed && !raw.writableFinished) endExchange(request, reply, options.clock, options.log);
      }
    },
  );
  app.get("/v1/models", { onRequest: authenticate }, async (request) => {
    const models = await options.models.list();
    return { object: "list", data: models.filter((model) => mayUse(request, model.name)).map(modelBody) };
  });
  app.get<{ Params: { "*": string } }>("/v1/models/*", { onRequest: authenticate }, async (request) => {
    const id = request.params["*"];
    const model = mayUse(request, id) ? await options.models.find(id) : undefined;
    if (model) return modelBody(model);
    throw new DrawbridgeError("MODEL_NOT_FOUND", `The model '${id}' does not exist or you do not have access to it.`);
  });
}

/** Before the body is read: nobody unknown makes us take one. */
async function authenticateRequest(request: FastifyRequest, { authenticator, billing }: RouteOptions): Promise<void> {
  const { exchange } = request;
  exchange.caller = await authenticator.authenticate(request.headers.authorization, request.ip);
  // What admission takes from the limits is told by admission itself.
  if (request.method === "GET") exchange.limits = await billing.limits(exchange.caller);
}

function mayUse({ exchange }: FastifyRequest, model: string): boolean {
  const models = exchange.caller?.key.models ?? [];
  return models.length === 0 || models.includes(model);
}

function addEveryAnswer(app: FastifyInstance, options: RouteOptions): void {
  const { clock, log, config } = options;
  app.decorateRequest("exchange", null as never);
  app.addHook("onRequest", async (request) => {
    request.exchange = beginExchange(clock);
  });
  app.addHook("onSend", async (request, reply) => {
    reply.headers(commonHeaders(request.exchange, clock));
  });
  app.addHook("onResponse", async (request, reply) => endExchange(request, reply, clock, log));
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    await findLimits(request, options);
    const answer = answerOf(error, config);
    if (answer.status === 500) log.error({ err: error, request_id: request.exchange.requestId }, "request failed");
    else log.debug({ err: error, request_id: request.exchange.requestId }, "request refused");
    return send(reply, answer);
  });
  app.setNotFoundHandler((request, reply) => {
    const message = `Unknown request URL: ${request.method} ${request.url}. Please check the URL for typos.`;
    const body = errorBody(message, "invalid_request_error", null, "unknown_url");
    return send(reply, { status: 404, headers: {}, body });
  });
}

/** A request that was refused before its admission tells the limits too. */
async function findLimits({ exchange }: FastifyRequest, { billing, log }: RouteOptions): Promise<void> {
  if (!exchange.caller || exchange.limits) return;
  try {
    exchange.limits = await billing.limits(exchange.caller);
  } catch (error) {
    // The refusal stands without them.
    log.debug({ err: error, request_id: exchange.requestId }, "limits could not be read");
  }
}

function send(reply: FastifyReply, { status, headers, body }: ErrorAnswer): FastifyReply {
  return reply.code(status).headers(headers).type("application/json; charset=utf-8").send(JSON.stringify(body));
}

function answerOf(error: FastifyError, config: GatewaySettings): ErrorAnswer {
  const refused = error instanceof DrawbridgeError ? undefined : bodyError(error, config);
  if (refused) return refused;
  const { param, code } = error instanceof ParameterError ? error : { param: undefined, code: undefined };
  return errorAnswer(asDrawbridgeError(error), { param, code, retryAfterMs: config.retry_after });
}

/** What fastify says of a body that it did not take. */
function bodyError({ code, statusCode, message }: FastifyError, config: GatewaySettings): ErrorAnswer | undefined {
  const answer = (status: number, text: string, name: string | null): ErrorAnswer => ({
    status,
    headers: {},
    body: errorBody(text, "invalid_request_error", null, name),
  });
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return answer(413, `The request body is larger than ${config.body_limit} bytes.`, "request_too_large");
  }
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    return answer(415, "Send the body as application/json.", "unsupported_media_type");
  }
  if (statusCode === undefined || statusCode >= 500) return undefined;
  if (code === "FST_ERR_CTP_EMPTY_JSON_BODY") return answer(400, "The request has no body.", null);
  return answer(statusCode, `We could not parse the JSON body of your request. (${message})`, null);
}

function addProbes(app: FastifyInstance, { models, metrics, draining }: RouteOptions): void {
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_, reply) => {
    const ready = !draining() && (await models.list()).some((model) => model.ready);
    return reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not ready" });
  });
  app.get("/metrics", async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
}

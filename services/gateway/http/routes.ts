// The gateway's routes, and what holds for all of them: an exchange for each request, headers on every answer, errors in the client's form.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from "fastify";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Admissions } from "../access/admit.ts";
import type { Authenticator, Caller } from "../access/authenticate.ts";
import { anthropicAnswer } from "../anthropic/errors.ts";
import { countTokens, messagesEndpoint } from "../anthropic/messages.ts";
import { listModelPage, retrieveModelInfo } from "../anthropic/models-route.ts";
import { handleWithChannels, type ProxyOptions, refuseUpstreamModel } from "../channels/proxy.ts";
import { takeForms } from "../channels/form.ts";
import { channelRoutes, formRoutes } from "../channels/spec.ts";
import type { State } from "../../state/state.ts";
import type { GatewaySettings } from "../config.ts";
import { chatEndpoint } from "../openai/chat.ts";
import { errorFrame } from "../openai/chunks.ts";
import { completionsEndpoint } from "../openai/completions.ts";
import type { ErrorAnswer } from "../openai/errors.ts";
import { listModels, retrieveModel } from "../openai/models-route.ts";
import type { Models } from "../openai/models.ts";
import type { Endpoint } from "../pipeline/endpoint.ts";
import { handle } from "../pipeline/handle.ts";
import type { PipelineOptions } from "../pipeline/job.ts";
import { createResponsesEndpoint } from "../responses/endpoint.ts";
import { addResponseRoutes } from "../responses/routes.ts";
import type { ResponseStore } from "../responses/store.ts";
import { answerBadRequests } from "./bad-requests.ts";
import { addCors } from "./cors.ts";
import { addExportRoute } from "./export-route.ts";
import { addOwnRoutes } from "./own-routes.ts";
import { authorizationOf, dialectOf, speaksAnthropic } from "./dialect.ts";
import { beginExchange } from "./exchange.ts";
import { answerOf, unknownUrl } from "./failures.ts";
import { commonHeaders } from "./headers.ts";
import { watchMethods } from "./methods.ts";
import type { Metrics } from "./metrics.ts";
import type { OverloadGuard } from "./overload.ts";

export interface RouteOptions extends PipelineOptions, Omit<ProxyOptions, keyof PipelineOptions> {
  /** The models of all channels, the fleet among them. */
  readonly listedModels: Models;
  readonly state: Pick<State, "access" | "ledger">;
  readonly pepper: string;
  readonly authenticator: Authenticator;
  readonly metrics: Metrics;
  /** Answers that can be continued. */
  readonly responses: ResponseStore;
  readonly overload: OverloadGuard;
  /** A client's address, from that of whoever connects and x-forwarded-for. */
  readonly clientAddress: (peer: string, forwardedFor: string | undefined) => string;
  /** Whether the gateway stops. */
  readonly draining: () => boolean;
}

export function addRoutes(app: FastifyInstance, options: RouteOptions): void {
  limitConnections(app, options.config);
  addCors(app, options.config.cors_origins);
  addEveryAnswer(app, options);
  addProbes(app, options);
  addExportRoute(app, options);
  addApi(app, options);
}

/** Slow senders hold no connection for long. */
function limitConnections({ server }: FastifyInstance, config: GatewaySettings): void {
  server.headersTimeout = config.headers_timeout;
  server.requestTimeout = config.receive_timeout;
  server.keepAliveTimeout = config.idle_timeout;
  answerBadRequests(server);
}

function addApi(app: FastifyInstance, options: RouteOptions): void {
  const { listedModels: models, config, admissions } = options;
  // Before the body is read: nobody unknown makes us take one.
  const guarded: RouteShorthandOptions = {
    bodyLimit: config.body_limit,
    onRequest: async (request, reply) => {
      if (options.draining()) throw new DrawbridgeError("DRAINING", "This server is stopping. Try again.");
      const caller = await authenticateRequest(request, options);
      const place = options.overload.enter(await admissions.priority(caller), bodyBytes(request));
      reply.raw.once("close", () => place[Symbol.dispose]());
    },
  };
  const post = (path: string, answer: Answer, limit: RouteShorthandOptions = {}) =>
    app.post(path, { ...guarded, ...limit }, (request, reply) => {
      const work = answer(request, reply);
      request.exchange.work = work.then(
        () => undefined,
        () => undefined,
      );
      return work;
    });
  /** What the fleet answers, and upstream channels too where they serve the path. */
  const answers = (path: string, endpoint: Endpoint) => {
    const route = channelRoutes.find((each) => path === `/v1/${each}`);
    if (!route) {
      return post(path, async (request, reply) => {
        await refuseUpstreamModel(options, request.body, path);
        return await handle(endpoint, options, request, reply);
      });
    }
    return post(path, (request, reply) => {
      const fleet = (admissions: Admissions) => handle(endpoint, { ...options, admissions }, request, reply);
      return handleWithChannels(options, { route, request, reply, fleet });
    });
  };
  answers("/v1/chat/completions", chatEndpoint);
  answers("/v1/completions", completionsEndpoint);
  answers("/v1/responses", createResponsesEndpoint(options.responses));
  addResponseRoutes(app, guarded, options.responses);
  answers("/v1/messages", messagesEndpoint);
  app.post("/v1/messages/count_tokens", guarded, (request) => countTokens({ models, config }, request));
  for (const route of channelRoutes) {
    const path = `/v1/${route}`;
    if (app.hasRoute({ method: "POST", url: path })) continue;
    const limit = formRoutes.has(route) ? { bodyLimit: config.upload_limit } : {};
    post(path, (request, reply) => handleWithChannels(options, { route, request, reply, fleet: undefined }), limit);
  }
  takeForms(app);
  addOwnRoutes(app, guarded, options);
  app.get("/v1/models", guarded, (request) =>
    speaksAnthropic(request) ? listModelPage(models, request) : listModels(models, request),
  );
  app.get<{ Params: { "*": string } }>("/v1/models/*", guarded, (request) =>
    speaksAnthropic(request)
      ? retrieveModelInfo(models, request, request.params["*"])
      : retrieveModel(models, request, request.params["*"]),
  );
}

type Answer = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

async function authenticateRequest(request: FastifyRequest, options: RouteOptions): Promise<Caller> {
  const { authenticator, admissions, clientAddress } = options;
  const { exchange, headers } = request;
  const forwardedFor = headers["x-forwarded-for"];
  const address = clientAddress(request.ip, Array.isArray(forwardedFor) ? forwardedFor.join(",") : forwardedFor);
  const caller = await authenticator.authenticate(authorizationOf(request), address);
  exchange.caller = caller;
  // What admission takes from the limits is told by admission itself.
  if (request.method !== "POST") exchange.limits = await admissions.limits(caller);
  return caller;
}

/** What a request's body takes in memory, as it says itself; one that does not say may take all that it may. */
function bodyBytes({ headers, routeOptions: { bodyLimit } }: FastifyRequest): number {
  if (headers["transfer-encoding"] !== undefined) return bodyLimit;
  return Math.min(Number(headers["content-length"] ?? 0) || 0, bodyLimit);
}

function addEveryAnswer(app: FastifyInstance, options: RouteOptions): void {
  const { clock, log, config } = options;
  app.removeContentTypeParser("text/plain");
  app.decorateRequest("exchange", null as never);
  app.addHook("onRequest", async (request, reply) => {
    request.exchange = beginExchange({
      response: reply.raw,
      route: request.routeOptions.url,
      dialect: dialectOf(request),
      clock,
      log,
    });
  });
  app.addHook("onSend", async (request, reply) => {
    reply.headers(commonHeaders(request.exchange, clock));
    // Whoever keeps a connection would bring the next request here too.
    if (options.draining()) reply.header("connection", "close");
  });
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    await findLimits(request, options);
    // Closing on somebody who still sends would take the answer from them: what is left of such a body is read and dropped, within its time.
    if (bodiesNotRead.has(error.code)) reply.removeHeader("connection");
    const answer = answerOf(error, request, config);
    if (answer.status === 500) log.error({ err: error, request_id: request.exchange.requestId }, "request failed");
    else log.debug({ err: error, request_id: request.exchange.requestId }, "request refused");
    // A stream that got its headers while it waited: its failure can only be an event.
    if (reply.raw.headersSent) {
      reply.hijack();
      return void reply.raw.end(errorFrame(answer.body));
    }
    return send(reply, answer);
  });
  const methodsOf = watchMethods(app);
  app.setNotFoundHandler((request, reply) => send(reply, unknownUrl(request, methodsOf)));
}

/** Why fastify stops reading a body. */
const bodiesNotRead = new Set(["FST_ERR_CTP_BODY_TOO_LARGE", "FST_ERR_CTP_INVALID_MEDIA_TYPE"]);

/** A request that was refused before its admission tells the limits too. */
async function findLimits({ exchange }: FastifyRequest, { admissions, log }: RouteOptions): Promise<void> {
  if (!exchange.caller || exchange.limits) return;
  try {
    exchange.limits = await admissions.limits(exchange.caller);
  } catch (error) {
    // The refusal stands without them.
    log.debug({ err: error, request_id: exchange.requestId }, "limits could not be read");
  }
}

function send(reply: FastifyReply, answer: ErrorAnswer): FastifyReply {
  const { exchange } = reply.request;
  const { status, headers, body } =
    exchange.dialect === "anthropic" ? anthropicAnswer(answer, exchange.requestId) : answer;
  return reply.code(status).headers(headers).type("application/json; charset=utf-8").send(JSON.stringify(body));
}

function addProbes(app: FastifyInstance, { listedModels: models, metrics, draining }: RouteOptions): void {
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_, reply) => {
    const ready = !draining() && (await models.list()).some((model) => model.ready);
    return reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not ready" });
  });
  app.get("/metrics", async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
}

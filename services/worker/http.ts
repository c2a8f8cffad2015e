// Plain HTTP beside WorkerService, for curl and for probes: POST /prompt (SSE), GET /health, GET /slots, POST /drain. Bodies are the
// contract's messages in Protobuf's JSON.
import {
  type DescMessage,
  fromJson,
  type JsonValue,
  type MessageInitShape,
  type MessageShape,
  create,
  toJson,
} from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import type { FastifyInstance, FastifyReply } from "fastify";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { Health } from "#gen/drawbridge/v1/worker";
import {
  DrainRequestSchema,
  DrainResponseSchema,
  GetHealthResponseSchema,
  ListSlotsResponseSchema,
  PromptFailureSchema,
  PromptRequestSchema,
  PromptResponseSchema,
} from "#gen/drawbridge/v1/worker_service";
import { asDrawbridgeError, DrawbridgeError, errorDetail, toConnectError } from "../kit/errors.ts";
import { beginDrain, streamPrompt, type WorkerParts } from "./handlers.ts";

export function addWorkerRoutes(http: FastifyInstance, parts: WorkerParts): void {
  http.post("/prompt", (request, reply) => answering(reply, () => servePrompt(parts, request.body, reply)));
  http.get("/health", (_request, reply) => {
    const worker = parts.describe();
    const serving = worker.health === Health.HEALTHY || worker.health === Health.DEGRADED;
    return send(reply, serving ? 200 : 503, GetHealthResponseSchema, { worker });
  });
  http.get("/slots", (_request, reply) => send(reply, 200, ListSlotsResponseSchema, { pools: parts.pools() }));
  http.post("/drain", (request, reply) =>
    answering(reply, () => {
      const inFlight = beginDrain(parts, parse(DrainRequestSchema, request.body ?? {}));
      return send(reply, 200, DrainResponseSchema, { inFlight });
    }),
  );
}

function send<Desc extends DescMessage>(
  reply: FastifyReply,
  status: number,
  desc: Desc,
  value: MessageInitShape<Desc>,
): FastifyReply {
  return reply
    .code(status)
    .header("content-type", "application/json")
    .send(toJsonText(desc, create(desc, value)));
}

function toJsonText<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): string {
  return JSON.stringify(toJson(desc, message, { useProtoFieldName: true, alwaysEmitImplicit: true }));
}

/** The parsed body, within the contract's field rules; else INVALID_ARGUMENT. */
function parse<Desc extends DescMessage>(desc: Desc, body: unknown): MessageShape<Desc> {
  let message: MessageShape<Desc>;
  try {
    message = fromJson(desc, body as JsonValue);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new DrawbridgeError("INVALID_ARGUMENT", `The body is no ${desc.name} in JSON: ${detail}`, { cause: error });
  }
  const result = createValidator().validate(desc, message);
  if (result.kind !== "valid") {
    throw new DrawbridgeError(
      "INVALID_ARGUMENT",
      `The body breaks a rule of ${desc.name}: ${result.error?.message ?? ""}`,
    );
  }
  return message;
}

/** Runs a route; a failure becomes a status and a JSON body. */
async function answering(reply: FastifyReply, work: () => unknown): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    const domainError = asDrawbridgeError(error);
    const { retryAfterMs } = domainError;
    if (retryAfterMs !== undefined) reply.header("retry-after", Math.ceil(retryAfterMs / 1_000));
    return reply.code(codeToHttpStatus(toConnectError(domainError).code)).send({ error: errorBody(domainError) });
  }
}

function errorBody(error: DrawbridgeError): Record<string, unknown> {
  const outcome = errorDetail(error, PromptFailureSchema);
  return {
    reason: error.reason,
    message: error.message,
    ...(error.retryAfterMs === undefined ? {} : { retry_after_ms: error.retryAfterMs }),
    ...(outcome ? toObject(outcome) : {}),
  };
}

function toObject(failure: MessageShape<typeof PromptFailureSchema>): Record<string, unknown> {
  return toJson(PromptFailureSchema, failure, { useProtoFieldName: true }) as Record<string, unknown>;
}

/** Each batch is one event. A failure after the first is an event named "error"; before it, it is the response's status. */
async function servePrompt(parts: WorkerParts, body: unknown, reply: FastifyReply): Promise<unknown> {
  const request = parse(PromptRequestSchema, body);
  const left = new AbortController();
  reply.raw.once("close", () => left.abort());
  const batches = streamPrompt(parts.attempts, request, left.signal, undefined);
  const first = await batches.next();
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  try {
    for (let next = first; !next.done; next = await batches.next()) {
      await write(raw, `data: ${toJsonText(PromptResponseSchema, next.value)}\n\n`, left.signal);
    }
  } catch (error) {
    raw.write(`event: error\ndata: ${JSON.stringify(errorBody(asDrawbridgeError(error)))}\n\n`);
  } finally {
    await batches.return();
    raw.end();
  }
  return reply;
}

/** Waits while the reader is slower than the agent. */
async function write(raw: ServerResponse, text: string, signal: AbortSignal): Promise<void> {
  if (!raw.write(text) && !signal.aborted) await once(raw, "drain", { signal });
}

// POST /v1/chat/completions: check, admit, run, answer, settle.
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Prompt } from "#gen/drawbridge/v1/prompt";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { FleetClient } from "../../client/fleet-client.ts";
import { outcomeOf } from "../../client/outcome.ts";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import { newId } from "../../kit/random.ts";
import type { Caller } from "../access/authenticate.ts";
import { type Admission, AdmissionError, type Billing } from "../access/billing.ts";
import type { GatewaySettings } from "../config.ts";
import { createEventStream } from "../http/event-stream.ts";
import { commonHeaders, type Exchange } from "../http/exchange.ts";
import { collect, isCancelled, pass } from "./answer.ts";
import {
  type AnswerIdentity,
  completionBody,
  createChunkFrames,
  doneFrame,
  errorFrame,
  finishReason,
} from "./chunks.ts";
import { errorAnswer } from "./errors.ts";
import type { AnswerCache } from "./idempotency.ts";
import type { Models } from "./models.ts";
import { parseChatRequest, ParameterError } from "./parse.ts";
import { type ChatRequest, ignoredParameters } from "./schema.ts";
import { promptOf } from "./translate.ts";

export interface ChatOptions {
  readonly models: Models;
  readonly billing: Billing;
  readonly fleet: FleetClient;
  readonly answers: AnswerCache;
  readonly clock: Clock;
  readonly config: GatewaySettings;
  /** Whether the gateway stops. */
  readonly draining: () => boolean;
}

/** What the parts of one request share. */
interface Chat {
  readonly request: ChatRequest;
  readonly prompt: Prompt;
  readonly exchange: Exchange;
  readonly reply: FastifyReply;
  readonly identity: AnswerIdentity;
  readonly timeoutMs: number;
  /** Aborted when the client leaves. */
  readonly left: AbortSignal;
}

export async function handleChat(options: ChatOptions, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { exchange } = request;
  if (options.draining()) throw new DrawbridgeError("DRAINING", "This server is stopping. Try again.");
  const caller = callerOf(exchange);
  const body = parseChatRequest(request.body);
  if (!(await options.models.find(body.model))) {
    const message = `The model \`${body.model}\` does not exist or you do not have access to it.`;
    throw new DrawbridgeError("MODEL_NOT_FOUND", message);
  }
  exchange.model = body.model;
  const prompt = promptOf(body, { outputTokensMax: options.config.output_tokens_max });
  checkLength(prompt, options.config);

  const idempotencyKey = keyOf(request);
  const admission = await admit(options, request, caller, prompt, idempotencyKey);
  if ("replay" in admission)
    return reply
      .headers({
        ...commonHeaders(exchange, options.clock),
        "idempotent-replayed": "true",
        "content-type": "application/json; charset=utf-8",
      })
      .send(admission.replay);

  exchange.limits = admission.limits;
  using leaving = leaveSignal(reply);
  const chat: Chat = {
    request: body,
    prompt,
    exchange,
    reply,
    identity: {
      id: newId("chatcmpl").replace("_", "-"),
      created: Math.floor(options.clock.now() / 1_000),
      model: body.model,
    },
    timeoutMs: timeoutOf(request, options.config),
    left: leaving.signal,
  };
  // Awaited here: `leaving` is listened for until the answer has ended.
  if (body.stream) return await stream(options, chat, admission);
  return await whole(options, chat, admission, caller, idempotencyKey);
}

function callerOf(exchange: Exchange): Caller {
  if (!exchange.caller) throw new DrawbridgeError("INTERNAL", "The caller was not authenticated.");
  return exchange.caller;
}

function checkLength(prompt: Prompt, config: GatewaySettings): void {
  if (Number(prompt.inputTokensEstimate) <= config.input_tokens_max) return;
  throw new ParameterError(
    `This request has about ${prompt.inputTokensEstimate} input tokens; at most ${config.input_tokens_max} are taken. Shorten the messages.`,
    "messages",
    "context_length_exceeded",
  );
}

const idempotencyKeyCharsMax = 255;

function keyOf(request: FastifyRequest): string | undefined {
  const value = request.headers["idempotency-key"];
  if (value === undefined || value === "") return undefined;
  if (typeof value === "string" && value.length <= idempotencyKeyCharsMax) return value;
  throw new ParameterError(`The Idempotency-Key has at most ${idempotencyKeyCharsMax} characters.`);
}

async function admit(
  { billing, answers }: ChatOptions,
  request: FastifyRequest,
  caller: Caller,
  prompt: Prompt,
  key: string | undefined,
): Promise<Admission | { readonly replay: string }> {
  const bodyHash = key === undefined ? "" : createHash("sha256").update(JSON.stringify(request.body)).digest("hex");
  try {
    return await billing.admit({
      requestId: request.exchange.requestId,
      caller,
      model: prompt.model,
      inputTokens: Number(prompt.inputTokensEstimate),
      outputTokensMax: Number(prompt.outputTokensMax),
      idempotency: key === undefined ? undefined : { key, bodyHash },
    });
  } catch (error) {
    if (!(error instanceof AdmissionError)) throw error;
    request.exchange.limits = error.limits;
    const { refusal } = error;
    const billed = refusal.reason === "IDEMPOTENCY_CONFLICT" && refusal.conflict === "billed";
    const replay = billed && key !== undefined ? answers.get(caller.userId, key) : undefined;
    if (replay !== undefined) return { replay };
    throw error;
  }
}

/** The client's own deadline, in seconds, where it is shorter than ours. */
function timeoutOf(request: FastifyRequest, config: GatewaySettings): number {
  const seconds = Number(request.headers["x-stainless-timeout"]);
  return Number.isFinite(seconds) && seconds > 0
    ? Math.min(config.request_timeout, seconds * 1_000)
    : config.request_timeout;
}

/** Aborted when the connection closes before the answer has ended. */
function leaveSignal({ raw }: FastifyReply): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const onClose = () => {
    if (!raw.writableFinished) controller.abort();
  };
  raw.on("close", onClose);
  if (raw.destroyed) onClose();
  return { signal: controller.signal, [Symbol.dispose]: () => void raw.off("close", onClose) };
}

function run({ fleet }: ChatOptions, { exchange, prompt, timeoutMs, left }: Chat) {
  return fleet.run({ requestId: exchange.requestId, prompt, timeoutMs, signal: left });
}

/** The one exit of every run: settles, and keeps what the log tells. */
async function settle({ exchange }: Chat, admission: Admission, outcome: Outcome | undefined): Promise<void> {
  exchange.outcome = outcome;
  exchange.entry = await admission.settle(outcome);
}

function headersOf({ exchange, request }: Chat, clock: Clock): Record<string, string> {
  const ignored = ignoredParameters(request);
  return {
    ...commonHeaders(exchange, clock),
    ...(ignored.length > 0 ? { "x-drawbridge-ignored-parameters": ignored.join(", ") } : {}),
  };
}

async function whole(
  options: ChatOptions,
  chat: Chat,
  admission: Admission,
  caller: Caller,
  idempotencyKey: string | undefined,
): Promise<unknown> {
  const { clock } = options;
  const { exchange, reply, identity } = chat;
  try {
    const { text, reasoning, finished } = await collect(run(options, chat), () => {
      exchange.firstContentAt = clock.monotonic();
    });
    await settle(chat, admission, finished.outcome);
    if (isCancelled(finished)) return await hangUp(reply);
    const answer = { text, reasoning, finish: finishReason(finished.stopReason), usage: finished.outcome?.usage };
    const body = JSON.stringify(completionBody(identity, answer));
    if (idempotencyKey !== undefined) options.answers.set(caller.userId, idempotencyKey, body);
    return await reply.headers(headersOf(chat, clock)).type("application/json; charset=utf-8").send(body);
  } catch (error) {
    await settle(chat, admission, outcomeOf(error));
    throw error;
  }
}

/** Nobody is there to read an answer. */
async function hangUp(reply: FastifyReply): Promise<undefined> {
  reply.hijack();
  reply.raw.destroy();
  return undefined;
}

async function stream(options: ChatOptions, chat: Chat, admission: Admission): Promise<unknown> {
  const { clock, config } = options;
  const { exchange, reply, request, identity } = chat;
  const includeUsage = request.stream_options?.include_usage === true;
  const frames = createChunkFrames(identity, includeUsage);
  using events = createEventStream({
    response: reply.raw,
    headers: () => headersOf(chat, clock),
    clock,
    keepAliveMs: config.keep_alive_interval,
  });
  try {
    const finished = await pass(run(options, chat), events, frames, () => {
      exchange.firstContentAt = clock.monotonic();
    });
    await settle(chat, admission, finished.outcome);
    reply.hijack();
    if (isCancelled(finished)) return undefined;
    const usage = includeUsage ? frames.usage(finished.outcome?.usage) : "";
    await events.write(frames.finish(finishReason(finished.stopReason)) + usage + doneFrame);
  } catch (error) {
    await settle(chat, admission, outcomeOf(error));
    if (!events.opened) throw error;
    reply.hijack();
    const { body } = errorAnswer(asDrawbridgeError(error), { retryAfterMs: config.retry_after });
    await events.write(errorFrame(body));
  }
  events.end();
  return undefined;
}

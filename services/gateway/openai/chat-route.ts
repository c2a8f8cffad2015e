// POST /v1/chat/completions: check, admit, run, answer, settle.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Prompt } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import type { FleetClient } from "../../client/fleet-client.ts";
import { outcomeOf } from "../../client/outcome.ts";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { newId } from "../../kit/random.ts";
import type { Admission, Admissions } from "../access/admit.ts";
import type { Caller } from "../access/authenticate.ts";
import { AdmissionError } from "../access/refusals.ts";
import type { GatewaySettings } from "../config.ts";
import { type ClientWatch, watchClient } from "../http/client-watch.ts";
import { createEventStream } from "../http/event-stream.ts";
import type { Exchange } from "../http/exchange.ts";
import { commonHeaders } from "../http/headers.ts";
import { collect, isCancelled, pass, type WholeAnswer } from "./answer.ts";
import { createChunkFrames, doneFrame, errorFrame } from "./chunks.ts";
import { type AnswerIdentity, completionBody, finishReason } from "./completion.ts";
import { engineFailure, errorAnswer } from "./errors.ts";
import { type AnswerCache, bodyHashOf, idempotencyKeyOf } from "./idempotency.ts";
import { modelNotFound } from "./models-route.ts";
import type { Models } from "./models.ts";
import { parseChatRequest, ParameterError } from "./parse.ts";
import { type ChatRequest, ignoredParameters } from "./schema.ts";
import { promptOf } from "./translate.ts";

export interface ChatOptions {
  readonly models: Models;
  readonly admissions: Admissions;
  readonly fleet: FleetClient;
  readonly answers: AnswerCache;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: GatewaySettings;
}

/** What the parts of one request share. */
interface Chat {
  readonly request: ChatRequest;
  readonly prompt: Prompt;
  readonly caller: Caller;
  readonly exchange: Exchange;
  readonly reply: FastifyReply;
  readonly idempotencyKey: string | undefined;
  readonly identity: AnswerIdentity;
  readonly timeoutMs: number;
}

/** The most characters of an answer that is given whole; streamed ones have no such bound. */
const wholeAnswerCharsMax = 32 << 20;

const json = "application/json; charset=utf-8";

export async function handleChat(options: ChatOptions, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const chat = await check(options, request, reply);
  const admission = await admit(options, chat, request);
  if ("replay" in admission) {
    return reply
      .headers({ ...headersOf(chat, options.clock), "idempotent-replayed": "true" })
      .type(json)
      .send(admission.replay);
  }
  chat.exchange.limits = admission.limits;
  // Awaited here: the client is watched until the answer has ended.
  using client = watchClient(reply.raw);
  if (chat.request.stream) return await stream(options, chat, admission, client);
  return await whole(options, chat, admission, client);
}

/** All that can be wrong with a request, before it costs anything. */
async function check(
  { models, clock, config }: ChatOptions,
  { body, headers, exchange }: FastifyRequest,
  reply: FastifyReply,
): Promise<Chat> {
  const { caller } = exchange;
  if (!caller) throw new DrawbridgeError("INTERNAL", "The caller was not authenticated.");
  const request = parseChatRequest(body);
  if (!(await models.find(request.model))) throw modelNotFound(request.model);
  exchange.model = request.model;
  const prompt = promptOf(request, { outputTokensMax: config.output_tokens_max });
  checkLength(prompt, config.input_tokens_max);
  return {
    request,
    prompt,
    caller,
    exchange,
    reply,
    idempotencyKey: idempotencyKeyOf(headers["idempotency-key"]),
    identity: {
      id: newId("chatcmpl").replace("_", "-"),
      created: Math.floor(clock.now() / 1_000),
      model: request.model,
    },
    timeoutMs: timeoutOf(headers["x-stainless-timeout"], config.request_timeout),
  };
}

function checkLength({ inputTokensEstimate }: Prompt, inputTokensMax: number): void {
  if (Number(inputTokensEstimate) <= inputTokensMax) return;
  throw new ParameterError(
    `This request has about ${inputTokensEstimate} input tokens; at most ${inputTokensMax} are taken. Shorten the messages.`,
    "messages",
    "context_length_exceeded",
  );
}

/** The client's own deadline, in seconds, where it is shorter than ours. */
function timeoutOf(header: string | string[] | undefined, longestMs: number): number {
  const seconds = Number(header);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(longestMs, seconds * 1_000) : longestMs;
}

async function admit(
  { admissions, answers }: ChatOptions,
  chat: Chat,
  request: FastifyRequest,
): Promise<Admission | { readonly replay: string }> {
  const { caller, exchange, prompt, idempotencyKey: key } = chat;
  try {
    return await admissions.admit({
      requestId: exchange.requestId,
      caller,
      model: prompt.model,
      inputTokens: Number(prompt.inputTokensEstimate),
      outputTokensMax: Number(prompt.outputTokensMax),
      idempotency: key === undefined ? undefined : { key, bodyHash: bodyHashOf(request.body) },
    });
  } catch (error) {
    if (!(error instanceof AdmissionError)) throw error;
    exchange.limits = error.limits;
    const { refusal } = error;
    const billed = refusal.reason === "IDEMPOTENCY_CONFLICT" && refusal.conflict === "billed";
    const replay = billed && key !== undefined ? answers.get(caller.userId, key) : undefined;
    if (replay === undefined) throw error;
    return { replay };
  }
}

/**
 * Runs the prompt, and settles it once, however it ends: this is the only way out of an admission. `take` reads the batches to their end, and
 * what it gives is given on when the ledger knows.
 */
async function settled<T extends { readonly finished: WholeAnswer["finished"] }>(
  { fleet }: ChatOptions,
  { exchange, prompt, timeoutMs }: Chat,
  admission: Admission,
  client: ClientWatch,
  take: (batches: AsyncIterable<PromptResponse>) => Promise<T>,
): Promise<T> {
  try {
    const taken = await take(fleet.run({ requestId: exchange.requestId, prompt, timeoutMs, signal: client.signal }));
    exchange.outcome = taken.finished.outcome;
    return taken;
  } catch (error) {
    exchange.outcome = outcomeOf(error);
    throw engineFailure(error);
  } finally {
    if (exchange.outcome || exchange.firstContentAt === undefined) {
      exchange.entry = await admission.settle(exchange.outcome);
    } else admission.abandon();
  }
}

async function whole(options: ChatOptions, chat: Chat, admission: Admission, client: ClientWatch): Promise<unknown> {
  const { clock, answers } = options;
  const { exchange, reply, caller, idempotencyKey } = chat;
  const { body, finished, tooLong } = await settled(options, chat, admission, client, async (batches) => {
    const answer = await collect(batches, {
      charsMax: wholeAnswerCharsMax,
      onFirst: () => void (exchange.firstContentAt = clock.monotonic()),
      onTooLong: () => client.stop(),
    });
    const body = wholeBody(chat, answer);
    // Before it is settled: whoever then hears that the key was billed finds the answer.
    if (idempotencyKey !== undefined && !isCancelled(answer.finished)) answers.set(caller.userId, idempotencyKey, body);
    return { ...answer, body };
  });
  if (client.left) return hangUp(reply);
  if (tooLong) {
    const message = `The answer has more than ${wholeAnswerCharsMax} characters, too many to be given whole. Ask for a stream.`;
    throw new ParameterError(message, "stream", "answer_too_long");
  }
  if (isCancelled(finished)) throw interrupted();
  return reply.headers(headersOf(chat, clock)).type(json).send(body);
}

function wholeBody({ identity }: Chat, { finished, ...content }: WholeAnswer): string {
  const { stopReason, outcome } = finished;
  return JSON.stringify(
    completionBody(identity, { ...content, finish: finishReason(stopReason), usage: outcome?.usage }),
  );
}

async function stream(options: ChatOptions, chat: Chat, admission: Admission, client: ClientWatch): Promise<unknown> {
  const { clock, config, log } = options;
  const { exchange, reply, request, identity } = chat;
  const includeUsage = request.stream_options?.include_usage === true;
  const frames = createChunkFrames(identity, includeUsage);
  using events = createEventStream({
    response: reply.raw,
    headers: () => headersOf(chat, clock),
    clock,
    keepAliveMs: config.keep_alive_interval,
    stallMs: config.stall_timeout,
  });
  try {
    const { finished } = await settled(options, chat, admission, client, async (batches) => ({
      finished: await pass(batches, events, frames, () => void (exchange.firstContentAt = clock.monotonic())),
    }));
    if (client.left) return hangUp(reply);
    if (isCancelled(finished)) throw interrupted();
    const first = events.opened ? "" : frames.first;
    const usage = includeUsage ? frames.usage(finished.outcome?.usage) : "";
    await events.write(first + frames.finish(finishReason(finished.stopReason)) + usage + doneFrame);
  } catch (error) {
    if (client.left) return hangUp(reply);
    if (!events.opened) throw error;
    const failure = engineFailure(error);
    log.warn({ err: failure, request_id: exchange.requestId }, "a stream failed after content");
    await events.write(errorFrame(errorAnswer(failure, { retryAfterMs: config.retry_after }).body));
  }
  reply.hijack();
  events.end();
  return undefined;
}

/** The agent's turn was cancelled by somebody who is not the client: an operator, or a worker that stops. */
function interrupted(): DrawbridgeError {
  return new DrawbridgeError("CANCELLED", "The answer was interrupted.");
}

/** Nobody is there to read an answer. */
function hangUp(reply: FastifyReply): undefined {
  reply.hijack();
  reply.raw.destroy();
  return undefined;
}

function headersOf({ exchange, request }: Chat, clock: Clock): Record<string, string> {
  const ignored = ignoredParameters(request);
  return {
    ...commonHeaders(exchange, clock),
    ...(ignored.length > 0 ? { "x-drawbridge-ignored-parameters": ignored.join(", ") } : {}),
  };
}

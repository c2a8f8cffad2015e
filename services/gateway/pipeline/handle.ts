// The way of every request for an answer, whichever endpoint it came to: read, admit, run, answer, settle.
import { createHmac } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Admission } from "../access/admit.ts";
import { AdmissionError } from "../access/refusals.ts";
import { watchClient } from "../http/client-watch.ts";
import { idempotencyOf } from "../openai/idempotency.ts";
import { modelNotFound } from "../openai/models-route.ts";
import { ParameterError } from "../openai/parse.ts";
import type { Asked, Endpoint } from "./endpoint.ts";
import { headersOf, type Job, type PipelineOptions } from "./job.ts";
import { answerStream } from "./stream.ts";
import { answerWhole, jsonType } from "./whole.ts";

/** Answers a request with the fleet; throws while the client has heard nothing. The way out of an admission is `settled`, and no other. */
export async function handle(
  endpoint: Endpoint,
  options: PipelineOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const job = await check(endpoint, options, request, reply);
  const admission = await admit(options, job);
  if ("replay" in admission) {
    return reply
      .headers({ ...headersOf(job, options.clock), "idempotent-replayed": "true" })
      .type(jsonType)
      .send(admission.replay);
  }
  job.exchange.limits = admission.limits;
  // Awaited here: the client is watched until the answer has ended.
  using client = watchClient(reply.raw);
  const answer = job.asked.streamed ? answerStream : answerWhole;
  return await answer(options, { ...job, admission, client });
}

/** All that can be wrong with a request, before it costs anything. */
async function check(
  endpoint: Endpoint,
  { models, clock, config }: PipelineOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Job> {
  const { exchange, headers } = request;
  const { caller } = exchange;
  if (!caller) throw new DrawbridgeError("INTERNAL", "The caller was not authenticated.");
  const created = Math.floor(clock.now() / 1_000);
  const { requestId } = exchange;
  const { userId } = caller;
  const asked = await endpoint.read(request.body, { requestId, userId, created, config });
  const { prompt } = asked;
  if (!(await models.find(prompt.model))) throw modelNotFound(prompt.model);
  exchange.model = prompt.model;
  checkLength(asked, config.input_tokens_max);
  prompt.conversationScope = scopeOf(userId, config.keyPepper);
  const timeoutMs = timeoutOf(headers["x-stainless-timeout"], config.request_timeout);
  return { asked, caller, exchange, reply, idempotency: idempotencyOf(request), timeoutMs };
}

function checkLength({ prompt, inputField }: Asked, inputTokensMax: number): void {
  const { inputTokensEstimate } = prompt;
  if (Number(inputTokensEstimate) <= inputTokensMax) return;
  throw new ParameterError(
    `This request has about ${inputTokensEstimate} input tokens; at most ${inputTokensMax} are taken. Shorten the ${inputField}.`,
    inputField,
    "context_length_exceeded",
  );
}

/** Whose conversation it is, in a form that tells workers nothing of the user: sessions of agents are never shared between users. */
function scopeOf(userId: string, pepper: string): string {
  return createHmac("sha256", `conversation ${pepper}`).update(userId).digest("hex").slice(0, 32);
}

/** The client's own deadline, in seconds, where it is shorter than ours. */
function timeoutOf(header: string | string[] | undefined, longestMs: number): number {
  const seconds = Number(header);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(longestMs, seconds * 1_000) : longestMs;
}

async function admit(
  { admissions, answers }: PipelineOptions,
  { asked: { prompt }, caller, exchange, idempotency }: Job,
): Promise<Admission | { readonly replay: string }> {
  try {
    return await admissions.admit({
      requestId: exchange.requestId,
      caller,
      model: prompt.model,
      inputTokens: Number(prompt.inputTokensEstimate),
      outputTokensMax: Number(prompt.outputTokensMax),
      idempotency,
    });
  } catch (error) {
    if (!(error instanceof AdmissionError)) throw error;
    exchange.limits = error.limits;
    const { refusal } = error;
    const billed = refusal.reason === "IDEMPOTENCY_CONFLICT" && refusal.conflict === "billed";
    const replay = billed && idempotency ? answers.get(caller.userId, idempotency.key) : undefined;
    if (replay === undefined) throw error;
    return { replay };
  }
}

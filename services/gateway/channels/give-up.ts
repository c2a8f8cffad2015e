// What the client is told where no channel answered.
import type { FastifyReply } from "fastify";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { commonHeaders } from "../http/headers.ts";
import { errorFrame } from "../openai/chunks.ts";
import { errorBody } from "../openai/errors.ts";
import { ParameterError } from "../openai/parse.ts";
import { isUpstream, type Passage, type Proxied } from "./passage.ts";
import { tooLate } from "./upstream/try.ts";
import type { Refusal } from "./upstream/call.ts";

/** Nobody answered: the client is told what an upstream said of the request, else the first failure, else that nobody could be asked. */
export function giveUp(passage: Passage): FastifyReply {
  const { refusal, failure, proxied, options } = passage;
  if (failure instanceof ParameterError) throw failure;
  if (refusal) return refuse(proxied, refusal, options.clock);
  throw failure ?? nobodyFree(passage);
}

function refuse({ request, reply }: Proxied, refusal: Refusal, clock: Clock): FastifyReply {
  const { status, message, type, param, code } = refusal;
  const body = errorBody(message, type, param, code);
  // A stream that got its headers while it waited: its refusal can only be an event.
  if (reply.raw.headersSent) {
    reply.hijack();
    reply.raw.end(errorFrame(body));
    return reply;
  }
  return reply
    .code(status)
    .headers(commonHeaders(request.exchange, clock))
    .type("application/json; charset=utf-8")
    .send(JSON.stringify(body));
}

function nobodyFree({ channels, options, deadline }: Passage): DrawbridgeError {
  if (deadline.aborted) return tooLate();
  const now = options.clock.now();
  const times = channels.flatMap((each) => (isUpstream(each) ? [each.condition(now).until] : []));
  const soonest = Math.min(...times.filter((until) => until !== undefined));
  const wait = Number.isFinite(soonest) ? { retryAfterMs: Math.max(1, soonest - now) } : {};
  return new DrawbridgeError("NO_CAPACITY", "Every channel that serves the model is busy or rests. Try again.", wait);
}

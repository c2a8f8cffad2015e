// An answer that is given whole: collected, kept for a repeated Idempotency-Key, settled, sent.
import type { ServerResponse } from "node:http";
import type { Clock } from "../../kit/clock.ts";
import { ParameterError } from "../openai/parse.ts";
import { collect, isCancelled, wholeCharsMax } from "./collect.ts";
import { type AdmittedJob, hangUp, headersOf, interrupted, type PipelineOptions, settled } from "./job.ts";

export const jsonType = "application/json; charset=utf-8";

export async function answerWhole(options: PipelineOptions, job: AdmittedJob): Promise<unknown> {
  const { clock, answers, config } = options;
  const { exchange, reply, caller, client, idempotency, asked } = job;
  const { answer, body } = await settled(options, job, async (batches) => {
    const answer = await collect(batches, {
      charsMax: wholeCharsMax,
      onFirst: () => void (exchange.firstContentAt = clock.monotonic()),
      onTooLong: () => client.stop(),
    });
    const body = asked.answer.whole(answer);
    // Before it is settled: whoever then hears that the key was billed finds the answer.
    if (idempotency && !isCancelled(answer.finished)) answers.set(caller.userId, idempotency.key, body);
    return { answer, body, finished: answer.finished };
  });
  if (client.left) return hangUp(reply);
  if (answer.tooLong) {
    const message = `The answer has more than ${wholeCharsMax} characters, too many to be given whole. Ask for a stream.`;
    throw new ParameterError(message, "stream", "answer_too_long");
  }
  if (isCancelled(answer.finished)) throw interrupted();
  disconnectStalled(reply.raw, config.stall_timeout, clock);
  return reply.headers(headersOf(job, clock)).type(jsonType).send(body);
}

/** A client that does not take its answer within a time holds it in memory no longer. */
function disconnectStalled(response: ServerResponse, withinMs: number, clock: Clock): void {
  const timer = clock.after(withinMs, () => response.destroy());
  response.once("close", () => timer[Symbol.dispose]());
}

// An answer that is streamed: passed on as it comes, settled, then ended.
import type { Finished } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../../kit/clock.ts";
import { createEventStream, type EventStream } from "../http/event-stream.ts";
import { engineFailure, errorAnswer } from "../openai/errors.ts";
import { ParameterError } from "../openai/parse.ts";
import { contentChars, ended, isCancelled, wholeCharsMax } from "./collect.ts";
import type { StreamForm } from "./endpoint.ts";
import { type AdmittedJob, hangUp, headersOf, interrupted, type PipelineOptions, settled } from "./job.ts";

export async function answerStream(options: PipelineOptions, job: AdmittedJob): Promise<undefined> {
  const { clock, config, log } = options;
  const { exchange, reply, client, asked } = job;
  const form = asked.answer.stream();
  using events = createEventStream({
    response: reply.raw,
    headers: () => headersOf(job, clock),
    clock,
    keepAliveMs: config.keep_alive_interval,
    firstWaitMs: config.first_content_wait,
    stallMs: config.stall_timeout,
  });
  try {
    const passed = await settled(options, job, (batches) => pass(batches, events, form, job, clock));
    if (client.left) return hangUp(reply);
    if (form.tooLong) throw tooLong();
    if (isCancelled(passed.finished)) throw interrupted();
    await events.write((passed.begun ? "" : form.open()) + form.close(passed.finished));
  } catch (error) {
    if (client.left) return hangUp(reply);
    if (!events.opened) throw error;
    const failure = engineFailure(error);
    log.warn({ err: failure, request_id: exchange.requestId }, "a stream failed after content");
    const { param, code } = failure instanceof ParameterError ? failure : { param: undefined, code: undefined };
    await events.write(form.fail(errorAnswer(failure, { param, code, retryAfterMs: config.retry_after })));
  }
  reply.hijack();
  events.end();
  return undefined;
}

/** One write for each batch. The end is left to the caller, who settles before it. */
async function pass(
  batches: AsyncIterable<PromptResponse>,
  stream: EventStream,
  form: StreamForm,
  { exchange, client }: AdmittedJob,
  clock: Clock,
): Promise<{ readonly finished: Finished; readonly begun: boolean }> {
  let finished: Finished | undefined;
  let begun = false;
  for await (const { events } of batches) {
    let frames = "";
    for (const event of events) {
      if (event.event.case === "finished") finished = event.event.value;
      if (contentChars(event) === 0) continue;
      exchange.firstContentAt ??= clock.monotonic();
      // In this order: a form may number what it says.
      if (!begun) frames += form.open();
      begun = true;
      frames += form.event(event);
    }
    if (form.tooLong) client.stop();
    if (frames !== "") await stream.write(frames);
  }
  return { finished: ended(finished), begun };
}

function tooLong(): ParameterError {
  const message = `The answer has more than ${wholeCharsMax} characters, more than the end of this kind of stream can repeat.`;
  return new ParameterError(message, "stream", "answer_too_long");
}

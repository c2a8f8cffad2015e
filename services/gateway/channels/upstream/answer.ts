// The three ways in which an upstream's answer reaches the client: as a stream of events, whole, or as plain bytes. Each settles before the
// client hears the end, and throws only while the client has heard nothing.
import type { ServerResponse } from "node:http";
import { End, type Usage } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { countTokens } from "../../../kit/tokens.ts";
import { createEventStream, type EventStream } from "../../http/event-stream.ts";
import { commonHeaders } from "../../http/headers.ts";
import { errorFrame } from "../../openai/chunks.ts";
import { errorAnswer } from "../../openai/errors.ts";
import { type JsonObject, parseObject } from "./json.ts";
import { formRoutes, modelStreams } from "../spec.ts";
import { createTypedRewriter } from "./typed-stream.ts";
import { endAfterContent, type Run, settleTry } from "./run.ts";
import type { Try } from "../directory/runtime.ts";
import { createEventParser } from "./sse.ts";
import { createChunkRewriter, createEstimate, createResponseRewriter, type StreamRewriter } from "./stream.ts";
import { connectionFailure, single, type UpstreamAnswer } from "./call.ts";
import { estimatedUsage, outputTexts, reportedUsage } from "./usage.ts";

/** The largest answer that is given whole, and the most of a stream's beginning that waits for its first content, in bytes. */
const wholeBytesMax = 64 << 20;
const heldCharsMax = 1 << 20;

/** What is read of a connection after a stream's end, so that it can be used again. */
const restBytesMax = 16 << 10;

/** The client's side of a stream. It begins with the try, so that a slow start is no silence. */
export function openEvents({ reply, exchange, clock, config }: Run): EventStream {
  return createEventStream({
    response: reply.raw,
    headers: () => commonHeaders(exchange, clock),
    clock,
    keepAliveMs: config.keep_alive_interval,
    firstWaitMs: config.first_content_wait,
    stallMs: config.stall_timeout,
  });
}

export async function answerStream(run: Run, attempt: Try, answer: UpstreamAnswer, events: EventStream): Promise<void> {
  const { reply, exchange, client } = run;
  checkType(answer, "text/event-stream");
  const rewriter = rewriterOf(run);
  const usage = () => rewriter.usage ?? estimatedUsage(run.bounds.input, rewriter.outputTokens);
  try {
    await passEvents(run, answer, rewriter, (frames) => events.write(frames));
  } catch (error) {
    if (!client.left && exchange.firstContentAt === undefined) throw error;
    const failure = connectionFailure(error).error;
    await endEarly(run, attempt, failure, usage());
    if (!client.left) {
      run.log.warn({ err: error, request_id: exchange.requestId, channel: attempt.channel.id }, "a stream broke");
      await events.write(failureFrame(run, failure));
    }
    reply.hijack();
    if (client.left) reply.raw.destroy();
    else events.end();
    // The client has been told; the channel is told by this.
    if (!client.left) throw new ToldError(failure);
    return;
  }
  await settleTry(run, attempt, { end: End.FINISHED, content: true, usage: usage() });
  if (rewriter.id !== undefined) run.remember(rewriter.id);
  await events.write(rewriter.end(usage()));
  reply.hijack();
  events.end();
}

/** A failure that the client has heard of. */
export class ToldError extends Error {
  override readonly name = "ToldError";
  readonly failure: DrawbridgeError;

  constructor(cause: DrawbridgeError) {
    super(cause.message, { cause });
    this.failure = cause;
  }
}

function rewriterOf({ request }: Run): StreamRewriter {
  const { route, model, includeUsage } = request;
  if (!modelStreams.has(route)) return createTypedRewriter();
  const create = route === "responses" ? createResponseRewriter : createChunkRewriter;
  return create({ model, includeUsage, object: route === "completions" ? "text_completion" : "chat.completion.chunk" });
}

/** Passes events on from the first content; what came before it is held, so that a failure before it can move on. */
async function passEvents(
  { exchange, clock }: Run,
  { body }: UpstreamAnswer,
  rewriter: StreamRewriter,
  write: (frames: string) => Promise<void>,
): Promise<void> {
  const parser = createEventParser();
  let held = "";
  for await (const bytes of body.iterator({ destroyOnReturn: false })) {
    for (const event of parser.push(bytes as Uint8Array)) {
      const { frame, content } = rewriter.pass(event);
      held += frame;
      if (content) exchange.firstContentAt ??= clock.monotonic();
    }
    if (exchange.firstContentAt === undefined) {
      if (held.length > heldCharsMax) throw protocolError("The upstream's stream has no content.");
      continue;
    }
    const frames = held;
    held = "";
    if (frames !== "") await write(frames);
    if (rewriter.over) break;
  }
  if (exchange.firstContentAt === undefined) throw protocolError("The upstream's stream had no content.");
  if (!rewriter.finished) throw new DrawbridgeError("AGENT_ERROR", "The upstream's stream broke off.");
  // The connection is good for the next request once its end is read.
  body.dump({ limit: restBytesMax }).catch(() => {});
}

/** The client left, or something failed after content: what was produced is paid. */
async function endEarly(run: Run, attempt: Try, error: DrawbridgeError, usage: Usage): Promise<void> {
  const content = run.exchange.firstContentAt !== undefined;
  if (run.client.left) {
    await settleTry(run, attempt, { end: End.CANCELLED, content, ...(content ? { usage } : {}) });
  } else await settleTry(run, attempt, { end: endAfterContent(error), content, usage, error });
}

function failureFrame({ request, config }: Run, failure: DrawbridgeError): string {
  const { body } = errorAnswer(failure, { retryAfterMs: config.retry_after });
  if (request.route !== "responses") return errorFrame(body);
  const { message, code, param } = body.error;
  return `event: error\n${errorFrame({ type: "error", code, message, param, sequence_number: 0 })}`;
}

export async function answerWhole(run: Run, attempt: Try, answer: UpstreamAnswer): Promise<void> {
  const { reply, exchange, client, clock, bounds, request } = run;
  const content = parseObject(await textOf(answer, wholeBytesMax));
  if (!content) throw protocolError("The upstream's answer is no JSON object.");
  const { error, ...rest } = content;
  if (error != null) throw new DrawbridgeError("AGENT_ERROR", "The upstream answered with an error.", { cause: error });
  const usage = reportedUsage(rest["usage"]) ?? estimatedUsage(bounds.input, tokensOf(rest));
  const body = JSON.stringify("model" in rest ? { ...rest, model: request.model } : rest);
  exchange.firstContentAt = clock.monotonic();
  // Before it is settled: whoever then hears that the key was billed finds the answer.
  run.keep(body);
  await settleTry(run, attempt, { end: End.FINISHED, content: true, usage });
  if (typeof rest["id"] === "string") run.remember(rest["id"]);
  if (client.left) return hangUp(run);
  void reply.headers(commonHeaders(exchange, clock)).type("application/json; charset=utf-8").send(body);
}

function tokensOf(answer: JsonObject): number {
  return outputTexts(answer).reduce((sum, text) => sum + countTokens(text), 0);
}

/** A sound, or a text that is no JSON: passed on as it comes. */
export async function answerBytes(run: Run, attempt: Try, { headers, body }: UpstreamAnswer): Promise<void> {
  const { reply, exchange, client, clock, bounds } = run;
  const type = single(headers["content-type"]) ?? "application/octet-stream";
  const said = createEstimate();
  // What is written down is paid as output; a sound is not.
  const decoder = formRoutes.has(run.request.route) ? new TextDecoder() : undefined;
  const usage = () => estimatedUsage(bounds.input, said.tokens);
  try {
    for await (const bytes of body) {
      if (decoder) said.push(decoder.decode(bytes as Uint8Array, { stream: true }));
      if (exchange.firstContentAt === undefined) {
        exchange.firstContentAt = clock.monotonic();
        reply.hijack();
        reply.raw.writeHead(200, { ...commonHeaders(exchange, clock), "content-type": type });
      }
      if (!reply.raw.write(bytes)) await room(reply.raw, run);
      if (client.left) break;
    }
    if (exchange.firstContentAt === undefined) throw protocolError("The upstream's answer is empty.");
  } catch (error) {
    if (!client.left && exchange.firstContentAt === undefined) throw error;
    const failure = connectionFailure(error).error;
    await endEarly(run, attempt, failure, usage());
    reply.raw.destroy();
    if (!client.left) throw new ToldError(failure);
    return;
  }
  const end = client.left ? End.CANCELLED : End.FINISHED;
  await settleTry(run, attempt, { end, content: true, usage: usage() });
  if (!client.left) reply.raw.end();
}

/** Resolves when the socket takes more, or is gone. */
async function room(response: ServerResponse, { clock, config }: Run): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => resolve();
  response.on("drain", done).on("close", done);
  using _stalled = clock.after(config.stall_timeout, () => response.destroy());
  if (response.destroyed) done();
  await promise;
  response.off("drain", done).off("close", done);
}

/** Nobody is there to read an answer. */
export function hangUp({ reply }: Run): void {
  reply.hijack();
  reply.raw.destroy();
}

/** A body of bounded size. */
export async function textOf({ body }: Pick<UpstreamAnswer, "body">, bytesMax: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of body) {
    length += (bytes as Uint8Array).byteLength;
    if (length > bytesMax) throw protocolError(`The upstream's answer has more than ${bytesMax} bytes.`);
    parts.push(bytes as Uint8Array);
  }
  return Buffer.concat(parts).toString("utf8");
}

function checkType({ headers }: UpstreamAnswer, type: string): void {
  const found = single(headers["content-type"]) ?? "";
  if (!found.toLowerCase().startsWith(type)) throw protocolError(`The upstream answered with "${found}", not ${type}.`);
}

function protocolError(message: string): DrawbridgeError {
  return new DrawbridgeError("AGENT_PROTOCOL", message);
}

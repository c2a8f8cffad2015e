// One try of a request on an upstream: the call, its answer, and what both say of the channel and its key.
import { End } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { answerBytes, answerStream, answerWhole, hangUp, openEvents, textOf, ToldError } from "./answer.ts";
import { upstreamBody } from "../body.ts";
import { type Run, settleTry } from "./run.ts";
import type { Try } from "../directory/runtime.ts";
import { breakerPolicyOf, type ChannelRoute, formRoutes, limitsOf, modelStreams } from "../spec.ts";
import { channelTried } from "../directory/telemetry.ts";
import {
  callUpstream,
  connectionFailure,
  type Refusal,
  single,
  type StatusFailure,
  statusFailure,
  type TryFailure,
  type UpstreamAnswer,
} from "./call.ts";

/** What a try came to. */
export type Tried =
  /** The client has its answer, or has left, or was told of a failure after content. */
  | { readonly done: true }
  | {
      readonly done: false;
      readonly error: DrawbridgeError;
      readonly refusal: Refusal | undefined;
      /** Whether another channel, or another key, may do better. */
      readonly movesOn: boolean;
      /** Whether the channel may do better with another key. */
      readonly keyAtFault: boolean;
    };

/** How much of an error's body is looked at. */
const errorBytesMax = 64 << 10;

export async function tryChannel(run: Run, attempt: Try): Promise<Tried> {
  const { clock, client, exchange } = run;
  const began = clock.monotonic();
  const total = new AbortController();
  const { totalMs } = limitsOf(attempt.channel.spec);
  using _bound = Number.isFinite(totalMs) ? clock.after(totalMs, () => total.abort(tooLate())) : undefined;
  const signal = AbortSignal.any([client.signal, run.deadline, total.signal]);
  const tell = (failure: TryFailure | undefined, result: string) => {
    // Who was cut short by the client or by the request's own deadline says nothing of the channel.
    const cut = client.left || run.deadline.aborted;
    attempt.end(cut ? "neutral" : (failure?.sample ?? "success"), failure !== undefined && !cut);
    const firstContentMs = exchange.firstContentAt === undefined ? undefined : exchange.firstContentAt - began;
    channelTried.publish({ channel: attempt.channel.id, result: cut ? "cancelled" : result, firstContentMs });
  };
  try {
    const failure = await answer(run, attempt, signal);
    if (!failure) {
      tell(undefined, "answered");
      return { done: true };
    }
    tell(failure, failure.refusal ? "refused" : "failed");
    return await failed(run, attempt, failure, failure.movesOn);
  } catch (error) {
    if (error instanceof ToldError) {
      tell(connectionFailure(error.failure), "broken");
      return { done: true };
    }
    const failure = connectionFailure(error);
    tell(failure, "failed");
    return await failed(run, attempt, failure, !run.deadline.aborted);
  }
}

export function tooLate(): DrawbridgeError {
  return new DrawbridgeError("DEADLINE_EXCEEDED", "The answer was not complete within the time allowed.");
}

/** Passes the answer on; a status that is no success is given back. */
async function answer(run: Run, attempt: Try, signal: AbortSignal): Promise<StatusFailure | undefined> {
  const { channel, key } = attempt;
  const { request, reply, config, clock } = run;
  const { route, stream } = request;
  const body = upstreamBody(request, channel.spec.models[request.model] ?? request.model, config.output_tokens_max);
  using events = stream ? openEvents(run) : undefined;
  const found = await callUpstream({ channel, key, route, body, stream, signal });
  if (found.status < 200 || found.status > 299) {
    // What is wrong with it is known by its status, whatever becomes of its body.
    const text = await textOf(found, errorBytesMax).catch(() => "");
    return statusFailure(found.status, { headers: found.headers, text, now: clock.now() });
  }
  if (events && (isEvents(found) || modelStreams.has(route) || reply.raw.headersSent)) {
    await answerStream(run, attempt, found, events);
    return undefined;
  }
  // Models that cannot stream a transcription or an image answer whole.
  events?.[Symbol.dispose]();
  if (isBytes(route, found)) await answerBytes(run, attempt, found);
  else await answerWhole(run, attempt, found);
  return undefined;
}

function isEvents({ headers }: UpstreamAnswer): boolean {
  return /^text\/event-stream\b/i.test(single(headers["content-type"]) ?? "");
}

/** A sound; or, of what forms ask for, a text that is no JSON. */
function isBytes(route: ChannelRoute, { headers }: UpstreamAnswer): boolean {
  if (route === "audio/speech") return true;
  return formRoutes.has(route) && !/^application\/json\b/i.test(single(headers["content-type"]) ?? "");
}

async function failed(run: Run, attempt: Try, failure: TryFailure, movesOn: boolean): Promise<Tried> {
  const { client, clock, log, exchange } = run;
  if (client.left) {
    await settleTry(run, attempt, { end: End.CANCELLED, content: false });
    hangUp(run);
    return { done: true };
  }
  tellKey(attempt, failure, clock.now());
  const { error, refusal } = failure;
  log.warn(
    {
      err: redacted(error, attempt),
      request_id: exchange.requestId,
      channel: attempt.channel.id,
      key_name: attempt.key.name,
    },
    refusal ? "an upstream refused a request" : "an upstream failed",
  );
  await settleTry(run, attempt, { end: End.FAILED_BEFORE_CONTENT, content: false, error });
  return {
    done: false,
    error,
    refusal: refusal && clean(refusal, run, attempt),
    movesOn,
    keyAtFault: failure.key !== undefined,
  };
}

function tellKey({ channel, key }: Try, { key: told }: TryFailure, now: number): void {
  if (!told) return;
  if ("disable" in told) return key.disable(told.disable);
  const { openMs, openMaxMs } = breakerPolicyOf(channel.spec);
  const forMs = told.forMs ?? openMs;
  key.rest(Math.ceil(now + (Number.isFinite(forMs) ? forMs : openMaxMs)), told.rest);
}

/** An upstream's words, without its own name of the model and without the key. */
function clean(refusal: Refusal, { request }: Run, { channel, key }: Try): Refusal {
  const own = channel.spec.models[request.model];
  const named = own === undefined ? refusal.message : refusal.message.replaceAll(own, request.model);
  return { ...refusal, message: key.secret === undefined ? named : named.replaceAll(key.secret, "[redacted]") };
}

function redacted(error: DrawbridgeError, { key }: Try): DrawbridgeError {
  if (key.secret === undefined || typeof error.cause !== "string") return error;
  return new DrawbridgeError(error.reason, error.message, { cause: error.cause.replaceAll(key.secret, "[redacted]") });
}

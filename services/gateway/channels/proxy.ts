// A request's way over the channels: the best that can take it now, and the next one where it fails before content. The fleet is one of them.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError, type Reason } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import type { Admissions } from "../access/admit.ts";
import type { Caller } from "../access/authenticate.ts";
import type { GatewaySettings } from "../config.ts";
import { type ClientWatch, watchClient } from "../http/client-watch.ts";
import { commonHeaders } from "../http/headers.ts";
import { errorFrame } from "../openai/chunks.ts";
import { errorBody } from "../openai/errors.ts";
import type { AnswerCache } from "../openai/idempotency.ts";
import { modelNotFound } from "../openai/models-route.ts";
import type { Models } from "../openai/models.ts";
import { ParameterError } from "../openai/parse.ts";
import { type Affinity, type Conversation, conversationOf, type Place, responseKey } from "./affinity.ts";
import { admitRun, keeperOf, Replay } from "./admit-run.ts";
import { boundsOf, type ChannelRequest, channelRequest, type TokenBounds } from "./body.ts";
import type { ChannelDirectory, FleetChannel } from "./directory.ts";
import type { ChannelRuntime } from "./runtime.ts";
import { choose } from "./select.ts";
import { type SharedAdmissions, shareAdmission } from "./shared-admission.ts";
import { type ChannelRoute, fleetId } from "./spec.ts";
import { tooLate, tryChannel } from "./try.ts";
import type { Refusal } from "./upstream.ts";

export interface ProxyOptions {
  readonly directory: ChannelDirectory;
  /** What the fleet serves. */
  readonly models: Models;
  readonly admissions: Admissions;
  readonly answers: AnswerCache;
  readonly affinity: Affinity;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: GatewaySettings;
}

/** Answers a request with the fleet, with these admissions; throws while the client has heard nothing. */
export type FleetHandler = (admissions: Admissions) => Promise<unknown>;

export interface Proxied {
  readonly route: ChannelRoute;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** undefined: the fleet does not serve this route. */
  readonly fleet: FleetHandler | undefined;
}

/** Tries of one request, over all channels. */
const triesMax = 5;

/** Answers a request on a route that channels serve. */
export async function handleWithChannels(options: ProxyOptions, proxied: Proxied): Promise<unknown> {
  const { directory, models } = options;
  const { route, request, fleet } = proxied;
  const upstreams = directory.serving(modelOf(request.body), route);
  // Where there is nothing to choose, the fleet's own handler says all there is to say.
  if (upstreams.length === 0 && fleet && !directory.fleet.disabled) return await fleet(options.admissions);
  const asked = channelRequest(route, request.body);
  if (upstreams.length === 0) throw await whyNobody(options, asked);
  const fleetServes = fleet && !directory.fleet.disabled && (await models.find(asked.model)) !== undefined;
  return await overChannels(options, proxied, asked, fleetServes ? [directory.fleet, ...upstreams] : upstreams);
}

function modelOf(body: unknown): string {
  const model = typeof body === "object" && body !== null && "model" in body ? body.model : undefined;
  return typeof model === "string" ? model : "";
}

/** No channel serves the model on this route. */
async function whyNobody(
  { directory, models }: ProxyOptions,
  { model, route }: ChannelRequest,
): Promise<DrawbridgeError> {
  const known = directory.models().has(model) || (await models.find(model)) !== undefined;
  if (!known) return modelNotFound(model);
  return new ParameterError(`The model '${model}' is not served on /v1/${route} now.`, "model", "unsupported_model");
}

type Channel = FleetChannel | ChannelRuntime;

function isUpstream(channel: Channel): channel is ChannelRuntime {
  return "begin" in channel;
}

interface Passage {
  readonly options: ProxyOptions;
  readonly proxied: Proxied;
  readonly asked: ChannelRequest;
  readonly bounds: TokenBounds;
  readonly channels: readonly Channel[];
  readonly shared: SharedAdmissions;
  readonly caller: Caller;
  readonly client: ClientWatch;
  readonly deadline: AbortSignal;
  readonly conversation: Conversation;
  readonly place: Place | undefined;
  /** Channels that are not tried again, and keys of the others. */
  readonly tried: Set<string>;
  readonly triedKeys: Set<string>;
  tries: number;
  failure: DrawbridgeError | undefined;
  refusal: Refusal | undefined;
}

async function overChannels(
  options: ProxyOptions,
  proxied: Proxied,
  asked: ChannelRequest,
  channels: readonly Channel[],
): Promise<unknown> {
  const { clock, config, affinity } = options;
  const { request, reply } = proxied;
  const { exchange } = request;
  const { caller } = exchange;
  if (!caller) throw new DrawbridgeError("INTERNAL", "The caller was not authenticated.");
  exchange.model = asked.model;
  const bounds = boundsOf(asked, config.output_tokens_max);
  checkLength(bounds, config.input_tokens_max);
  const deadline = new AbortController();
  const timeoutMs = timeoutOf(request.headers["x-stainless-timeout"], config.request_timeout);
  using _timer = clock.after(timeoutMs, () => deadline.abort(tooLate()));
  using client = watchClient(reply.raw);
  const shared = shareAdmission(options.admissions);
  const conversation = conversationOf(caller.userId, asked.body);
  const context = { options, proxied, asked, bounds, channels, shared, caller, client, conversation };
  const progress = { tried: new Set<string>(), triedKeys: new Set<string>(), tries: 0 };
  try {
    return await tryAll({
      ...context,
      ...progress,
      deadline: deadline.signal,
      place: affinity.find(conversation) ?? placeOfUnknown(conversation),
      failure: undefined,
      refusal: undefined,
    });
  } finally {
    const ended = await shared.finish();
    if (ended) {
      exchange.outcome = ended.outcome;
      exchange.entry = ended.entry;
    }
  }
}

/** A stored response that no upstream is known to have made is the fleet's, if anybody's. */
function placeOfUnknown({ bound }: Conversation): Place | undefined {
  return bound ? fleetPlace : undefined;
}

const fleetPlace: Place = { channelId: fleetId, keyName: "" };

function checkLength({ input }: TokenBounds, inputTokensMax: number): void {
  if (input <= inputTokensMax) return;
  const message = `This request has about ${input} input tokens; at most ${inputTokensMax} are taken. Shorten it.`;
  throw new ParameterError(message, undefined, "context_length_exceeded");
}

/** The client's own deadline, in seconds, where it is shorter than ours. */
function timeoutOf(header: string | string[] | undefined, longestMs: number): number {
  const seconds = Number(header);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(longestMs, seconds * 1_000) : longestMs;
}

/** undefined: try the next one. */
type Step = { readonly value: unknown } | undefined;

async function tryAll(passage: Passage): Promise<unknown> {
  const { options, channels, place, conversation, tried, triedKeys, deadline } = passage;
  const { clock, random } = options;
  while (passage.tries < triesMax && !deadline.aborted) {
    const now = clock.now();
    const able = channels.filter(
      (each) => !tried.has(each.id) && (isUpstream(each) ? each.free(now, triedKeys) : !each.disabled),
    );
    const channel = choose(able, { preferred: place?.channelId, bound: conversation.bound, random });
    if (!channel) break;
    const step = isUpstream(channel) ? await onUpstream(passage, channel) : await onFleet(passage);
    if (step) return step.value;
  }
  return giveUp(passage);
}

/** Reasons for which a request that the fleet did not begin to answer goes to another channel. */
const fleetMovesOn: ReadonlySet<Reason> = new Set([
  "MODEL_NOT_FOUND",
  "NO_CAPACITY",
  "NO_WORKER",
  "CREDITS_EXHAUSTED",
  "BREAKER_OPEN",
  "QUEUE_FULL",
  "DRAINING",
  "AGENT_CRASHED",
  "AGENT_ERROR",
  "AGENT_PROTOCOL",
  "AGENT_UNAUTHENTICATED",
  "AGENT_RATE_LIMITED",
  "AGENT_USAGE_LIMIT",
  "LEASE_INVALID",
  "WORKER_UNREACHABLE",
  "INTERNAL",
  // What an agent cannot honour, an upstream may.
  "NOT_SUPPORTED",
  "UNSUPPORTED_CONTENT",
  "CONTEXT_LENGTH_EXCEEDED",
]);

async function onFleet(passage: Passage): Promise<Step> {
  const { proxied, shared, client, options, tried, conversation } = passage;
  passage.tries += 1;
  tried.add(options.directory.fleet.id);
  try {
    const value = await proxied.fleet?.(shared);
    if (!conversation.bound) options.affinity.remember(conversation.key, fleetPlace);
    return { value };
  } catch (error) {
    const failure = asDrawbridgeError(error);
    const movesOn = failure instanceof ParameterError || fleetMovesOn.has(failure.reason);
    if (!movesOn || shared.over || client.left || proxied.reply.sent) throw error;
    passage.failure ??= failure;
    return undefined;
  }
}

async function onUpstream(passage: Passage, channel: ChannelRuntime): Promise<Step> {
  const { options, proxied, place, triedKeys, tried, shared } = passage;
  const { exchange } = proxied.request;
  const admission = await admitRun(passage);
  if (admission instanceof Replay) return { value: admission.send(proxied.reply, exchange, options.clock) };
  const preferredKey = place?.channelId === channel.id ? place.keyName : undefined;
  const attempt = channel.begin(options.clock.now(), triedKeys, preferredKey);
  // It has filled up meanwhile; the next look sees that.
  if (!attempt) return undefined;
  passage.tries += 1;
  const { caller, client, deadline, asked, bounds, conversation } = passage;
  const { clock, log, config, affinity } = options;
  const taken = { channelId: channel.id, keyName: attempt.key.name };
  const outcome = await tryChannel(
    {
      request: asked,
      bounds,
      caller,
      exchange,
      reply: proxied.reply,
      client,
      deadline,
      admission,
      keep: keeperOf(passage),
      remember: (answerId) => affinity.remember(responseKey(caller.userId, answerId), taken),
      clock,
      log,
      config,
    },
    attempt,
  );
  if (outcome.done) {
    if (!conversation.bound) affinity.remember(conversation.key, taken);
    return { value: proxied.reply };
  }
  if (outcome.keyAtFault) triedKeys.add(`${channel.id} ${attempt.key.name}`);
  else tried.add(channel.id);
  passage.refusal ??= outcome.refusal;
  passage.failure ??= outcome.error;
  if (!outcome.movesOn || shared.over) return { value: giveUp(passage) };
  return undefined;
}

/** Nobody answered: the client is told what an upstream said of the request, else the first failure, else that nobody could be asked. */
function giveUp(passage: Passage): FastifyReply {
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

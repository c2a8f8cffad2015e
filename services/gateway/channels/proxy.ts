// A request's way over the channels: the best that can take it now, and the next one where it fails before content. The fleet is one of them.
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Caller } from "../access/authenticate.ts";
import { watchClient } from "../http/client-watch.ts";
import type { Exchange } from "../http/exchange.ts";
import { modelNotFound } from "../openai/models-route.ts";
import type { Models } from "../openai/models.ts";
import { ParameterError } from "../openai/parse.ts";
import { type Conversation, conversationOf, type Place } from "./affinity.ts";
import { boundsOf, type ChannelRequest, channelRequest, type TokenBounds } from "./body.ts";
import { FormBody } from "./form.ts";
import { giveUp } from "./give-up.ts";
import { type Channel, fleetPlace, type Passage, type Proxied, type ProxyOptions, tryAll } from "./passage.ts";
import { type SharedAdmissions, shareAdmission } from "./shared-admission.ts";
import { tooLate } from "./upstream/try.ts";

export type { ProxyOptions } from "./passage.ts";

/** Answers a request on a route that channels serve. */
export async function handleWithChannels(options: ProxyOptions, proxied: Proxied): Promise<unknown> {
  const { directory, models } = options;
  const { route, request, fleet } = proxied;
  const upstreams = directory.serving(modelOf(request.body), route);
  // Where there is nothing to choose, the fleet's own handler says all there is to say.
  if (upstreams.length === 0 && fleet && !directory.fleet.disabled) return await fleet(options.admissions);
  const asked = channelRequest(route, request.body);
  if (upstreams.length === 0) throw await whyNobody(options, asked);
  const fleetServes = fleet && !directory.fleet.disabled && (await servedByFleet(models, asked.model));
  return await overChannels(options, proxied, asked, fleetServes ? [directory.fleet, ...upstreams] : upstreams);
}

/** Upstreams go on where the engine is away. */
async function servedByFleet(models: Models, model: string): Promise<boolean> {
  return await models.find(model).then(
    (found) => found !== undefined,
    () => false,
  );
}

function modelOf(sent: unknown): string {
  const body = sent instanceof FormBody ? sent.fields : sent;
  const model = typeof body === "object" && body !== null && "model" in body ? body.model : undefined;
  return typeof model === "string" ? model : "";
}

/** No channel serves the model on this route. */
async function whyNobody(
  { directory, models }: ProxyOptions,
  { model, route }: ChannelRequest,
): Promise<DrawbridgeError> {
  const known = directory.models().has(model) || (await models.find(model)) !== undefined;
  return known ? notServed(model, `/v1/${route}`) : modelNotFound(model);
}

/** On a path that only the fleet answers: a model of an upstream is told from one that does not exist. */
export async function refuseUpstreamModel(
  { directory, models }: Pick<ProxyOptions, "directory" | "models">,
  body: unknown,
  path: string,
): Promise<void> {
  const model = modelOf(body);
  if (directory.models().has(model) && !(await models.find(model))) throw notServed(model, path);
}

function notServed(model: string, path: string): ParameterError {
  return new ParameterError(`The model '${model}' is not served on ${path} now.`, "model", "unsupported_model");
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
  const known = affinity.find(conversation) ?? fleetsOwn(options, caller, asked);
  const passage: Passage = {
    options,
    proxied,
    asked,
    bounds,
    channels: able(channels, conversation, known),
    shared,
    caller,
    client,
    conversation,
    deadline: deadline.signal,
    place: known ?? placeOfUnknown(conversation),
    tried: new Set(),
    triedKeys: new Set(),
    tries: 0,
    stopped: false,
    failure: undefined,
    refusal: undefined,
  };
  try {
    const answered = await tryAll(passage);
    if (answered) return answered.value;
  } finally {
    await settleRest(shared, exchange);
  }
  return giveUp(passage);
}

/** Settles what no try has settled, before the client hears that nobody answered. */
async function settleRest(shared: SharedAdmissions, exchange: Exchange): Promise<void> {
  const ended = await shared.finish();
  if (!ended) return;
  exchange.outcome = ended.outcome;
  exchange.entry = ended.entry;
}

/** Where the response that a request continues is stored, if that is here. */
function fleetsOwn({ responses }: ProxyOptions, { userId }: Caller, { body }: ChannelRequest): Place | undefined {
  const { previous_response_id: id } = body;
  return typeof id === "string" && responses.get(userId, id) ? fleetPlace : undefined;
}

/** Nobody else than who stored a response can go on with it: the others would say that it does not exist. */
function able(channels: readonly Channel[], { bound }: Conversation, known: Place | undefined): readonly Channel[] {
  const home = bound ? channels.filter(({ id }) => id === known?.channelId) : [];
  return home.length > 0 ? home : channels;
}

/** A stored response that nobody is known to have made is the fleet's, if anybody's. */
function placeOfUnknown({ bound }: Conversation): Place | undefined {
  return bound ? fleetPlace : undefined;
}

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

// One request's passage over its channels: try the best that is free, and the next one where it fails before content.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, type DrawbridgeError, type Reason } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import type { Admissions } from "../access/admit.ts";
import type { Caller } from "../access/authenticate.ts";
import type { GatewaySettings } from "../config.ts";
import type { ClientWatch } from "../http/client-watch.ts";
import type { AnswerCache } from "../openai/idempotency.ts";
import type { Models } from "../openai/models.ts";
import { ParameterError } from "../openai/parse.ts";
import type { ResponseStore } from "../responses/store.ts";
import { type Affinity, type Conversation, type Place, responseKey } from "./affinity.ts";
import { admitRun, keeperOf, Replay } from "./admit-run.ts";
import type { ChannelRequest, TokenBounds } from "./body.ts";
import type { ChannelDirectory, FleetChannel } from "./directory/directory.ts";
import type { ChannelRuntime } from "./directory/runtime.ts";
import { choose } from "./select.ts";
import type { SharedAdmissions } from "./shared-admission.ts";
import { type ChannelRoute, fleetId } from "./spec.ts";
import { tryChannel } from "./upstream/try.ts";
import type { Refusal } from "./upstream/call.ts";

export interface ProxyOptions {
  readonly directory: ChannelDirectory;
  /** What the fleet serves. */
  readonly models: Models;
  readonly admissions: Admissions;
  readonly answers: AnswerCache;
  readonly affinity: Affinity;
  /** What the fleet has stored. */
  readonly responses: Pick<ResponseStore, "get">;
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

export type Channel = FleetChannel | ChannelRuntime;

export function isUpstream(channel: Channel): channel is ChannelRuntime {
  return "begin" in channel;
}

export interface Passage {
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
  /** Whether a failure was one that every channel would have. */
  stopped: boolean;
  failure: DrawbridgeError | undefined;
  refusal: Refusal | undefined;
}

export const fleetPlace: Place = { channelId: fleetId, keyName: "" };

/** Tries of one request, over all channels. */
const triesMax = 5;

/** What was answered; undefined: nothing, so that the next channel may be tried. */
type Step = { readonly value: unknown } | undefined;

/** undefined: nobody answered; the passage says why. */
export async function tryAll(passage: Passage): Promise<Step> {
  const { options, channels, place, conversation, tried, triedKeys, deadline } = passage;
  const { clock, random } = options;
  while (passage.tries < triesMax && !passage.stopped && !deadline.aborted) {
    const now = clock.now();
    const able = channels.filter(
      (each) => !tried.has(each.id) && (isUpstream(each) ? each.free(now, triedKeys) : !each.disabled),
    );
    const channel = choose(able, { preferred: place?.channelId, bound: conversation.bound, random });
    if (!channel) break;
    const step = isUpstream(channel) ? await onUpstream(passage, channel) : await onFleet(passage);
    if (step) return step;
  }
  return undefined;
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
  passage.stopped = !outcome.movesOn || shared.over;
  return undefined;
}

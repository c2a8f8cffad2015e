// One call of an upstream, and what its answer's status says: of the request, of the key, of the channel.
import { type Dispatcher, errors, type FormData } from "undici";
import { DrawbridgeError, type Reason } from "../../../kit/errors.ts";
import { version } from "../../../kit/version.ts";
import type { Sample } from "../directory/health.ts";
import { isObject, parseObject } from "./json.ts";
import type { ChannelRuntime } from "../directory/runtime.ts";
import type { UpstreamKey } from "../directory/keys.ts";
import type { ChannelRoute } from "../spec.ts";

export interface UpstreamAnswer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData["headers"];
  readonly body: Dispatcher.ResponseData["body"];
}

export interface UpstreamCall {
  readonly channel: ChannelRuntime;
  readonly key: UpstreamKey;
  readonly route: ChannelRoute;
  readonly body: string | FormData;
  readonly stream: boolean;
  readonly signal: AbortSignal;
}

/** Redirects are not followed: the key is for this host. */
export async function callUpstream({
  channel,
  key,
  route,
  body,
  stream,
  signal,
}: UpstreamCall): Promise<UpstreamAnswer> {
  const base = new URL(channel.spec.baseUrl);
  const {
    statusCode,
    headers,
    body: content,
  } = await channel.pool.request({
    method: "POST",
    path: `${base.pathname.replace(/\/+$/, "")}/${route}`,
    headers: {
      ...(key.secret === undefined ? {} : { authorization: `Bearer ${key.secret}` }),
      // A form's type has a boundary, which whoever writes it makes.
      ...(typeof body === "string" ? { "content-type": "application/json" } : {}),
      accept: stream ? "text/event-stream" : "*/*",
      // What passes through is read on its way.
      "accept-encoding": "identity",
      "user-agent": `drawbridge/${version}`,
    },
    body,
    signal,
  });
  return { status: statusCode, headers, body: content };
}

/** A try that failed, and what it means beyond the request. */
export interface TryFailure {
  readonly sample: Sample;
  /** What its key is told. */
  readonly key:
    | { readonly disable: string }
    | { readonly rest: string; readonly forMs: number | undefined }
    | undefined;
  readonly error: DrawbridgeError;
  /** What the upstream says of the request itself, for the client; undefined: the client is told nothing of it. */
  readonly refusal: Refusal | undefined;
}

/** The client's own fault, in the upstream's words. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
}

/** What an error of the connection means. */
export function connectionFailure(error: unknown): TryFailure {
  const timeout =
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError ||
    error instanceof errors.ConnectTimeoutError;
  const known = error instanceof DrawbridgeError ? error : undefined;
  const reason: Reason = known?.reason ?? (timeout ? "DEADLINE_EXCEEDED" : "AGENT_ERROR");
  const message =
    known?.message ?? (timeout ? "The upstream did not answer in time." : "The upstream's connection failed.");
  return {
    sample: "failure",
    key: undefined,
    error: new DrawbridgeError(reason, message, { cause: error }),
    refusal: undefined,
  };
}

/** Statuses that speak of the client's request, so that another channel would say the same. */
const refusals = new Set([400, 404, 405, 409, 413, 415, 422, 451, 501]);
/** Of these, those that may mean that this upstream has no such model or route, while another one does. */
const elsewhere = new Set([404, 405, 409, 501]);

export interface StatusContext {
  readonly headers: UpstreamAnswer["headers"];
  /** The beginning of the body. */
  readonly text: string;
  readonly now: number;
}

export interface StatusFailure extends TryFailure {
  /** Whether another channel may do better. */
  readonly movesOn: boolean;
}

/** What a status that is no success means. */
export function statusFailure(status: number, { headers, text, now }: StatusContext): StatusFailure {
  const said = errorOf(text);
  const failed = (reason: Reason, sample: Sample, key: TryFailure["key"], waitMs?: number): StatusFailure => ({
    sample,
    key,
    error: new DrawbridgeError(reason, `The upstream answered ${status}.`, {
      cause: said.message.slice(0, 500),
      ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }),
    }),
    refusal: undefined,
    movesOn: true,
  });
  if (status === 401) return failed("AGENT_UNAUTHENTICATED", "neutral", { disable: "the upstream refused it (401)" });
  if (status === 402 || status === 403) {
    const rest = `the upstream does not serve it (${status})`;
    return failed("AGENT_UNAUTHENTICATED", "neutral", { rest, forMs: Number.POSITIVE_INFINITY });
  }
  if (status === 429) {
    if (said.code === "insufficient_quota" || said.type === "insufficient_quota") {
      const rest = "the upstream says that its plan is used up";
      return failed("AGENT_USAGE_LIMIT", "neutral", { rest, forMs: Number.POSITIVE_INFINITY });
    }
    const forMs = retryAfterMs(headers, now);
    return failed("AGENT_RATE_LIMITED", "neutral", { rest: "the upstream asked to slow down", forMs }, forMs);
  }
  if (refusals.has(status)) {
    const { message, type, param, code } = said;
    const error = new DrawbridgeError("INVALID_ARGUMENT", message, { cause: `the upstream answered ${status}` });
    const movesOn = elsewhere.has(status);
    return { sample: "neutral", key: undefined, error, refusal: { status, message, type, param, code }, movesOn };
  }
  return failed("AGENT_ERROR", "failure", undefined);
}

/** The longest wait that an upstream may ask for. */
const waitMaxMs = 3_600_000;

function retryAfterMs(headers: UpstreamAnswer["headers"], now: number): number | undefined {
  const exact = Number(single(headers["retry-after-ms"]));
  if (Number.isFinite(exact) && exact > 0) return Math.min(waitMaxMs, exact);
  const text = single(headers["retry-after"]);
  if (text === undefined || text === "") return undefined;
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now;
  return Number.isFinite(ms) ? Math.min(waitMaxMs, Math.max(0, ms)) : undefined;
}

export function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

const refusalCharsMax = 2_000;

/** The error of a body in OpenAI's form, or what can be made of another one. */
function errorOf(text: string): Omit<Refusal, "status"> {
  const error = parseObject(text)?.["error"];
  if (!isObject(error)) {
    const message = typeof error === "string" ? error : "The model's provider refused the request.";
    return { message: message.slice(0, refusalCharsMax), type: "invalid_request_error", param: null, code: null };
  }
  const textOf = (name: string) => (typeof error[name] === "string" ? error[name].slice(0, refusalCharsMax) : null);
  return {
    message: textOf("message") ?? "The model's provider refused the request.",
    type: textOf("type") ?? "invalid_request_error",
    param: textOf("param"),
    code: textOf("code"),
  };
}

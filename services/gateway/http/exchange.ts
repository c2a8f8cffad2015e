// One request and its answer, beside what HTTP says: ids, times, limits, and one line in the log.
import type { ServerResponse } from "node:http";
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { newId } from "../../kit/random.ts";
import type { LimitStatus } from "../../state/state.ts";
import type { Caller } from "../access/authenticate.ts";
import { channelOf } from "../channels/ledger-account.ts";
import type { Dialect } from "./dialect.ts";
import { type RequestEnd, requestEnded, requestStarted } from "./telemetry.ts";

export interface Exchange {
  readonly requestId: string;
  readonly dialect: Dialect;
  /** When it began, by the monotonic clock. */
  readonly startedAt: number;
  caller: Caller | undefined;
  model: string;
  limits: LimitStatus | undefined;
  firstContentAt: number | undefined;
  outcome: Outcome | undefined;
  entry: UsageEntry | undefined;
  /** Work that goes on when the connection has closed, such as the settlement. It never fails. */
  work: Promise<void> | undefined;
}

declare module "fastify" {
  interface FastifyRequest {
    exchange: Exchange;
  }
}

export interface ExchangeOptions {
  readonly response: ServerResponse;
  /** The route's pattern; undefined: there is no such route. */
  readonly route: string | undefined;
  readonly dialect: Dialect;
  readonly clock: Clock;
  readonly log: Log;
}

/** Begins an exchange, which ends by itself: when the connection has closed, or the answer was sent, and its work is done. */
export function beginExchange({ response, route, dialect, clock, log }: ExchangeOptions): Exchange {
  const exchange: Exchange = {
    requestId: newId("req"),
    dialect,
    startedAt: clock.monotonic(),
    caller: undefined,
    model: "",
    limits: undefined,
    firstContentAt: undefined,
    outcome: undefined,
    entry: undefined,
    work: undefined,
  };
  requestStarted.publish(undefined);
  response.once("close", () => {
    // Whoever left before the end saw no status.
    const status = response.writableFinished ? response.statusCode : clientClosedRequest;
    void (exchange.work ?? Promise.resolve()).then(() => tell(exchange, route ?? "unknown", status, clock, log));
  });
  return exchange;
}

/** In the log and the metrics only: the client left before the answer's end. */
const clientClosedRequest = 499;

/** Tells the log and the metrics. No prompt and no key is in either. */
function tell(exchange: Exchange, route: string, status: number, clock: Clock, log: Log): void {
  const { outcome, entry, caller } = exchange;
  const usage = entry?.usage ?? outcome?.usage;
  const message: RequestEnd = {
    route,
    status,
    model: exchange.model,
    end: outcome ? endName(outcome.end) : "",
    durationMs: clock.monotonic() - exchange.startedAt,
    firstContentMs: exchange.firstContentAt === undefined ? undefined : exchange.firstContentAt - exchange.startedAt,
    inputTokens: Number(usage?.inputTokens ?? 0n),
    outputTokens: Number(usage?.outputTokens ?? 0n),
    costMicros: Number(entry?.costMicros ?? 0n),
  };
  requestEnded.publish(message);
  const account = entry?.accountId ?? outcome?.accountId;
  const who = { user: caller?.userId, key_id: caller?.key.id, account, channel: channelOf(account) };
  log.info({ request_id: exchange.requestId, ...who, ...message }, "request");
}

const endNames = new Map(Object.entries(End).map(([name, value]) => [value as number, name.toLowerCase()]));

function endName(end: End): string {
  return endNames.get(end) ?? "unspecified";
}

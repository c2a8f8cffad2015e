// What the tries of one request share, and how each of them ends in the ledger.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { FastifyReply } from "fastify";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End, type Outcome, OutcomeSchema, type Usage } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../../kit/clock.ts";
import type { DrawbridgeError } from "../../../kit/errors.ts";
import type { Log } from "../../../kit/log.ts";
import { newId } from "../../../kit/random.ts";
import type { Admission } from "../../access/admit.ts";
import type { Caller } from "../../access/authenticate.ts";
import type { GatewaySettings } from "../../config.ts";
import type { ClientWatch } from "../../http/client-watch.ts";
import type { Exchange } from "../../http/exchange.ts";
import type { ChannelRequest, TokenBounds } from "../body.ts";
import type { Try } from "../directory/runtime.ts";
import { channelAccount } from "../ledger-account.ts";

export interface Run {
  readonly request: ChannelRequest;
  readonly bounds: TokenBounds;
  readonly caller: Caller;
  readonly exchange: Exchange;
  readonly reply: FastifyReply;
  readonly client: ClientWatch;
  /** Aborted when the request's time is over. */
  readonly deadline: AbortSignal;
  readonly admission: Admission;
  /** Keeps a whole answer for a repeated Idempotency-Key. */
  readonly keep: (body: string) => void;
  /** Told the id of the answer. */
  readonly remember: (answerId: string) => void;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: GatewaySettings;
}

export interface Ending {
  readonly end: End;
  readonly content: boolean;
  readonly usage?: Usage | undefined;
  readonly error?: DrawbridgeError | undefined;
}

/** Settles a try: with a failure before content, the next one goes on with the hold. */
export async function settleTry(run: Run, { channel }: Try, ending: Ending): Promise<void> {
  const { exchange, admission, clock } = run;
  exchange.outcome = outcomeOf(run, channel.id, ending, clock.now());
  exchange.entry = await admission.settle(exchange.outcome);
}

function outcomeOf({ exchange }: Run, channelId: string, ending: Ending, now: number): Outcome {
  const { end, content, usage, error } = ending;
  return create(OutcomeSchema, {
    attemptId: newId("att"),
    requestId: exchange.requestId,
    accountId: channelAccount(channelId),
    end,
    content,
    millicredits: 0n,
    reason: error?.reasonValue ?? ErrorReason.UNSPECIFIED,
    endedAt: timestampFromMs(now),
    ...(usage ? { usage } : {}),
  });
}

/** How a failure after content ends. */
export function endAfterContent(error: DrawbridgeError): End {
  return error.reason === "DEADLINE_EXCEEDED" ? End.TIMEOUT : End.FAILED_AFTER_CONTENT;
}

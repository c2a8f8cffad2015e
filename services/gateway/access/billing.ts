// The money of a request: one admission, one settlement, whatever happens in between.
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Price, Tier } from "#gen/drawbridge/v1/access_service";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { AdmitRefusal, AdmitResult, Ledger, LimitStatus } from "../../state/state.ts";
import type { GatewaySettings } from "../config.ts";
import type { Caller } from "./authenticate.ts";
import type { Catalogue } from "./catalogue.ts";
import { costMicros, dueMicros, frozenPrice } from "./money.ts";

export interface AdmissionRequest {
  readonly requestId: string;
  readonly caller: Caller;
  readonly model: string;
  readonly inputTokens: number;
  /** The request's own limit; 0: it has none. */
  readonly outputTokensMax: number;
  readonly idempotency: { readonly key: string; readonly bodyHash: string } | undefined;
}

export interface Admission {
  readonly limits: LimitStatus;
  /** Ends the hold. undefined: nothing ran. Never throws: what the store does not take now is tried again, and swept at last. */
  settle(outcome: Outcome | undefined): Promise<UsageEntry | undefined>;
}

/** Why a request was not let in. `limits` are known where the user is. */
export class AdmissionError extends DrawbridgeError {
  readonly refusal: AdmitRefusal;
  readonly limits: LimitStatus | undefined;

  constructor(refusal: AdmitRefusal, limits: LimitStatus | undefined, request: AdmissionRequest, tier: Tier) {
    const retryAfterMs = "retryAfterMs" in refusal ? refusal.retryAfterMs : undefined;
    super(refusal.reason, refusalText(refusal, request, tier), retryAfterMs === undefined ? {} : { retryAfterMs });
    this.refusal = refusal;
    this.limits = limits;
  }
}

export interface Billing extends AsyncDisposable {
  /** Throws an AdmissionError, or STATE_UNAVAILABLE. */
  admit(request: AdmissionRequest): Promise<Admission>;
  limits(caller: Caller): Promise<LimitStatus>;
  start(): void;
}

export interface BillingOptions {
  readonly ledger: Ledger;
  readonly catalogue: Catalogue;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: GatewaySettings;
}

interface OpenHold {
  readonly userId: string;
  readonly requestId: string;
  readonly price: Price | undefined;
}

/** Settlements that wait for the store; beyond that the sweep settles them. */
const pendingMax = 10_000;
const retryBaseMs = 200;
const retryMaxMs = 10_000;
const triesMax = 10;

export function createBilling(options: BillingOptions): Billing {
  const { ledger, catalogue, clock, log, config } = options;
  const open = new Map<string, OpenHold>();
  const ending = new AbortController();
  const pending = new Set<Promise<unknown>>();
  let renewing: Promise<void> = Promise.resolve();

  const settle = async (hold: OpenHold, outcome: Outcome | undefined): Promise<UsageEntry | undefined> => {
    const end = outcome?.end ?? End.FAILED_BEFORE_CONTENT;
    const settlement = {
      requestId: hold.requestId,
      userId: hold.userId,
      costMicros: dueMicros(end, outcome?.usage, hold.price),
      end,
      usage: outcome?.usage,
      accountId: outcome?.accountId ?? "",
      millicredits: Number(outcome?.millicredits ?? 0n),
    };
    try {
      return (await ledger.settle({ ...settlement, now: clock.now() }))?.entry;
    } catch (error) {
      log.error({ err: error, request_id: hold.requestId }, "settlement failed; it is tried again");
      if (pending.size < pendingMax) {
        const again = settleLater(options, settlement, ending.signal);
        pending.add(again);
        void again.finally(() => pending.delete(again));
      }
      return undefined;
    } finally {
      open.delete(hold.requestId);
    }
  };

  return {
    async admit(request) {
      const { requestId, caller, model } = request;
      const tier = await catalogue.tier(caller.tierName);
      const price = frozenPrice(await catalogue.price(model), tier);
      const result = await ledger.admit(admitRequest(request, tier, price, config, clock.now()));
      if (!result.admitted) throw new AdmissionError(result.refusal, result.limits, request, tier);
      const hold = { userId: caller.userId, requestId, price };
      open.set(requestId, hold);
      return admission(result, (outcome) => settle(hold, outcome));
    },

    async limits(caller) {
      return await ledger.limits(caller.userId, await catalogue.tier(caller.tierName), clock.now());
    },

    start() {
      renewing = keepRenewing(options, open, ending.signal);
    },

    async [Symbol.asyncDispose]() {
      ending.abort();
      await renewing;
      await Promise.all(pending);
    },
  };
}

/** One settlement for one admission, however often it is asked for. */
function admission(
  { limits }: Extract<AdmitResult, { admitted: true }>,
  settle: (outcome: Outcome | undefined) => Promise<UsageEntry | undefined>,
): Admission {
  let settlement: Promise<UsageEntry | undefined> | undefined;
  return { limits, settle: (outcome) => (settlement ??= settle(outcome)) };
}

function admitRequest(
  request: AdmissionRequest,
  tier: Tier,
  price: Price | undefined,
  config: GatewaySettings,
  now: number,
): Parameters<Ledger["admit"]>[0] {
  const output = request.outputTokensMax || config.default_output_tokens;
  const tokens = { input: BigInt(request.inputTokens), cachedInput: 0n, output: BigInt(output) };
  return {
    requestId: request.requestId,
    userId: request.caller.userId,
    keyId: request.caller.key.id,
    model: request.model,
    holdMicros: costMicros(tokens, price),
    tokens: request.inputTokens + output,
    tier,
    price,
    expiresAt: now + config.hold_ttl,
    idempotency: request.idempotency && { ...request.idempotency, expiresAt: now + config.idempotency_ttl },
    now,
  };
}

/** Holds of requests that run are renewed three times in their life, so that one lost renewal ends none. */
async function keepRenewing(
  { ledger, clock, log, config }: BillingOptions,
  open: ReadonlyMap<string, OpenHold>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await clock.sleep(config.hold_ttl / 3, signal);
      await ledger.renew([...open.values()], clock.now() + config.hold_ttl);
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, "holds could not be renewed");
    }
  }
}

async function settleLater(
  { ledger, clock, random, log }: BillingOptions,
  settlement: Omit<Parameters<Ledger["settle"]>[0], "now">,
  signal: AbortSignal,
): Promise<void> {
  for (let tries = 1; tries <= triesMax && !signal.aborted; tries += 1) {
    try {
      await clock.sleep(backoffMs(tries, retryBaseMs, retryMaxMs, random), signal);
      await ledger.settle({ ...settlement, now: clock.now() });
      return;
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, request_id: settlement.requestId, tries }, "settlement failed again");
    }
  }
  log.error({ request_id: settlement.requestId }, "settlement is left to the sweep");
}

function refusalText(refusal: AdmitRefusal, request: AdmissionRequest, tier: Tier): string {
  switch (refusal.reason) {
    case "UNAUTHENTICATED":
      return "Incorrect API key provided.";
    case "MODEL_NOT_ALLOWED":
      return `This API key may not use the model "${request.model}".`;
    case "REQUESTS_LIMITED":
      return `Rate limit reached: ${tier.requestsPerMinute} requests per minute. ${whenText(refusal.retryAfterMs)}`;
    case "TOKENS_LIMITED":
      return `Rate limit reached: ${tier.tokensPerMinute} tokens per minute. ${whenText(refusal.retryAfterMs)}`;
    case "CONCURRENCY_LIMITED":
      return `Rate limit reached: ${tier.concurrency} requests at the same time. Try again when one of yours has ended.`;
    case "INSUFFICIENT_QUOTA":
      return refusal.scope === "key"
        ? "This API key has spent its budget, or the request may cost more than what is left of it."
        : "You exceeded your current quota, or the request may cost more than what is left of it.";
    case "IDEMPOTENCY_CONFLICT":
      return conflictText(refusal.conflict);
    default:
      return refusal satisfies never;
  }
}

function whenText(retryAfterMs: number | undefined): string {
  if (retryAfterMs === undefined) return "This request is larger than the limit allows at all; make it smaller.";
  return `Try again in ${(retryAfterMs / 1_000).toFixed(3)}s.`;
}

function conflictText(conflict: "other_body" | "running" | "billed"): string {
  if (conflict === "other_body")
    return "This Idempotency-Key was used with another body. Use a new key for a new request.";
  if (conflict === "running") return "A request with this Idempotency-Key is running. Wait for its answer.";
  return "A request with this Idempotency-Key has been answered and billed; its answer is not kept any more.";
}

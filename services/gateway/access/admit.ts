// The one entrance of every request that costs something: the key's state, the limits and a hold on the quota, decided and taken together.
import type { Price, Tier } from "#gen/drawbridge/v1/access_service";
import type { Priority } from "#gen/drawbridge/v1/scheduler_service";
import type { Outcome, UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { AdmitRequest, Ledger, LimitStatus } from "../../state/state.ts";
import type { GatewaySettings } from "../config.ts";
import type { Caller } from "./authenticate.ts";
import type { Catalogue } from "./catalogue.ts";
import type { Holds } from "./holds.ts";
import { costMicros, frozenPrice } from "./money.ts";
import { AdmissionError } from "./refusals.ts";
import type { Settler } from "./settle.ts";

export interface AdmissionRequest {
  readonly requestId: string;
  readonly caller: Caller;
  readonly model: string;
  readonly inputTokens: number;
  /** The request's own limit; 0: it has none. undefined: its output is not paid by tokens. */
  readonly outputTokensMax: number | undefined;
  readonly idempotency: { readonly key: string; readonly bodyHash: string } | undefined;
}

/** A request that was let in. One of the two calls ends it; the first one counts. */
export interface Admission {
  /** As they are after this request was let in. */
  readonly limits: LimitStatus;
  /** The class in which it waits for the fleet. */
  readonly priority: Priority;
  /** Ends the hold. `outcome` undefined: nothing ran. Never throws. */
  settle(outcome: Outcome | undefined): Promise<UsageEntry | undefined>;
  /** Leaves the hold to the sweep: something ran, and nobody here knows how it ended. */
  abandon(): void;
}

export interface Admissions {
  /** Throws an AdmissionError, or STATE_UNAVAILABLE. */
  admit(request: AdmissionRequest): Promise<Admission>;
  /** A caller's limits as they stand. */
  limits(caller: Caller): Promise<LimitStatus>;
  /** The class in which a caller's requests wait. */
  priority(caller: Caller): Promise<Priority>;
}

export type AdmissionSettings = Pick<
  GatewaySettings,
  "default_output_tokens" | "output_tokens_max" | "hold_ttl" | "idempotency_ttl"
>;

export interface AdmissionsOptions {
  readonly ledger: Ledger;
  readonly catalogue: Catalogue;
  readonly holds: Holds;
  readonly settler: Settler;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: AdmissionSettings;
}

export function createAdmissions(options: AdmissionsOptions): Admissions {
  const { ledger, catalogue, holds, settler, clock, log, config } = options;
  return {
    async admit(request) {
      const { requestId, caller, model } = request;
      const tier = await catalogue.tier(caller.tierName);
      const price = frozenPrice(await catalogue.price(model), tier);
      const result = await ledger.admit(admitRequest(request, tier, price, config, clock.now()));
      if (!result.admitted) throw new AdmissionError(result.refusal, result.limits, model);
      const hold = { userId: caller.userId, requestId, keyId: caller.key.id, price };
      holds.add(hold);
      let end: Promise<UsageEntry | undefined> | undefined;
      return {
        limits: result.limits,
        priority: tier.priority,
        settle: (outcome) => (end ??= settler.settle(hold, outcome)),
        abandon() {
          if (end) return;
          end = Promise.resolve(undefined);
          holds.remove(requestId);
          log.error({ request_id: requestId }, "nobody knows how the request ended; its hold is left to the sweep");
        },
      };
    },

    limits: async ({ userId, tierName, key }) =>
      ledger.limits(userId, await catalogue.tier(tierName), clock.now(), key.id),

    priority: async ({ tierName }) => (await catalogue.tier(tierName)).priority,
  };
}

function admitRequest(
  request: AdmissionRequest,
  tier: Tier,
  price: Price | undefined,
  config: AdmissionSettings,
  now: number,
): AdmitRequest {
  const { outputTokensMax } = request;
  const unbounded = Math.min(config.default_output_tokens, config.output_tokens_max);
  const output = outputTokensMax === undefined ? 0 : outputTokensMax || unbounded;
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

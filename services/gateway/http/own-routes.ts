// What users may ask about themselves with their API key: balance, limits, usage, in our form and in the one that tools of other gateways expect;
// and a code, to be redeemed.
import type { FastifyInstance, FastifyRequest, RouteShorthandOptions } from "fastify";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { z } from "zod";
import type { ApiKey, Budget, QuotaBalance, User } from "#gen/drawbridge/v1/access_service";
import { BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { usageRow } from "../../client/usage-export.ts";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { budgetNow } from "../../state/budgets.ts";
import type { LimitStatus, State } from "../../state/state.ts";
import { redemptionText } from "../access/handlers/codes.ts";
import { hashCode } from "../access/keys.ts";
import { ParameterError } from "../openai/parse.ts";

export interface OwnRouteOptions {
  readonly state: Pick<State, "access" | "ledger">;
  readonly pepper: string;
  readonly clock: Clock;
}

export function addOwnRoutes(app: FastifyInstance, guarded: RouteShorthandOptions, options: OwnRouteOptions): void {
  app.get("/v1/usage", guarded, (request) => ownUsage(request, options));
  app.post("/v1/redeem", guarded, (request) => redeem(request, options));
  for (const prefix of ["/v1", ""]) {
    app.get(`${prefix}/dashboard/billing/subscription`, guarded, (request) => subscription(request, options));
    app.get(`${prefix}/dashboard/billing/usage`, guarded, (request) => billedUsage(request, options));
  }
}

/** The key as it is now, and whose it is. */
async function whoAsks(
  { exchange }: FastifyRequest,
  { state }: OwnRouteOptions,
): Promise<{ user: User; key: ApiKey; quota: QuotaBalance }> {
  const { caller } = exchange;
  const user = caller && (await state.access.getUser(caller.userId));
  if (!caller || !user?.quota) throw new DrawbridgeError("UNAUTHENTICATED", "Incorrect API key provided.");
  return { user, key: caller.key, quota: user.quota };
}

const usageQuery = z.strictObject({
  limit: z.coerce.number().int().min(0).max(1_000).default(20),
  page_token: z.string().max(512).default(""),
});

/** Amounts are millionths of a dollar. */
async function ownUsage(request: FastifyRequest, options: OwnRouteOptions) {
  const query = usageQuery.safeParse(request.query);
  if (!query.success) {
    throw new ParameterError("limit is a whole number up to 1000, page_token one that an answer gave.", "limit");
  }
  const { limit, page_token: pageToken } = query.data;
  const { user, key, quota } = await whoAsks(request, options);
  const now = options.clock.now();
  const page = limit === 0 ? undefined : await options.state.ledger.usage({ userId: user.id, limit, pageToken });
  return {
    object: "usage",
    user: { id: user.id, tier: user.tier, ...amounts(quota), budget: budgetBody(budgetNow(user.budget, now)) },
    key: {
      id: key.id,
      name: key.name,
      spent: Number(key.spentMicros),
      budget: budgetBody(budgetNow(key.budget, now)),
      models: key.models,
      expires_at: key.expiresAt ? new Date(timestampMs(key.expiresAt)).toISOString() : null,
    },
    limits: limitsBody(request.exchange.limits),
    data: (page?.entries ?? []).map(usageRow),
    next_page_token: page?.nextPageToken || null,
  };
}

function amounts({ granted, available, held, spent }: QuotaBalance) {
  return {
    granted: Number(granted),
    available: Number(available),
    held: Number(held),
    spent: Number(spent),
  };
}

function limitsBody(limits: LimitStatus | undefined) {
  if (!limits) return null;
  const body = ({ limit, remaining, resetMs }: LimitStatus["requests"]) => ({ limit, remaining, reset_ms: resetMs });
  return { requests: body(limits.requests), tokens: body(limits.tokens) };
}

function budgetBody(budget: Budget | undefined) {
  if (!budget) return null;
  return {
    amount: Number(budget.micros),
    per: windowNames.get(budget.window) ?? "total",
    spent: Number(budget.spentMicros),
    held: Number(budget.heldMicros),
    resets_at: budget.resetsAt ? new Date(timestampMs(budget.resetsAt)).toISOString() : null,
  };
}

const windowNames = new Map<BudgetWindow, string>([
  [BudgetWindow.DAY, "day"],
  [BudgetWindow.WEEK, "week"],
  [BudgetWindow.MONTH, "month"],
]);

const redemption = z.strictObject({ code: z.string().min(1).max(128) });

async function redeem(request: FastifyRequest, options: OwnRouteOptions) {
  const body = redemption.safeParse(request.body);
  if (!body.success) throw new ParameterError('The body is {"code": "…"}.', "code");
  const { user } = await whoAsks(request, options);
  const { access } = options.state;
  const result = await access.redeemCode(hashCode(body.data.code, options.pepper), user.id, options.clock.now());
  if (!result.redeemed) throw new ParameterError(redemptionText(result.refused), "code", `code_${result.refused}`);
  return { object: "redemption", amount: result.quotaMicros, ...(result.user.quota ? amounts(result.user.quota) : {}) };
}

const microsInDollar = 1_000_000;
const microsInCent = 10_000;

/**
 * What may be spent in all and what was, of the key where it has a budget of its own, else of its user. Tools show hard_limit_usd − total_usage / 100
 * as the balance, so what is held counts as used.
 */
async function account(request: FastifyRequest, options: OwnRouteOptions) {
  const { key, quota } = await whoAsks(request, options);
  const budget = budgetNow(key.budget, options.clock.now());
  const expiresAt = key.expiresAt ? Math.floor(timestampMs(key.expiresAt) / 1_000) : 0;
  return budget
    ? { limit: Number(budget.micros), used: Number(budget.spentMicros + budget.heldMicros), expiresAt }
    : { limit: Number(quota.granted), used: Number(quota.spent + quota.held), expiresAt };
}

async function subscription(request: FastifyRequest, options: OwnRouteOptions) {
  const { limit, expiresAt } = await account(request, options);
  const dollars = limit / microsInDollar;
  return {
    object: "billing_subscription",
    has_payment_method: true,
    soft_limit_usd: dollars,
    hard_limit_usd: dollars,
    system_hard_limit_usd: dollars,
    // 0: it never ends.
    access_until: expiresAt,
  };
}

async function billedUsage(request: FastifyRequest, options: OwnRouteOptions) {
  const { used } = await account(request, options);
  // In cents, whatever dates were asked for: the balance is what tools make of it.
  return { object: "list", total_usage: used / microsInCent };
}

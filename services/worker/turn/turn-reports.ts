// What an agent reports beside its answer, while it works: credits, cost, tokens, the fill of its context.
import { isObject } from "../protocol/acp-connection.ts";
import type { AgentSession } from "../protocol/agent.ts";
import type { Frame } from "../protocol/framing.ts";
import type { AgentProfile } from "../profiles/profile.ts";

export interface TurnReports {
  /** The `update` of a `session/update`. */
  update(update: Frame): void;
  /** A vendor's notification for the session. */
  vendor(method: string, params: Frame): void;
  /** What the account paid, in thousandths of a credit. */
  readonly millicredits: number | undefined;
  /** Tokens of all the model calls of the turn, in the words of ACP's usage. */
  readonly usage: Frame | undefined;
  /** Tokens in the context, by its reported fill. */
  readonly contextTokens: number | undefined;
  /** Told once credits are known. */
  onMillicredits(listener: () => void): void;
}

export function createTurnReports(profile: AgentProfile, session: AgentSession, model: string): TurnReports {
  let millicredits: number | undefined;
  let usage: Record<string, number> | undefined;
  let contextTokens: number | undefined;
  let onMillicredits: () => void = () => {};

  return {
    update(update) {
      const tokens = profile.usageIn?.(update);
      if (tokens) usage = sumOf(usage ?? {}, tokens);
      const dollars = cumulativeCost(update);
      if (profile.creditsPerDollar === undefined || dollars === undefined) return;
      // Differences of rounded sums, so that what is rounded away in one turn is paid in a later one.
      const total = Math.round(dollars * profile.creditsPerDollar * 1_000);
      millicredits = (millicredits ?? 0) + Math.max(0, total - session.reportedMillicredits);
      session.reportedMillicredits = Math.max(total, session.reportedMillicredits);
    },
    vendor(method, params) {
      const share = profile.contextShare?.(method, params);
      if (share !== undefined) contextTokens = Math.round(share * (profile.contextTokens?.(model) ?? 0));
      const paid = profile.millicredits?.(method, params);
      if (paid === undefined) return;
      millicredits = paid;
      onMillicredits();
    },
    get millicredits() {
      return millicredits;
    },
    get usage() {
      return usage;
    },
    get contextTokens() {
      return contextTokens;
    },
    onMillicredits: (listener) => void (onMillicredits = listener),
  };
}

/** Agents report what a session has cost since it began. */
function cumulativeCost(update: Frame): number | undefined {
  const cost = update["sessionUpdate"] === "usage_update" ? update["cost"] : undefined;
  if (!isObject(cost) || cost["currency"] !== "USD") return undefined;
  const amount = cost["amount"];
  return typeof amount === "number" && Number.isFinite(amount) && amount >= 0 ? amount : undefined;
}

function sumOf(sum: Readonly<Record<string, number>>, more: Frame): Record<string, number> {
  const total = { ...sum };
  for (const [name, value] of Object.entries(more)) {
    if (typeof value === "number" && Number.isFinite(value)) total[name] = (total[name] ?? 0) + value;
  }
  return total;
}

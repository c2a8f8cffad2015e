// What a turn used: as the agent reported it, wherever it did, else an estimate.
import { create } from "@bufbuild/protobuf";
import { type Usage, UsageSchema, UsageSource } from "#gen/drawbridge/v1/usage";
import { isObject } from "../protocol/acp-connection.ts";
import type { Frame } from "../protocol/framing.ts";

export interface Metered {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
}

/** What an agent said of a turn. */
export interface Reported {
  /** What session/prompt answered, if it did. */
  readonly answer: Frame | undefined;
  /** What was reported while it worked, in the words of ACP's usage. */
  readonly usage?: Frame | undefined;
  /** The tokens in the context at its end. */
  readonly contextTokens?: number | undefined;
}

export const nothingMetered: Metered = { inputTokens: 0, outputTokens: 0, reasoningTokens: 0 };

export function addMetered(one: Metered, other: Metered): Metered {
  return {
    inputTokens: one.inputTokens + other.inputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    reasoningTokens: one.reasoningTokens + other.reasoningTokens,
  };
}

/** Of the turns of one answer. `metered`: what was counted here, of all of them. */
export function usageOf(turns: readonly Reported[], metered: Metered): Usage {
  return reportedByAll(turns) ?? estimate(turns, metered);
}

/**
 * The usage of turns whose last was ended early. Agents report nothing, or nonsense, for such turns, and what they produced after the cut is not
 * the caller's: the output is what was counted here.
 */
export function usageOfCutTurn(turns: readonly Reported[], metered: Metered): Usage {
  const usage = estimate(turns, metered);
  const known = reportedByAll(turns);
  if (!known) return usage;
  return { ...usage, inputTokens: known.inputTokens, cachedInputTokens: known.cachedInputTokens };
}

/**
 * An agent reports a turn at its end, with all its parts. What was billed for the earlier ones, by our own count, is not billed again. Our own
 * count is of the last part alone.
 */
export function lessBilled(usage: Usage, billed: Metered): Usage {
  if (usage.source !== UsageSource.REPORTED) return usage;
  const less = (amount: bigint, paid: number) => amount - atMost(amount, BigInt(paid));
  const inputTokens = less(usage.inputTokens, billed.inputTokens);
  const outputTokens = less(usage.outputTokens, billed.outputTokens);
  return {
    ...usage,
    inputTokens,
    outputTokens,
    cachedInputTokens: atMost(usage.cachedInputTokens, inputTokens),
    reasoningTokens: atMost(usage.reasoningTokens, outputTokens),
  };
}

function atMost(amount: bigint, limit: bigint): bigint {
  return amount < limit ? amount : limit;
}

function reportedByAll(turns: readonly Reported[]): Usage | undefined {
  return turns.map(reportedUsage).reduce((sum, each) => sum && each && addUsage(sum, each));
}

function addUsage(one: Usage, other: Usage): Usage {
  return {
    ...one,
    inputTokens: one.inputTokens + other.inputTokens,
    cachedInputTokens: one.cachedInputTokens + other.cachedInputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    reasoningTokens: one.reasoningTokens + other.reasoningTokens,
  };
}

/** What fills the context is the input and the output; an agent's own instructions, which we do not see, are in it. */
function estimate(turns: readonly Reported[], { inputTokens, outputTokens, reasoningTokens }: Metered): Usage {
  const contextTokens = turns.at(-1)?.contextTokens ?? 0;
  return create(UsageSchema, {
    inputTokens: BigInt(Math.max(inputTokens, contextTokens - outputTokens)),
    outputTokens: BigInt(outputTokens),
    reasoningTokens: BigInt(reasoningTokens),
    source: UsageSource.ESTIMATED,
  });
}

/** undefined: the agent reported no tokens. */
export function reportedUsage({ answer, usage }: Reported): Usage | undefined {
  return fromUsage(answer?.["usage"]) ?? fromUsage(usage) ?? fromQuota(answer?.["_meta"]);
}

/**
 * ACP's usage. `inputTokens` leaves out cached tokens in most agents, and the sums tell in which it does not; `outputTokens` leaves out
 * reasoning in some, `totalTokens` in none, so the output is the total less the input.
 */
function fromUsage(usage: unknown): Usage | undefined {
  if (!isObject(usage)) return undefined;
  const fresh = count(usage["inputTokens"]);
  const cached = count(usage["cachedReadTokens"]) || count(usage["cachedInputTokens"]);
  const written = count(usage["cachedWriteTokens"]) || count(usage["cacheWriteInputTokens"]);
  const total = count(usage["totalTokens"]);
  const said = count(usage["outputTokens"]);
  const cacheInside = total > 0 && fresh + said === total;
  const input = cacheInside ? fresh : fresh + cached + written;
  const output = total > input ? total - input : said;
  if (input + output === 0) return undefined;
  const thought = count(usage["thoughtTokens"]) || count(usage["reasoningOutputTokens"]);
  return create(UsageSchema, {
    inputTokens: BigInt(input),
    cachedInputTokens: BigInt(Math.min(input, cached)),
    outputTokens: BigInt(output),
    reasoningTokens: BigInt(Math.min(output, thought)),
    source: UsageSource.REPORTED,
  });
}

/** A common place beside it: _meta.quota.token_count, in either way of writing names. */
function fromQuota(meta: unknown): Usage | undefined {
  const quota = isObject(meta) ? meta["quota"] : undefined;
  const tokens = isObject(quota) ? quota["token_count"] : undefined;
  if (!isObject(tokens)) return undefined;
  const input = count(tokens["input_tokens"]);
  const output = count(tokens["output_tokens"]);
  if (input + output === 0) return fromUsage(tokens);
  const cached = Math.min(input, count(tokens["cached_input_tokens"]));
  return create(UsageSchema, {
    inputTokens: BigInt(input),
    cachedInputTokens: BigInt(cached),
    outputTokens: BigInt(output),
    source: UsageSource.REPORTED,
  });
}

/** A count that an agent sent: untrusted. */
function count(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

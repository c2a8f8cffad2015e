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

/** `metered`: what was counted here. */
export function usageOf(reported: Reported, metered: Metered): Usage {
  return reportedUsage(reported) ?? estimate(reported, metered);
}

/**
 * The usage of a turn that was ended early. Agents report nothing, or nonsense, for such turns, and what they produced after the cut is not
 * the caller's: the output is what was counted here.
 */
export function usageOfCutTurn(reported: Reported, metered: Metered): Usage {
  const usage = estimate(reported, metered);
  const known = reportedUsage(reported);
  if (!known) return usage;
  return { ...usage, inputTokens: known.inputTokens, cachedInputTokens: known.cachedInputTokens };
}

/** What fills the context is the input and the output; an agent's own instructions, which we do not see, are in it. */
function estimate({ contextTokens = 0 }: Reported, { inputTokens, outputTokens, reasoningTokens }: Metered): Usage {
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

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

/** `answer`: what session/prompt answered, if it did. `metered`: what was counted here. */
export function usageOf(answer: Frame | undefined, metered: Metered): Usage {
  return reportedUsage(answer) ?? estimate(metered, UsageSource.ESTIMATED);
}

/**
 * The usage of a turn that was ended early. Agents report nothing, or nonsense, for such turns, and what they produced after the cut is not
 * the caller's: the output is what was counted here.
 */
export function usageOfCutTurn(answer: Frame | undefined, metered: Metered): Usage {
  const usage = estimate(metered, UsageSource.ESTIMATED);
  const reported = reportedUsage(answer);
  if (!reported) return usage;
  return { ...usage, inputTokens: reported.inputTokens, cachedInputTokens: reported.cachedInputTokens };
}

function estimate({ inputTokens, outputTokens, reasoningTokens }: Metered, source: UsageSource): Usage {
  return create(UsageSchema, {
    inputTokens: BigInt(inputTokens),
    outputTokens: BigInt(outputTokens),
    reasoningTokens: BigInt(reasoningTokens),
    source,
  });
}

/** undefined: the agent reported no tokens. */
export function reportedUsage(answer: Frame | undefined): Usage | undefined {
  return fromUsage(answer?.["usage"]) ?? fromQuota(answer?.["_meta"]);
}

/**
 * ACP's usage. `inputTokens` leaves out cached tokens everywhere; `outputTokens` leaves out reasoning in some agents, `totalTokens` in
 * none, so the output is the total less the input.
 */
function fromUsage(usage: unknown): Usage | undefined {
  if (!isObject(usage)) return undefined;
  const cached = count(usage["cachedReadTokens"]);
  const input = count(usage["inputTokens"]) + cached + count(usage["cachedWriteTokens"]);
  const total = count(usage["totalTokens"]);
  const output = total > input ? total - input : count(usage["outputTokens"]);
  if (input + output === 0) return undefined;
  return create(UsageSchema, {
    inputTokens: BigInt(input),
    cachedInputTokens: BigInt(cached),
    outputTokens: BigInt(output),
    reasoningTokens: BigInt(Math.min(output, count(usage["thoughtTokens"]))),
    source: UsageSource.REPORTED,
  });
}

/** An agent's own place for it: _meta.quota.token_count. */
function fromQuota(meta: unknown): Usage | undefined {
  const quota = isObject(meta) ? meta["quota"] : undefined;
  const tokens = isObject(quota) ? quota["token_count"] : undefined;
  if (!isObject(tokens)) return undefined;
  const input = count(tokens["input_tokens"]);
  const output = count(tokens["output_tokens"]);
  if (input + output === 0) return undefined;
  return create(UsageSchema, {
    inputTokens: BigInt(input),
    outputTokens: BigInt(output),
    source: UsageSource.REPORTED,
  });
}

/** A count that an agent sent: untrusted. */
function count(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}

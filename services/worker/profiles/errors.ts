// What an agent's failure means. Agents have no codes for most of it, so it is read from their words: the profile's rules first, then
// these, the first that matches. Authentication stands before anything that looks like a server's failure.
import { DrawbridgeError, type Reason } from "../../kit/errors.ts";
import { redact } from "../process/redact.ts";
import type { ErrorRule } from "./profile.ts";

export const commonErrors: readonly ErrorRule[] = [
  {
    reason: "AGENT_UNAUTHENTICATED",
    pattern:
      /AccessDenied|UnauthorizedException|ExpiredToken|InvalidSignatureException|UnrecognizedClientException|\b(?:HTTP|status)(?: code)?:? 40[13]\b|not logged in|(?:session|login|token) (?:has )?expired|auth(?:entication)? required|re-?authenticate|bearer token[^\n]*invalid|invalid (?:api )?key|please (?:log ?in|sign ?in)/i,
  },
  {
    reason: "AGENT_USAGE_LIMIT",
    pattern:
      /usage limit|monthly limit|credit limit|out of credits|quota (?:has been )?exceeded|insufficient_quota|limit for (?:this|your) (?:month|plan)/i,
  },
  {
    reason: "AGENT_RATE_LIMITED",
    pattern:
      /Throttl|TooManyRequests|ServiceQuotaExceeded|rate.?limit|too many requests|\b(?:HTTP|status)(?: code)?:? 429\b/i,
  },
  {
    reason: "CONTEXT_LENGTH_EXCEEDED",
    pattern:
      /context.?(?:length|window)[^\n]*(?:exceed|overflow|too)|prompt is too long|maximum context|input is too long|ContextWindowOverflow/i,
  },
];

/** ACP's own code for "log in first". */
const authenticationRequired = -32000;

export interface AgentFailure {
  /** JSON-RPC's code, where there was an answer. */
  readonly code?: number;
  /** What the agent said: message, data, standard error. */
  readonly text: string;
}

/** undefined: nothing that is known. */
export function classifyFailure({ code, text }: AgentFailure, rules: readonly ErrorRule[]): Reason | undefined {
  if (code === authenticationRequired) return "AGENT_UNAUTHENTICATED";
  return [...rules, ...commonErrors].find(({ pattern }) => pattern.test(text))?.reason;
}

/** How long the provider asks to wait, in ms, where it says so. */
export function retryAfterMs(text: string): number | undefined {
  const match =
    /(?:retry|try again|wait)[^\n\d]{0,24}(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?)\b/i.exec(
      text,
    );
  if (!match) return undefined;
  const unit = match[2] ?? "s";
  const factor =
    unit.startsWith("mi") && !unit.startsWith("min") ? 1 : unit === "ms" ? 1 : unit.startsWith("m") ? 60_000 : 1_000;
  return Math.round(Number(match[1]) * factor);
}

const quoteCharsMax = 300;

const advice: Partial<Record<Reason, string>> = {
  AGENT_UNAUTHENTICATED: "The account's provider refused its credential; log in again or correct it",
  AGENT_USAGE_LIMIT: "The account's plan is used up",
  AGENT_RATE_LIMITED: "The account's provider asks to slow down",
  CONTEXT_LENGTH_EXCEEDED: "The prompt does not fit the model's context; shorten it",
};

/** The error for an agent's answer. */
export function agentError(
  failure: AgentFailure,
  rules: readonly ErrorRule[],
  secrets: readonly string[],
  cause?: unknown,
): DrawbridgeError {
  const reason = classifyFailure(failure, rules) ?? "AGENT_ERROR";
  const said = quote(failure.text, secrets);
  const lead = advice[reason] ?? "The agent answered with an error";
  const wait =
    reason === "AGENT_RATE_LIMITED" || reason === "AGENT_USAGE_LIMIT" ? retryAfterMs(failure.text) : undefined;
  return new DrawbridgeError(reason, said ? `${lead}: ${said}` : `${lead}.`, {
    cause,
    ...(wait === undefined ? {} : { retryAfterMs: wait }),
  });
}

/** The beginning of what an agent said, on one line and without secrets. */
export function quote(text: string, secrets: readonly string[]): string {
  const line = redact(text, secrets).replaceAll(/\s+/g, " ").trim();
  return line.length > quoteCharsMax ? `${line.slice(0, quoteCharsMax)}…` : line;
}

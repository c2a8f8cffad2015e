// What went wrong with an agent, from its answers, its standard error and its end.
import { RequestError } from "@agentclientprotocol/sdk/unstable";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { AgentProcess } from "../process/agent-process.ts";
import { agentError, classifyFailure, quote } from "../profiles/errors.ts";
import type { AgentProfile } from "../profiles/profile.ts";

export interface ErrorContext {
  readonly profile: AgentProfile;
  /** Values that must not be shown. */
  readonly secrets: readonly string[];
}

/** Some agents that are not logged in say so and then wait for ever, so what they complain of ends the wait. */
export async function withComplaints<T>(work: Promise<T>, process: AgentProcess, options: ErrorContext): Promise<T> {
  const mark = process.stderrPosition;
  const { promise: complained, reject } = Promise.withResolvers<never>();
  process.onStderr(() => {
    const error = complaintOf(process, options, mark);
    if (error?.reason === "AGENT_UNAUTHENTICATED") reject(error);
  });
  try {
    return await Promise.race([work, complained]);
  } finally {
    process.onStderr(() => {});
  }
}

/** What standard error since the mark says about a failure; undefined: nothing that is known. */
export function complaintOf(process: AgentProcess, options: ErrorContext, mark: number): DrawbridgeError | undefined {
  const text = process.stderr(mark);
  if (!classifyFailure({ text }, options.profile.errors)) return undefined;
  return agentError({ text }, options.profile.errors, options.secrets);
}

/** For a process that ended. `how`: in words. */
export function crash(how: string, process: AgentProcess, options: ErrorContext): DrawbridgeError {
  const text = process.stderr();
  const reason = classifyFailure({ text }, options.profile.errors);
  if (reason === "AGENT_UNAUTHENTICATED") return agentError({ text }, options.profile.errors, options.secrets);
  const said = quote(text.slice(-1_000), options.secrets);
  return new DrawbridgeError("AGENT_CRASHED", `The agent process ${how}${said ? `. It said: ${said}` : "."}`);
}

/** For a request that the agent failed. `since`: a mark in its standard error, which may explain more. */
export function asAgentError(
  error: unknown,
  process: AgentProcess,
  options: ErrorContext,
  since: number,
): DrawbridgeError {
  if (error instanceof DrawbridgeError) return error;
  if (!(error instanceof RequestError)) {
    const text = error instanceof Error ? error.message : String(error);
    return new DrawbridgeError(
      "AGENT_PROTOCOL",
      `The agent's answer cannot be understood: ${quote(text, options.secrets)}`,
      { cause: error },
    );
  }
  const data = error.data === undefined ? "" : typeof error.data === "string" ? error.data : JSON.stringify(error.data);
  const failure = { code: error.code, text: `${error.message} ${data}`.trim() };
  if (classifyFailure(failure, options.profile.errors)) {
    return agentError(failure, options.profile.errors, options.secrets, error);
  }
  return complaintOf(process, options, since) ?? agentError(failure, options.profile.errors, options.secrets, error);
}

/** For a wait that was too long. */
export function late(what: string, ms: number): DrawbridgeError {
  return new DrawbridgeError("DEADLINE_EXCEEDED", `The agent took longer than ${ms / 1_000} s to ${what}.`);
}

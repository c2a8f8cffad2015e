// What Drawbridge knows about one kind of agent: data, and a few small functions.
import type { EnvValue } from "#gen/drawbridge/v1/account";
import type { Reason } from "../../kit/errors.ts";
import type { AccountFolders, Environment } from "../process/environment.ts";
import type { Frame } from "../protocol/framing.ts";

export interface StartContext {
  readonly folders: AccountFolders;
  /** The worker's own environment. */
  readonly host: Environment;
  /** The agent's name of the model, for profiles whose processes have one model each. */
  readonly model: string;
}

/** How an error of an agent reads, and what it means. */
export interface ErrorRule {
  readonly pattern: RegExp;
  readonly reason: Reason;
}

/** The name of the MCP server that offers a request's tools to an agent; profiles permit its tools, and no others, by it. */
export const toolServerName = "drawbridge";

/** How an agent takes the tools of a request, which it is offered as an MCP server in session/new. */
export interface ToolSupport {
  /** Why a prompt with tools is refused, for an account with this environment; undefined: it is taken. */
  refusal?(environment: Environment): string | undefined;
  /** Variables that make the agent show these tools to its model, and wait for their results. */
  readonly environment: Readonly<Record<string, string>>;
  /** How long a call may wait for its result, in ms. */
  readonly parkMsMax: number;
  /** How often the agent is told that a call goes on, in ms. */
  readonly progressMs: number;
}

/** What every agent was seen to bear. */
export const commonTools: ToolSupport = { environment: {}, parkMsMax: 110_000, progressMs: 5_000 };

export interface AgentProfile {
  readonly name: string;
  /** The command to run. Writes what the agent reads at its start. */
  command(context: StartContext): Promise<readonly string[]>;
  /** Variables beyond the common ones. */
  environment(context: StartContext): Readonly<Record<string, string>>;
  /** The same, from the configuration: values and references. */
  readonly values: Readonly<Record<string, EnvValue>>;
  /** Whether a process has one model, chosen when it starts. Else a session's model is chosen, where the agent offers it. */
  readonly modelAtStart: boolean;
  /** Turns after which a process is replaced, if fewer than the worker's setting. */
  readonly turnsMax?: number;
  /** A request that makes the agent forget a session, where it does not advertise session/close. */
  readonly endSession?: string;
  readonly tools: ToolSupport;
  /** Looked through before the common rules. */
  readonly errors: readonly ErrorRule[];
  /** Why a process that sent this notification must not be used. */
  refuses?(method: string, params: Frame): string | undefined;
  /** Why a session that was opened with this answer must not be used. */
  refusesSession?(response: Frame): string | undefined;
  /** What a notification says of a failure of the provider. It explains a turn that fails or stays empty. */
  complains?(method: string, params: Frame): string | undefined;
  /** Thousandths of a credit that a notification reports for the turn. */
  millicredits?(method: string, params: Frame): number | undefined;
  /** How long to wait for that report after the turn's end, in ms. */
  readonly millicreditsGraceMs?: number;
}

// What Drawbridge knows about one kind of agent: data, and a few small functions.
import type { EnvValue } from "#gen/drawbridge/v1/account";
import type { Reason } from "../../kit/errors.ts";
import type { AccountFolders, Environment } from "../process/environment.ts";
import type { Frame } from "../protocol/framing.ts";

export interface StartContext {
  readonly folders: AccountFolders;
  /** The worker's own environment. */
  readonly host: Environment;
  /** What the configuration gives the agent, references resolved. */
  readonly values: Environment;
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
  readonly refusal?: (environment: Environment) => string | undefined;
  /** Variables that make the agent show these tools to its model, and wait for their results. */
  readonly environment: Readonly<Record<string, string>>;
  /** How long a call may wait for its result, in ms. */
  readonly parkMsMax: number;
  /** How often the agent is told that a call goes on, in ms. */
  readonly progressMs: number;
}

/** What every agent was seen to bear. */
export const commonTools: ToolSupport = { environment: {}, parkMsMax: 110_000, progressMs: 5_000 };

/** When a process is replaced, where that is sooner than the worker's settings say: it is known to grow. */
export interface Recycling {
  readonly turnsMax?: number;
  readonly ageMsMax?: number;
  /** Resident memory of the process and all that it started, in bytes. */
  readonly memoryBytesMax?: number;
}

/** A command that says whether an account can be used, run before its first process and after a refused login. */
export interface Canary {
  readonly command: readonly string[];
  readonly timeoutMs: number;
  /** Why the account cannot be used; undefined: it can, or the command does not know. */
  readonly verdict: (result: CanaryResult) => string | undefined;
}

export interface CanaryResult {
  /** It was ended because it took longer than `timeoutMs`. */
  readonly late: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** The mode that sessions run in. */
export interface SessionMode {
  readonly id: string;
  /** Whether a session in another mode must not be used. */
  readonly required: boolean;
}

/** What instructs an agent whose own instructions are for programming. */
export const neutralInstructions =
  "You answer requests of an application. Follow the instructions in the message. You have no tools but those of the application.";

export interface AgentProfile {
  readonly name: string;
  /** The command to run. */
  readonly command: (context: StartContext) => Promise<readonly string[]>;
  /** Writes the files that the agent reads at its start. */
  readonly prepare?: (context: StartContext) => Promise<void>;
  /** Variables beyond the common ones. Those of the configuration come after them. */
  readonly environment: (context: StartContext) => Readonly<Record<string, string>>;
  /** Variables that hold settings as JSON, with those of the account beneath ours. They come last. */
  readonly mergedEnvironment?: (context: StartContext) => Readonly<Record<string, string>>;
  /** The same, from the configuration: values and references. */
  readonly values: Readonly<Record<string, EnvValue>>;
  readonly canary?: (context: StartContext) => Promise<Canary>;
  /** Which of the offered methods to authenticate with, for an agent with this environment; undefined: none is needed. */
  readonly authenticate?: (methods: readonly string[], environment: Environment) => string | undefined;
  /** Whether a process has one model, chosen when it starts. Else a session's model is chosen, where the agent offers it. */
  readonly modelAtStart: boolean;
  /** Whether a session that has not got its model must not be used. Else it runs with the agent's own. */
  readonly modelRequired?: boolean;
  /** Sent along with session/new. */
  readonly sessionMeta?: Frame;
  readonly mode?: SessionMode;
  readonly recycling?: Recycling;
  /** A request that makes the agent forget a session, where it does not advertise session/close. */
  readonly endSession?: string;
  readonly tools: ToolSupport;
  /** Looked through before the common rules. */
  readonly errors: readonly ErrorRule[];
  /** What a whole answer without usage looks like when it is a failure in disguise. */
  readonly proseErrors?: readonly ErrorRule[];
  /** Why a process that sent this notification must not be used. */
  readonly refuses?: (method: string, params: Frame) => string | undefined;
  /** What a notification says of a failure of the provider. It explains a turn that fails or stays empty. */
  readonly complains?: (method: string, params: Frame) => string | undefined;
  /** The tokens that an update of the session reports for one call of the model, in the words of ACP's usage. */
  readonly usageIn?: (update: Frame) => Frame | undefined;
  /** The share of the context, from 0 to 1, that a notification says is in use. */
  readonly contextShare?: (method: string, params: Frame) => number | undefined;
  /** The context's size in tokens, for a model by the agent's name. */
  readonly contextTokens?: (model: string) => number;
  /** Thousandths of a credit that a notification reports for the turn. */
  readonly millicredits?: (method: string, params: Frame) => number | undefined;
  /** How long to wait for that report after the turn's end, in ms. */
  readonly millicreditsGraceMs?: number;
  /** Credits for each dollar of cost that the agent reports. Absent: a cost says nothing of credits. */
  readonly creditsPerDollar?: number;
}

/** Settings as JSON: the account's own, which are a JSON object, with ours over them. */
export function mergedJson(own: string | undefined, ours: object): string {
  return JSON.stringify(own === undefined ? ours : { ...(JSON.parse(own) as object), ...ours });
}

// One prompt on one session: what the agent says goes out, deadlines are kept, and whatever ends the turn early ends it at the agent too.
import { type ContentBlock, methods, RequestError } from "@agentclientprotocol/sdk/unstable";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import { isObject } from "../protocol/acp-connection.ts";
import type { Agent, AgentSession } from "../protocol/agent.ts";
import type { WorkerSettings } from "../config.ts";
import { settlesWithin } from "../protocol/deadline.ts";
import type { Frame } from "../protocol/framing.ts";
import type { Cut, TurnOutput } from "./turn-output.ts";
import { watchActivity } from "./turn-deadlines.ts";
import { createProseErrors, type ProseErrors } from "./prose-errors.ts";
import { createTurnReports, type TurnReports } from "./turn-reports.ts";

/** Why a turn ended. */
export type TurnEnd =
  /** The agent finished it. */
  | { readonly kind: "finished"; readonly stopReason: string }
  /** A limit of the request did. */
  | { readonly kind: "cut"; readonly cut: Cut }
  /** Somebody outside did. */
  | { readonly kind: "stopped" }
  /** It failed, or a deadline passed. */
  | { readonly kind: "failed"; readonly error: DrawbridgeError };

export interface TurnResult {
  readonly end: TurnEnd;
  /** What session/prompt answered, if it did. */
  readonly answer: Frame | undefined;
  /** What the agent says that the account paid, in thousandths of a credit. */
  readonly millicredits: number | undefined;
  /** The tokens that it reported while it worked, in the words of ACP's usage. */
  readonly usage?: Frame | undefined;
  /** The tokens in its context, by the fill that it reported. */
  readonly contextTokens?: number | undefined;
}

export interface TurnOptions {
  readonly agent: Agent;
  readonly session: AgentSession;
  /** The model, by the agent's name. */
  readonly model: string;
  readonly blocks: readonly ContentBlock[];
  readonly output: TurnOutput;
  /** Ends the turn from outside. */
  readonly signal: AbortSignal;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  /** Told when the agent has got the prompt. */
  readonly onStarted: () => void;
}

/**
 * Runs the turn to its end, the agent's part included. Never throws: a failure is a result. An agent that lost the session gets a new one,
 * once, where nothing was said in it and nothing has gone out.
 */
export async function runTurn(options: TurnOptions): Promise<TurnResult> {
  const { agent, session, output, signal, model } = options;
  const fresh = !session.used;
  session.used = true;
  const { lostSession, ...result } = await runOnce(options);
  if (!lostSession || !fresh || output.content || signal.aborted) return result;
  try {
    await agent.renewSession(session, model);
  } catch (error) {
    return { ...result, end: { kind: "failed", error: asDrawbridgeError(error, "AGENT_ERROR") } };
  }
  return await runOnce(options);
}

async function runOnce(options: TurnOptions): Promise<TurnResult & { readonly lostSession: boolean }> {
  const { agent, session, output, signal, model } = options;
  const { promise: early, resolve: endEarly } = Promise.withResolvers<TurnEnd>();
  const mark = agent.stderrPosition;
  const reports = createTurnReports(agent.profile, session, model);
  const prose = createProseErrors(agent.profile.proseErrors);
  using activity = watchActivity(options, (error) => endEarly({ kind: "failed", error }));
  using _ = agent.connection.listen(session.id, {
    update(update) {
      reports.update(update);
      const cut = takeUpdate(update, output, prose, activity);
      if (cut) endEarly({ kind: "cut", cut });
    },
    vendor(method, params) {
      activity.seen();
      reports.vendor(method, params);
    },
  });
  agent.onOversize(() => endEarly({ kind: "failed", error: oversize(options.config) }));
  const onAbort = () => endEarly({ kind: "stopped" });
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });

  let answer: Frame | undefined;
  let answered = false;
  let lostSession = false;
  const finished = ask(options).then(
    (response): TurnEnd => {
      answered = true;
      answer = isObject(response) ? response : undefined;
      return finish(answer, options, { mark, reports, prose });
    },
    (error: unknown): TurnEnd => {
      answered = true;
      lostSession = error instanceof RequestError && error.code === sessionNotFound;
      return { kind: "failed", error: agent.errorOf(error, mark) };
    },
  );
  const end = await Promise.race([early, finished]);
  signal.removeEventListener("abort", onAbort);
  activity.stop();
  if (!answered) await endAtAgent(options, finished);
  agent.onOversize(() => {});
  if (reports.millicredits === undefined && answer && agent.profile.millicreditsGraceMs && !agent.ended.aborted) {
    const arrival = new Promise<void>((resolve) => reports.onMillicredits(resolve));
    await settlesWithin(arrival, agent.profile.millicreditsGraceMs, options.clock);
  }
  const { millicredits, usage, contextTokens } = reports;
  return { end, answer, millicredits, usage, contextTokens, lostSession };
}

async function ask({ agent, session, model, blocks, onStarted }: TurnOptions): Promise<unknown> {
  await agent.useModel(session, model);
  const answer = agent.connection.request(methods.agent.session.prompt, { sessionId: session.id, prompt: [...blocks] });
  onStarted();
  return await answer;
}

/** ACP's own code for a session that the agent does not know. */
const sessionNotFound = -32002;

/** Kinds that an agent sends without working on the prompt. */
const idleKinds = new Set([
  "available_commands_update",
  "current_mode_update",
  "config_option_update",
  "session_info_update",
]);

function takeUpdate(
  update: Frame,
  output: TurnOutput,
  prose: ProseErrors,
  activity: { seen(): void; started(): void },
): Cut | undefined {
  const kind = update["sessionUpdate"];
  if (typeof kind === "string" && idleKinds.has(kind)) activity.seen();
  else activity.started();
  const content = update["content"];
  if (!isObject(content) || content["type"] !== "text" || typeof content["text"] !== "string") return undefined;
  if (kind === "agent_message_chunk") return output.push("text", prose.push(content["text"]));
  if (kind === "agent_thought_chunk") return output.push("reasoning", content["text"]);
  return undefined;
}

/** What else is known of a turn at its end. */
interface Heard {
  /** In the agent's standard error, where the turn began. */
  readonly mark: number;
  readonly reports: TurnReports;
  readonly prose: ProseErrors;
}

const internalError = -32603;

/** The agent says that it is done. An empty answer without usage is how some agents report a failure of their provider. */
function finish(answer: Frame | undefined, { agent, output }: TurnOptions, { mark, reports, prose }: Heard): TurnEnd {
  if (typeof answer?.["stopReason"] !== "string") {
    return {
      kind: "failed",
      error: new DrawbridgeError("AGENT_PROTOCOL", "The agent ended its turn without saying why."),
    };
  }
  const reported = isObject(answer["usage"]) || reports.usage !== undefined;
  if (prose.held !== "" && !reported) {
    return { kind: "failed", error: agent.errorOf(new RequestError(internalError, prose.held), mark) };
  }
  const cut = output.push("text", prose.held) ?? output.flush();
  if (cut) return { kind: "cut", cut };
  const stopReason = answer["stopReason"];
  if (stopReason === "end_turn" && !output.content && !reported) {
    const error =
      agent.complaintSince(mark) ?? new DrawbridgeError("AGENT_ERROR", "The agent ended its turn without an answer.");
    return { kind: "failed", error };
  }
  return { kind: "finished", stopReason };
}

/**
 * The agent is told to stop, and killed if it does not. Nothing that it says meanwhile goes out, but it is read: it may wait for that
 * before it hears us. The kill is not waited for here; the pool does.
 */
async function endAtAgent(options: TurnOptions, prompt: Promise<unknown>): Promise<void> {
  const { agent, session, output, config, clock } = options;
  output.mute();
  agent.connection.resume();
  if (agent.ended.aborted) return;
  const stopped = settlesWithin(prompt, config.cancel_grace, clock);
  agent.connection.notify(methods.agent.session.cancel, { sessionId: session.id }).catch(() => {
    // The connection closed, which settles the prompt too.
  });
  if (!(await stopped)) void agent.stop().catch(() => {});
}

function oversize({ line_limit }: WorkerSettings): DrawbridgeError {
  return new DrawbridgeError("AGENT_PROTOCOL", `The agent wrote a message of more than ${line_limit} bytes.`);
}

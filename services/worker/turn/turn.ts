// One prompt on one session: what the agent says goes out, deadlines are kept, and whatever ends the turn early ends it at the agent too. A
// turn that calls the client's tools has several parts: each ends with calls, and the next begins with their results.
import { type ContentBlock, methods, RequestError } from "@agentclientprotocol/sdk/unstable";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import { isObject } from "../protocol/acp-connection.ts";
import type { Agent, AgentSession } from "../protocol/agent.ts";
import type { WorkerSettings } from "../config.ts";
import { settlesWithin } from "../protocol/deadline.ts";
import type { Frame } from "../protocol/framing.ts";
import { createAnnouncedCalls } from "../tools/announced-calls.ts";
import type { ToolCallInHand, ToolDesk } from "../tools/tool-desk.ts";
import { type CallRules, gatherCalls } from "./call-gathering.ts";
import { createProseErrors, type ProseErrors } from "./prose-errors.ts";
import { watchActivity } from "./turn-deadlines.ts";
import type { Cut, TurnOutput } from "./turn-output.ts";
import { createTurnReports, type TurnReports } from "./turn-reports.ts";

/** Why a part of a turn ended. */
export type TurnEnd =
  /** The agent finished the turn. */
  | { readonly kind: "finished"; readonly stopReason: string }
  /** The client has to run these tools. The turn goes on. */
  | { readonly kind: "calls"; readonly calls: readonly ToolCallInHand[] }
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
  /** The agent does not know the session any more. */
  readonly lostSession?: boolean;
}

export interface TurnOptions {
  readonly agent: Agent;
  readonly session: AgentSession;
  /** Where calls of the client's tools arrive. Absent: there are none. */
  readonly desk?: ToolDesk | undefined;
  /** The model, by the agent's name. */
  readonly model: string;
  readonly blocks: readonly ContentBlock[];
  readonly config: WorkerSettings;
  readonly clock: Clock;
}

export interface TurnPart {
  readonly output: TurnOutput;
  /** Ends the turn from outside. */
  readonly signal: AbortSignal;
  /** Which calls may end the part. */
  readonly calls: CallRules;
  /** Told when the agent has got the prompt, or goes on with it. */
  readonly onStarted: () => void;
}

export interface Turn {
  /**
   * Runs the turn to its end, the agent's part included, or to the next calls; then it may be run on. Never throws: a failure is a result. An
   * agent that lost the session gets a new one, once, where nothing was said in it and nothing has gone out.
   */
  run(part: TurnPart): Promise<TurnResult>;
  /** Ends, at the agent too, a turn that is not run on. */
  abandon(): Promise<void>;
}

/** How the agent ended a turn. */
interface Answered {
  readonly response: unknown;
  readonly error: DrawbridgeError | undefined;
  readonly lostSession: boolean;
}

/** What is heard of a turn. */
interface Heard {
  /** In the agent's standard error, where the turn began. */
  readonly mark: number;
  readonly reports: TurnReports;
  prose: ProseErrors;
}

export function startTurn(options: TurnOptions): Turn {
  const { agent, session, desk, model, clock } = options;
  const { profile } = agent;
  const heard: Heard = {
    mark: agent.stderrPosition,
    reports: createTurnReports(profile, session, model),
    prose: createProseErrors(profile.proseErrors),
  };
  const announced = desk && createAnnouncedCalls();
  /** What came after the calls that ended a part; little, since the agent is not read until the next one begins. */
  const early: Frame[] = [];
  const wait = (update: Frame) => void early.push(update);
  let take = wait;
  let onVendor = () => {};
  let asked: Promise<Answered> | undefined;
  let answered: Answered | undefined;
  let listening = listen();

  function listen(): Disposable {
    return agent.connection.listen(session.id, {
      update(update) {
        heard.reports.update(update);
        announced?.hear(update);
        take(update);
      },
      vendor(method, params) {
        onVendor();
        heard.reports.vendor(method, params);
      },
      permits: (toolCall) => desk?.permits(announced?.complete(toolCall) ?? toolCall) === true,
    });
  }

  async function ask(onStarted: () => void): Promise<Answered> {
    try {
      await agent.useModel(session, model);
      const response = agent.connection.request(methods.agent.session.prompt, {
        sessionId: session.id,
        prompt: [...options.blocks],
      });
      onStarted();
      return { response: await response, error: undefined, lostSession: false };
    } catch (error) {
      const lostSession = error instanceof RequestError && error.code === sessionNotFound;
      return { response: undefined, error: agent.errorOf(error, heard.mark), lostSession };
    }
  }

  async function askAnyway({ output, signal, onStarted }: TurnPart): Promise<Answered> {
    const fresh = !session.used;
    session.used = true;
    const first = await ask(onStarted);
    if (!first.lostSession || !fresh || output.content || signal.aborted) return first;
    try {
      listening[Symbol.dispose]();
      await agent.renewSession(session, model);
    } catch (error) {
      return { ...first, error: asDrawbridgeError(error, "AGENT_ERROR") };
    }
    listening = listen();
    return await ask(onStarted);
  }

  function begin(part: TurnPart): Promise<Answered> {
    if (asked) {
      part.onStarted();
      return asked;
    }
    asked = askAnyway(part);
    void asked.then((outcome) => (answered = outcome));
    return asked;
  }

  async function end(): Promise<void> {
    if (asked && !answered) await endAtAgent(options, asked);
    agent.onOversize(() => {});
    const { millicreditsGraceMs } = profile;
    const awaited = heard.reports.millicredits === undefined && isObject(answered?.response);
    if (awaited && millicreditsGraceMs && !agent.ended.aborted) {
      const arrival = new Promise<void>((resolve) => heard.reports.onMillicredits(resolve));
      await settlesWithin(arrival, millicreditsGraceMs, clock);
    }
    listening[Symbol.dispose]();
  }

  /** Until the agent finished, calls, or is cut short. */
  async function untilEnd(part: TurnPart): Promise<TurnEnd> {
    const { output, signal } = part;
    const { promise: cutShort, resolve: endEarly } = Promise.withResolvers<TurnEnd>();
    using activity = watchActivity(options, (error) => endEarly({ kind: "failed", error }));
    using _gathering = gatherCalls(options, part.calls, (calls) => endEarly({ kind: "calls", calls }));
    take = (update) => {
      const cut = takeUpdate(update, output, heard.prose, activity);
      if (cut) endEarly({ kind: "cut", cut });
    };
    onVendor = () => activity.seen();
    agent.onOversize(() => endEarly({ kind: "failed", error: oversize(options.config) }));
    const onAbort = () => endEarly({ kind: "stopped" });
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    agent.connection.resume();
    for (const update of early.splice(0)) take(update);
    const finished = begin(part).then((outcome) => finish(outcome, part, agent, heard));
    const ended = await Promise.race([cutShort, finished]);
    signal.removeEventListener("abort", onAbort);
    onVendor = () => {};
    return ended.kind === "calls" ? withRest(ended, output, heard) : ended;
  }

  return {
    async run(part) {
      const ended = await untilEnd(part);
      if (ended.kind === "calls") {
        agent.connection.pause();
        take = wait;
        return { end: ended, answer: undefined, millicredits: undefined };
      }
      // What an agent says before it heard that it should stop is counted; what comes after its own end is nobody's.
      if (answered) take = () => {};
      else part.output.mute();
      await end();
      const { millicredits, usage, contextTokens } = heard.reports;
      const answer = isObject(answered?.response) ? answered.response : undefined;
      const lostSession = answered?.lostSession === true;
      return { end: ended, answer, millicredits, usage, contextTokens, lostSession };
    },
    async abandon() {
      take = () => {};
      await end();
    },
  };
}

/** ACP's own code for a session that the agent does not know. */
const sessionNotFound = -32002;

/** What was held back goes out before the calls do. */
function withRest(ended: TurnEnd, output: TurnOutput, heard: Heard): TurnEnd {
  const cut = output.push("text", heard.prose.held) ?? output.flush();
  heard.prose = createProseErrors();
  return cut ? { kind: "cut", cut } : ended;
}

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

const internalError = -32603;

/** The agent says that it is done. An empty answer without usage is how some agents report a failure of their provider. */
function finish({ response, error }: Answered, part: TurnPart, agent: Agent, { mark, reports, prose }: Heard): TurnEnd {
  if (error) return { kind: "failed", error };
  const { output, calls } = part;
  const answer = isObject(response) ? response : {};
  const stopReason = answer["stopReason"];
  if (typeof stopReason !== "string") return failed("AGENT_PROTOCOL", "The agent ended its turn without saying why.");
  const reported = isObject(answer["usage"]) || reports.usage !== undefined;
  if (prose.held !== "" && !reported)
    return { kind: "failed", error: agent.errorOf(new RequestError(internalError, prose.held), mark) };
  const cut = output.push("text", prose.held) ?? output.flush();
  if (cut) return { kind: "cut", cut };
  if (stopReason === "end_turn" && calls.required)
    return failed("AGENT_ERROR", "The agent called no tool, though tool_choice requires one.");
  if (stopReason === "end_turn" && !output.content && output.collected === "" && !reported) {
    const complaint = agent.complaintSince(mark);
    return complaint
      ? { kind: "failed", error: complaint }
      : failed("AGENT_ERROR", "The agent ended its turn without an answer.");
  }
  return { kind: "finished", stopReason };
}

function failed(reason: "AGENT_ERROR" | "AGENT_PROTOCOL", message: string): TurnEnd {
  return { kind: "failed", error: new DrawbridgeError(reason, message) };
}

/**
 * The agent is told to stop, and killed if it does not. Nothing that it says meanwhile goes out, but it is read: it may wait for that
 * before it hears us. The kill is not waited for here; the pool does.
 */
async function endAtAgent({ agent, session, config, clock }: TurnOptions, prompt: Promise<unknown>): Promise<void> {
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

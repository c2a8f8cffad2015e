// How an attempt is carried out: where its turn runs, what the agent is told, and what is kept afterwards.
import type { ContentBlock } from "@agentclientprotocol/sdk/unstable";
import { create } from "@bufbuild/protobuf";
import { StartedSchema } from "#gen/drawbridge/v1/prompt";
import { newMessages } from "../../kit/conversation-key.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { countTokens } from "../../kit/tokens.ts";
import { type Seat, takeSeat } from "../conversations/seat.ts";
import { correction } from "../formats/answer-format.ts";
import type { Place, Ticket } from "../pool/pool.ts";
import type { ToolCallInHand, ToolResult } from "../tools/tool-desk.ts";
import { choiceInstruction } from "../tools/tool-rules.ts";
import type { Entrance, Execution, Running } from "./attempt.ts";
import { failureVerdict, type StopCause, verdictOf } from "./outcome.ts";
import { instructionBlocks, promptBlocks, promptText } from "./prompt-text.ts";
import { startTurn, type Turn, type TurnPart, type TurnResult } from "./turn.ts";
import { addMetered, type Metered, nothingMetered } from "./usage.ts";

/** A turn in its seat. */
interface Work {
  readonly turn: Turn;
  readonly seat: Seat;
  readonly billed: Metered;
}

/** Throws where no agent got the prompt. */
export async function carryOut(running: Running): Promise<Execution> {
  const { entrance } = running;
  if (entrance.kind === "resumed") return await run(running, resume(running, entrance));
  const place = await placeFor(running, entrance.ticket);
  const work = await begin(running, place, running.conversation);
  return await run(running, work, place);
}

/** `place`: where the turn may be begun again, if the agent does not know the session that was kept. */
async function run(running: Running, work: Work, place?: Place): Promise<Execution> {
  running.agent = work.seat.agent;
  const result = await work.turn.run(partOf(running));
  if (place && result.lostSession && work.seat.continued && !running.output.content && !running.stopped.aborted) {
    await work.seat.discard();
    running.inputTokens = 0;
    return await run(running, await begin(running, place, ""));
  }
  if (result.end.kind === "calls") return pauseForCalls(running, work, result, result.end.calls);
  return await finish(running, work, result);
}

function resume(running: Running, { parked, results }: Extract<Entrance, { kind: "resumed" }>): Work {
  const { turn, seat, calls, billed } = parked;
  const reminder = choiceInstruction(running.rules);
  const texts: string[] = [];
  for (const [index, call] of calls.entries()) {
    const result = results.get(call.id);
    if (!result) continue;
    const isLast = index === calls.length - 1;
    const told = reminder !== undefined && isLast ? withText(result, reminder) : result;
    call.answer(told);
    texts.push(...told.content.map((each) => (each.type === "text" ? each.text : "")));
  }
  running.inputTokens = countTokens(texts.join("\n"));
  return { turn, seat, billed };
}

function withText(result: ToolResult, text: string): ToolResult {
  return { ...result, content: [...result.content, { type: "text", text }] };
}

async function begin(running: Running, place: Place, conversation: string): Promise<Work> {
  const { config, clock, model } = running;
  const seat = await seatFor(running, place, conversation);
  try {
    const blocks = blocksFor(running, seat);
    // The caller counted all messages; a session that knows most of them gets only the rest.
    if (seat.continued || running.inputTokens === 0) running.inputTokens = countTokens(promptText(blocks));
    const { agent, session, desk } = seat;
    return { turn: startTurn({ agent, session, desk, model, blocks, config, clock }), seat, billed: nothingMetered };
  } catch (error) {
    seat.leave({ completed: false });
    throw error;
  }
}

async function placeFor({ format }: Running, ticket: Ticket): Promise<Place> {
  // It is waited for below, and may fail before.
  ticket.place.catch(() => {});
  try {
    await format?.ready();
  } catch (error) {
    ticket.place.then((place) => place.release({ completed: false, used: false, close: [] })).catch(() => {});
    ticket.leave(error);
    throw error;
  }
  return await ticket.place;
}

/** A session may take long to open; a caller who left meanwhile is not kept waiting for it. */
async function seatFor(running: Running, place: Place, conversation: string): Promise<Seat> {
  const { stopped, request, config, clock, toolServer, model, lane, rules } = running;
  const seat = takeSeat({
    place,
    held: lane.held,
    toolServer,
    conversation,
    model,
    tools: rules.tools,
    instructions: instructionBlocks(request.prompt?.messages ?? []),
    listTimeoutMs: config.tool_list_timeout,
    clock,
  });
  const { promise: left, reject } = Promise.withResolvers<never>();
  const onLeft = () => reject(new DrawbridgeError("CANCELLED", "The caller left."));
  stopped.addEventListener("abort", onLeft, { once: true });
  try {
    return await Promise.race([seat, left]);
  } catch (error) {
    seat.then((late) => late.leave({ completed: false })).catch(() => {});
    throw error;
  } finally {
    stopped.removeEventListener("abort", onLeft);
  }
}

function blocksFor({ request, format, rules }: Running, { agent, continued, instructed }: Seat): ContentBlock[] {
  const messages = request.prompt?.messages ?? [];
  const demands = [format?.instruction, choiceInstruction(rules)].filter((text) => text !== undefined);
  return promptBlocks(continued ? newMessages(messages) : messages, {
    takesImages: agent.takesImages,
    leaveOutInstructions: instructed && !continued,
    demands,
  });
}

function partOf(running: Running): TurnPart {
  const { output, stopped, rules, request, workerId, batcher } = running;
  // Only the call counts where one has to come, and an answer without one must not have begun.
  if (rules.required) output.mute();
  return {
    output,
    signal: stopped,
    calls: rules,
    onStarted() {
      const { accountId, attemptId } = request;
      const inputTokensEstimate = BigInt(running.inputTokens);
      const value = create(StartedSchema, { accountId, workerId, attemptId, inputTokensEstimate });
      batcher.add({ case: "started", value });
    },
  };
}

/** The answer is over, with calls for the client; the turn waits for their results, if they can come. */
function pauseForCalls(
  running: Running,
  { turn, seat, billed }: Work,
  result: TurnResult,
  calls: readonly ToolCallInHand[],
): Execution {
  const { output, follower, lane, config } = running;
  if (output.collected !== "") output.release(output.collected);
  for (const [index, call] of calls.entries()) {
    output.call(index, call);
    follower?.toolCall(call);
  }
  running.agent = undefined;
  const { inputTokens } = running;
  const { tokens: outputTokens, reasoningTokens } = output;
  const parked = {
    turn,
    seat,
    calls,
    billed: addMetered(billed, { inputTokens, outputTokens, reasoningTokens }),
  };
  const forMs = Math.min(config.tool_park_timeout, lane.profile.tools.parkMsMax);
  const key = forMs > 0 && config.tools_parked_max > 0 && running.keeps() ? (follower?.key() ?? "") : "";
  if (key !== "") lane.parked.park(key, parked, forMs);
  else lane.parked.end(parked, "Nobody can bring the result.");
  // What the whole turn costs is told at its end.
  const millicredits = lane.profile.millicredits ? 0 : undefined;
  return {
    verdict: verdictOf(result, undefined, true),
    results: [{ ...result, millicredits }],
    billed: nothingMetered,
    conversation: key,
  };
}

async function finish(running: Running, work: Work, first: TurnResult): Promise<Execution> {
  const { seat, billed } = work;
  const results = [first];
  let completed = false;
  let conversation = "";
  try {
    const problem = await settleFormat(running, seat, results);
    const last = results.at(-1) ?? first;
    completed = last.end.kind === "finished" || last.end.kind === "cut";
    const { output, stopped } = running;
    const verdict = problem
      ? failureVerdict(problem, output.content)
      : verdictOf(last, stopped.reason as StopCause | undefined, output.content);
    if (results.length === 1 && isWhole(last) && !problem && running.keeps()) conversation = keyOf(running);
    return { verdict, results, billed, conversation };
  } finally {
    running.agent = undefined;
    seat.leave({ completed, keepAs: conversation });
  }
}

/** The client holds exactly what the session said. */
function isWhole({ end }: TurnResult): boolean {
  return end.kind === "finished" && end.stopReason === "end_turn";
}

function keyOf({ follower, lane }: Running): string {
  return lane.held.enabled ? (follower?.key() ?? "") : "";
}

/** Answers in all that may be tried for one of the right form. */
const formatTriesMax = 2;

/** Lets the collected answer out if it has the form that was asked for; else the agent is told, once. The problem that is left, if any. */
async function settleFormat(running: Running, seat: Seat, results: TurnResult[]): Promise<DrawbridgeError | undefined> {
  const { output, format, config, clock, model } = running;
  if (!format) return undefined;
  for (;;) {
    const last = results.at(-1);
    if (!last || last.end.kind === "failed") return undefined;
    if (!isWhole(last)) {
      // A part of an answer has no form; whoever limited it gets it as it is.
      if (last.end.kind !== "stopped") output.release(output.collected);
      return undefined;
    }
    const checked = await format.check(output.collected);
    if (checked.kind === "valid") {
      output.release(checked.text);
      return undefined;
    }
    if (results.length >= formatTriesMax || running.stopped.aborted)
      return new DrawbridgeError("AGENT_ERROR", `The answer has not the form that was asked for. ${checked.problem}`);
    output.restart();
    const text = correction(checked.problem, format);
    running.inputTokens += countTokens(text);
    const { agent, session, desk } = seat;
    const turn = startTurn({ agent, session, desk, model, blocks: [{ type: "text", text }], config, clock });
    results.push(await turn.run({ ...partOf(running), onStarted() {} }));
  }
}

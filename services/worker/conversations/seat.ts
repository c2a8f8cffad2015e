// Where a turn runs: a process of the pool, and a session in it, for as long as the turn lasts.
import type { ContentBlock } from "@agentclientprotocol/sdk/unstable";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Place } from "../pool/pool.ts";
import type { Agent, AgentSession, SessionOptions } from "../protocol/agent.ts";
import { within } from "../protocol/deadline.ts";
import type { OfferedTool, ToolDesk } from "../tools/tool-desk.ts";
import type { OpenDesk, ToolServer } from "../tools/tool-server.ts";
import type { HeldSessions } from "./held-sessions.ts";
import type { LiveSession } from "./live-session.ts";

export interface Seat {
  readonly agent: Agent;
  readonly session: AgentSession;
  readonly desk: ToolDesk | undefined;
  /** Whether the session knows what was said before. */
  readonly continued: boolean;
  /** Whether the session was given the instructions apart from the prompt. */
  readonly instructed: boolean;
  /** Its prompt waits for its client, and takes no slot meanwhile; or goes on. */
  park(parked: boolean): void;
  /** Closes the session and keeps the process, for another session. */
  discard(): Promise<void>;
  /** Gives the process back, once. `keepAs`: the conversation that the session can be continued for; else it is closed. */
  leave(how: { readonly completed: boolean; readonly keepAs?: string }): void;
}

export interface SeatOptions {
  readonly place: Place;
  readonly held: HeldSessions;
  readonly toolServer: ToolServer;
  /** The conversation that is continued; empty: none. */
  readonly conversation: string;
  /** By the agent's name. */
  readonly model: string;
  readonly tools: readonly OfferedTool[];
  /** For an agent that takes instructions apart from the prompt. */
  readonly instructions: readonly ContentBlock[];
  /** Time for the agent to ask for the tools, in ms. */
  readonly listTimeoutMs: number;
  readonly clock: Clock;
}

/**
 * The session of the conversation if this process holds it; else the ready one, or one with tools and instructions of its own. Throws with
 * the place given back.
 */
export async function takeSeat(options: SeatOptions): Promise<Seat> {
  const { place, held, tools, instructions } = options;
  const { agent } = place;
  const kept = options.conversation === "" ? undefined : held.take(options.conversation, agent);
  if (kept) return createSeat(options, kept, { continued: true, instructed: true });
  const instructed = instructions.length > 0 && agent.takesSystemPrompt;
  if (tools.length === 0 && !instructed) {
    return createSeat(options, { agent, session: place.session }, { continued: false, instructed });
  }
  const systemPrompt = instructed ? { systemPrompt: instructions } : {};
  const live = tools.length > 0 ? await openWithTools(options, systemPrompt) : await open(options, systemPrompt);
  return createSeat(options, live, { continued: false, instructed });
}

type Origin = Pick<Seat, "continued" | "instructed">;

function createSeat({ place, held }: SeatOptions, live: LiveSession, origin: Origin): Seat {
  const { agent, session, desk } = live;
  return {
    ...origin,
    agent,
    session,
    desk,
    park: (parked) => place.park(parked),
    async discard() {
      desk?.[Symbol.dispose]();
      await agent.closeSession(session);
    },
    leave({ completed, keepAs = "" }) {
      agent.connection.resume();
      const keep = keepAs !== "" && !agent.ended.aborted;
      if (keep) held.hold(keepAs, live);
      else desk?.[Symbol.dispose]();
      place.release({ completed, used: session === place.session, close: keep ? [] : [session] });
    },
  };
}

async function open({ place, model }: SeatOptions, begin: SessionOptions, desk?: ToolDesk): Promise<LiveSession> {
  try {
    return { agent: place.agent, session: await place.agent.openSession(model, begin), desk };
  } catch (error) {
    desk?.[Symbol.dispose]();
    place.release({ completed: false, used: false, close: [] });
    throw error;
  }
}

/** The agent has asked for the tools before it gets the prompt, else its model would not know them. */
async function openWithTools(options: SeatOptions, begin: SessionOptions): Promise<LiveSession> {
  const { place, listTimeoutMs, clock } = options;
  const { desk, mcpServer } = await openDesk(options);
  const live = await open(options, { ...begin, mcpServers: [mcpServer] }, desk);
  try {
    await within(Promise.race([desk.listed, ended(place.agent)]), listTimeoutMs, clock, () => unasked(listTimeoutMs));
    return live;
  } catch (error) {
    desk[Symbol.dispose]();
    place.release({ completed: false, used: false, close: [live.session] });
    throw error;
  }
}

async function openDesk({ place, toolServer, tools }: SeatOptions): Promise<OpenDesk> {
  try {
    if (!place.agent.takesTools)
      throw new DrawbridgeError("UNSUPPORTED_CONTENT", "tools: the agent of this model takes none. Use another model.");
    return await toolServer.open(tools, place.agent.profile.tools.progressMs);
  } catch (error) {
    place.release({ completed: false, used: false, close: [] });
    throw error;
  }
}

function ended({ ended: signal }: Agent): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}

function unasked(ms: number): DrawbridgeError {
  return new DrawbridgeError("AGENT_ERROR", `The agent did not ask for the tools within ${ms / 1_000} s.`);
}

// A session of an agent with what belongs to it: the desk where its calls of the client's tools arrive.
import type { Agent, AgentSession } from "../protocol/agent.ts";
import type { ToolDesk } from "../tools/tool-desk.ts";

export interface LiveSession {
  readonly agent: Agent;
  readonly session: AgentSession;
  /** Absent: it has no tools. */
  readonly desk?: ToolDesk | undefined;
}

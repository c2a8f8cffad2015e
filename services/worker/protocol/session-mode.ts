// The mode of a session: what an agent calls its sets of tools and permissions.
import { methods } from "@agentclientprotocol/sdk/unstable";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import { type AcpConnection, isObject, objectsOf } from "./acp-connection.ts";
import type { Frame } from "./framing.ts";

export interface OfferedModes {
  readonly current: string;
  readonly available: readonly string[];
}

/** `opened`: what session/new answered. undefined: the agent has no modes. */
export function offeredModes(opened: Frame): OfferedModes | undefined {
  const modes = opened["modes"];
  if (isObject(modes) && typeof modes["currentModeId"] === "string") {
    return {
      current: modes["currentModeId"],
      available: objectsOf(modes["availableModes"]).map(({ id }) => String(id)),
    };
  }
  const option = objectsOf(opened["configOptions"]).find((each) => each["category"] === "mode");
  if (!option || typeof option["currentValue"] !== "string") return undefined;
  return { current: option["currentValue"], available: objectsOf(option["options"]).map(({ value }) => String(value)) };
}

/** Puts the session into the mode of the profile. AGENT_ERROR where it is required and the agent does not have it. */
export async function enterMode(
  connection: AcpConnection,
  sessionId: string,
  opened: Frame,
  { name, mode }: AgentProfile,
): Promise<void> {
  const offered = offeredModes(opened);
  if (!mode || !offered || offered.current === mode.id) return;
  if (offered.available.includes(mode.id)) {
    await connection.request(methods.agent.session.setMode, { sessionId, modeId: mode.id });
  } else if (mode.required) {
    throw new DrawbridgeError(
      "AGENT_ERROR",
      `${name} runs in the mode "${offered.current}" instead of "${mode.id}", which has no tools.`,
    );
  }
}

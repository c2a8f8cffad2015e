// kiro-cli: one model per process, an agent file without tools, credits in its own notifications, no token counts.
import { constants } from "node:fs";
import { access, mkdir, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { Environment } from "../process/environment.ts";
import type { Frame } from "../protocol/framing.ts";
import { type AgentProfile, commonTools, type StartContext } from "./profile.ts";

/** The launcher does not forward signals, so the real program is preferred where it can be found. */
export const kiroBinaries = ["kiro-cli-chat", "kiro-cli"] as const;

/** The name of the agent file, which kiro-cli calls a mode. */
const agentName = "drawbridge";

const agentFile = {
  name: agentName,
  description: "Answers prompts of an API. Has no tools.",
  prompt: "You answer requests of an application. Follow the instructions in the message. You have no tools.",
  tools: [],
  allowedTools: [],
  resources: [],
  mcpServers: {},
};

const kiroSettings = { "chat.disableInheritingDefaultResources": true };

export const kiroProfile: AgentProfile = {
  name: "kiro",
  async command(context) {
    await writeAgentFile(kiroHome(context));
    const binary = await findBinary(context.host);
    // "auto" is kiro-cli's default, and no model that can be asked for by name in every version.
    const model = context.model === "auto" ? [] : ["--model", context.model];
    return [binary, "acp", "--agent", agentName, ...model];
  },
  environment: (context) => ({ KIRO_HOME: kiroHome(context) }),
  values: {},
  // Choosing it at the start is the one way that works for all providers and versions.
  modelAtStart: true,
  // Its memory grows with every turn.
  turnsMax: 25,
  tools: {
    ...commonTools,
    // Under an API key kiro-cli starts no MCP server at all.
    refusal: (environment) =>
      environment["KIRO_API_KEY"]
        ? "kiro-cli offers no tools of others under an API key; log the account in instead"
        : undefined,
  },
  endSession: "_kiro.dev/session/terminate",
  errors: [
    {
      reason: "AGENT_ERROR",
      pattern: /The model '[^']*' is not available|Invalid model ID|selected is temporarily unavailable/i,
    },
  ],
  refuses(method, params) {
    if (method !== "_kiro.dev/agent/not_found") return undefined;
    return `kiro-cli did not find the agent "${agentName}" and fell back to "${String(params["fallbackAgent"])}", which has tools`;
  },
  refusesSession(response) {
    const mode = (response["modes"] as Frame | undefined)?.["currentModeId"];
    if (typeof mode !== "string" || mode === agentName) return undefined;
    return `kiro-cli runs the agent "${mode}" instead of "${agentName}", which has no tools`;
  },
  complains(method, params) {
    return method === "_kiro.dev/error/rate_limit" ? `Rate limit: ${String(params["message"])}` : undefined;
  },
  millicredits(method, params) {
    const metering = params["meteringUsage"];
    if (method !== "_kiro.dev/metadata" || !Array.isArray(metering)) return undefined;
    const credits = (metering as Frame[])
      .filter((entry) => entry["unit"] === "credit" && typeof entry["value"] === "number")
      .reduce((sum, entry) => sum + (entry["value"] as number), 0);
    return Math.max(0, Math.round(credits * 1_000));
  },
  millicreditsGraceMs: 500,
};

function kiroHome({ folders }: StartContext): string {
  return join(folders.home, ".kiro");
}

async function writeAgentFile(home: string): Promise<void> {
  await mkdir(join(home, "agents"), { recursive: true });
  await mkdir(join(home, "settings"), { recursive: true });
  await writeFile(join(home, "agents", `${agentName}.json`), `${JSON.stringify(agentFile, null, 2)}\n`);
  await writeFile(join(home, "settings", "cli.json"), `${JSON.stringify(kiroSettings, null, 2)}\n`);
}

async function findBinary(host: Environment): Promise<string> {
  for (const binary of kiroBinaries) {
    for (const folder of (host["PATH"] ?? "").split(delimiter)) {
      const found = await access(join(folder, binary), constants.X_OK).then(
        () => true,
        () => false,
      );
      if (found) return binary;
    }
  }
  return kiroBinaries[1];
}

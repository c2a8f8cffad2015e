// kiro-cli, with its two engines: v2 takes agent and model at its start, v3 in its sessions. An agent file without tools, credits and the
// fill of the context in its own notifications, no token counts.
import { constants } from "node:fs";
import { access, mkdir, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { Environment } from "../process/environment.ts";
import type { Frame } from "../protocol/framing.ts";
import { kiroCanary } from "./kiro-canary.ts";
import { type AgentProfile, commonTools, neutralInstructions, type StartContext, toolServerName } from "./profile.ts";

/** The launcher does not forward signals, so the real program is preferred where it can be found. */
export const kiroBinaries = ["kiro-cli-chat", "kiro-cli"] as const;

/** The name of the agent file, which kiro-cli calls a mode. */
const agentName = "drawbridge";

/** The size of the context of its models, in tokens. */
const contextTokens = 200_000;

const settings = { "chat.disableInheritingDefaultResources": true };

const common = {
  values: {},
  modelRequired: true,
  mode: { id: agentName, required: true },
  recycling: { turnsMax: 25, memoryBytesMax: 500 * 2 ** 20, ageMsMax: 6 * 3_600_000 },
  prepare: writeFiles,
  environment: (context) => ({ KIRO_HOME: kiroHome(context) }),
  canary: async (context) => kiroCanary(await findBinary(context.host, ["kiro-cli", "kiro-cli-chat"])),
  tools: {
    ...commonTools,
    // Under an API key kiro-cli starts no MCP server at all.
    refusal: (environment) =>
      environment["KIRO_API_KEY"]
        ? "kiro-cli offers no tools of others under an API key; log the account in instead"
        : undefined,
  },
  errors: [
    {
      reason: "AGENT_ERROR",
      pattern: /The model '[^']*' is not available|Invalid model ID|selected is temporarily unavailable/i,
    },
  ],
  refuses(method, params) {
    const name = vendorName(method);
    if (name === "agent/not_found") {
      return `kiro-cli did not find the agent "${agentName}" and fell back to "${String(params["fallbackAgent"])}", which has tools`;
    }
    const to = params["agentName"] ?? params["agent"] ?? params["newAgent"];
    if (name === "agent/switched" && typeof to === "string" && to !== agentName) {
      return `kiro-cli switched to the agent "${to}", which has tools`;
    }
    if (name === "model/not_found") return `kiro-cli did not find the model: ${JSON.stringify(params)}`;
    return undefined;
  },
  complains(method, params) {
    return vendorName(method) === "error/rate_limit" ? `Rate limit: ${String(params["message"])}` : undefined;
  },
  contextShare(method, params) {
    const percentage = params["contextUsagePercentage"];
    if (vendorName(method) !== "metadata" || typeof percentage !== "number") return undefined;
    return percentage > 0 && percentage <= 100 ? percentage / 100 : undefined;
  },
  contextTokens: () => contextTokens,
  millicredits(method, params) {
    const metering = params["meteringUsage"];
    if (vendorName(method) !== "metadata" || !Array.isArray(metering)) return undefined;
    const credits = (metering as Frame[])
      .filter((entry) => entry["unit"] === "credit" && typeof entry["value"] === "number")
      .reduce((sum, entry) => sum + (entry["value"] as number), 0);
    return Number.isFinite(credits) ? Math.max(0, Math.round(credits * 1_000)) : undefined;
  },
  millicreditsGraceMs: 500,
} satisfies Partial<AgentProfile>;

export const kiroProfile: AgentProfile = {
  ...common,
  name: "kiro",
  async command({ host, model }) {
    const binary = await findBinary(host, kiroBinaries);
    // "auto" is kiro-cli's default, and no model that can be asked for by name in every version.
    return [binary, "acp", "--agent", agentName, ...(model === "auto" ? [] : ["--model", model])];
  },
  // Choosing it at the start is the one way that works for all providers and versions.
  modelAtStart: true,
  endSession: "_kiro.dev/session/terminate",
};

/** The engine that is also called KAS refuses to be told agent and model at its start. */
export const kiroV3Profile: AgentProfile = {
  ...common,
  name: "kiro-v3",
  command: async ({ host }) => [await findBinary(host, kiroBinaries), "acp", "--agent-engine", "v3"],
  modelAtStart: false,
  endSession: "_kiro/session/delete",
};

/** `_kiro.dev/metadata` of engine v2 is `_kiro/metadata` of engine v3. undefined: not kiro-cli's. */
function vendorName(method: string): string | undefined {
  return /^_kiro(?:\.dev)?\/(.+)$/.exec(method)?.[1];
}

/** Never the account holder's own folder, whose settings are theirs. */
function kiroHome({ folders }: StartContext): string {
  return join(folders.own, "home", ".kiro");
}

/** An agent without tools of its own. The tools of a request are the one server that it may use, where kiro-cli starts one. */
function agentFile(values: Environment) {
  const tools = values["KIRO_API_KEY"] ? [] : [`@${toolServerName}`];
  return {
    name: agentName,
    description: "Answers prompts of an API. Has no tools.",
    prompt: neutralInstructions,
    tools,
    allowedTools: tools,
    resources: [],
    mcpServers: {},
    includeMcpJson: false,
  };
}

async function writeFiles(context: StartContext): Promise<void> {
  const home = kiroHome(context);
  const agent = `${JSON.stringify(agentFile(context.values), null, 2)}\n`;
  // Engine v3 looks below HOME, whatever KIRO_HOME says.
  for (const folder of new Set([home, join(context.folders.home, ".kiro")])) {
    await mkdir(join(folder, "agents"), { recursive: true, mode: 0o700 });
    await writeFile(join(folder, "agents", `${agentName}.json`), agent);
  }
  await mkdir(join(home, "settings"), { recursive: true, mode: 0o700 });
  await writeFile(join(home, "settings", "cli.json"), `${JSON.stringify(settings, null, 2)}\n`);
}

async function findBinary(host: Environment, binaries: readonly string[]): Promise<string> {
  for (const binary of binaries) {
    for (const folder of (host["PATH"] ?? "").split(delimiter)) {
      const found = await access(join(folder, binary), constants.X_OK).then(
        () => true,
        () => false,
      );
      if (found) return binary;
    }
  }
  return "kiro-cli";
}

// opencode: a configuration without tools and with neutral instructions in a variable, usage in every answer.
import { neutralInstructions, type AgentProfile, commonTools, mergedJson, toolServerName } from "./profile.ts";

const agentName = "drawbridge";
const permission = { "*": "deny", [`${toolServerName}_*`]: "allow" };

const configuration = {
  autoupdate: false,
  share: "disabled",
  permission,
  default_agent: agentName,
  agent: {
    [agentName]: { mode: "primary", prompt: neutralInstructions, permission },
    // It would ask the model for a title of every session.
    title: { disable: true },
  },
  // Its own limit for a call of a tool is a minute; see ToolSupport.parkMsMax.
  experimental: { mcp_timeout: 330_000 },
};

export const opencodeProfile: AgentProfile = {
  name: "opencode",
  command: async () => ["opencode", "acp"],
  environment: () => ({ OPENCODE_DISABLE_AUTOUPDATE: "1" }),
  mergedEnvironment: ({ values }) => ({
    OPENCODE_CONFIG_CONTENT: mergedJson(values["OPENCODE_CONFIG_CONTENT"], configuration),
  }),
  values: {},
  modelAtStart: false,
  mode: { id: agentName, required: true },
  // Measured: its memory grows with every session and stays.
  recycling: { turnsMax: 30, memoryBytesMax: 900 * 2 ** 20 },
  tools: commonTools,
  errors: [
    { reason: "AGENT_UNAUTHENTICATED", pattern: /ProviderAuthError|AI_LoadAPIKeyError|API key is missing/i },
    { reason: "AGENT_RATE_LIMITED", pattern: /FreeUsageLimitError/ },
    { reason: "AGENT_ERROR", pattern: /ProviderModelNotFoundError/ },
  ],
  creditsPerDollar: 1,
};

// claude-agent-acp: tools are taken away and instructions replaced when a session is opened; cost and tokens in every answer.
import { type AgentProfile, commonTools, neutralInstructions } from "./profile.ts";

export const claudeProfile: AgentProfile = {
  name: "claude",
  command: async () => ["claude-agent-acp"],
  environment: () => ({
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    CLAUDE_CODE_DISABLE_TERMINAL_TITLE: "1",
    DISABLE_AUTOUPDATER: "1",
    NO_BROWSER: "1",
  }),
  values: {},
  modelAtStart: false,
  sessionMeta: {
    disableBuiltInTools: true,
    systemPrompt: neutralInstructions,
    claudeCode: { options: { tools: [], settingSources: [] } },
  },
  // Its own choice has a classifier permit what looks harmless, and writes about that into answers.
  mode: { id: "default", required: false },
  recycling: { turnsMax: 100 },
  // Else it hides the tools of others behind a search of its own. The time-out is that of one call of a tool.
  tools: { ...commonTools, environment: { ENABLE_TOOL_SEARCH: "false", MCP_TOOL_TIMEOUT: "330000" } },
  errors: [
    {
      reason: "AGENT_UNAUTHENTICATED",
      pattern: /Invalid API key|OAuth token (?:has )?(?:expired|revoked)|authentication_error|Please run \/login/i,
    },
    {
      reason: "AGENT_USAGE_LIMIT",
      pattern: /credit balance is too low|usage limit reached|You've hit your (?:\w+ )?limit/i,
    },
    { reason: "AGENT_RATE_LIMITED", pattern: /rate_limit_error|overloaded_error|API Error: (?:429|529)/i },
    { reason: "AGENT_ERROR", pattern: /There's an issue with the selected model|not_found_error/i },
  ],
  proseErrors: [
    { reason: "AGENT_UNAUTHENTICATED", pattern: /^(?:Invalid API key|Please run \/login|API Error: 401)/i },
    {
      reason: "AGENT_USAGE_LIMIT",
      pattern: /^(?:Credit balance is too low|Claude (?:AI )?usage limit reached|You've hit your (?:\w+ )?limit)/i,
    },
    { reason: "AGENT_RATE_LIMITED", pattern: /^API Error: (?:429|529|Request rejected \(429\))/i },
    { reason: "AGENT_ERROR", pattern: /^API Error: \d{3}/i },
  ],
  creditsPerDollar: 1,
};

// gemini-cli: settings without tools in the account's home, instructions in a file, tokens in the answer's quota.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type AgentProfile, commonTools, neutralInstructions, type StartContext, toolServerName } from "./profile.ts";

function settings(context: StartContext) {
  return {
    general: { enableAutoUpdate: false, enableAutoUpdateNotification: false },
    privacy: { usageStatisticsEnabled: false },
    context: { includeDirectoryTree: false },
    skills: { enabled: false },
    policyPaths: [policyFile(context)],
    security: {
      // The working directory is ours and empty; an untrusted one would get no MCP server.
      folderTrust: { enabled: false },
      ...(context.values["GEMINI_API_KEY"] ? { auth: { selectedType: "gemini-api-key" } } : {}),
    },
  };
}

/** A rule for all tools would outdo the one for the tools of a request. */
const ownTools = `
  update_topic list_directory read_file read_many_files grep_search glob activate_skill replace write_file write_todos web_fetch
  run_shell_command list_background_processes read_background_output google_web_search save_memory ask_user enter_plan_mode exit_plan_mode
  invoke_agent get_internal_docs complete_task list_mcp_resources read_mcp_resource
`
  .trim()
  .split(/\s+/);

const policy = `[[rule]]
toolName = ${JSON.stringify(ownTools)}
decision = "deny"
priority = 900

[[rule]]
toolName = "mcp_${toolServerName}_*"
decision = "ask_user"
priority = 950
`;

export const geminiProfile: AgentProfile = {
  name: "gemini",
  command: async () => ["gemini", "--acp"],
  async prepare(context) {
    await writeFile(instructionsFile(context), `${neutralInstructions}\n`);
    await writeFile(policyFile(context), policy);
    const folder = join(context.folders.home, ".gemini");
    await mkdir(folder, { recursive: true, mode: 0o700 });
    // A home that is the account holder's own keeps its settings.
    if (context.values["HOME"] === undefined) {
      await writeFile(join(folder, "settings.json"), `${JSON.stringify(settings(context), null, 2)}\n`);
    }
  },
  environment: (context) => ({
    GEMINI_SYSTEM_MD: instructionsFile(context),
    GEMINI_CLI_TRUST_WORKSPACE: "true",
    // Else it starts itself a second time, with more memory allowed.
    GEMINI_CLI_NO_RELAUNCH: "true",
  }),
  values: {},
  authenticate(methods, environment) {
    return environment["GEMINI_API_KEY"] && methods.includes("gemini-api-key") ? "gemini-api-key" : undefined;
  },
  modelAtStart: false,
  mode: { id: "default", required: false },
  // It cannot be told to forget a session.
  recycling: { turnsMax: 50 },
  tools: commonTools,
  errors: [
    { reason: "AGENT_UNAUTHENTICATED", pattern: /API_KEY_INVALID|API key not valid|UNAUTHENTICATED|PERMISSION_DENIED/ },
    {
      reason: "AGENT_USAGE_LIMIT",
      pattern: /TerminalQuotaError|exhausted your (?:daily|capacity)|QuotaFailure[^\n]*PerDay/i,
    },
    { reason: "AGENT_RATE_LIMITED", pattern: /RESOURCE_EXHAUSTED|RetryableQuotaError/ },
  ],
};

function instructionsFile({ folders }: StartContext): string {
  return join(folders.config, "gemini-instructions.md");
}

function policyFile({ folders }: StartContext): string {
  return join(folders.config, "gemini-policy.toml");
}

// codex-acp, both the adapter of the agentclientprotocol project and its predecessor: least tools, read-only sandbox, neutral instructions.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type AgentProfile, commonTools, mergedJson, neutralInstructions, type StartContext } from "./profile.ts";

/** What both adapters pass to Codex; the newer one takes it from CODEX_CONFIG, the older one as arguments. */
function settings(context: StartContext): Readonly<Record<string, unknown>> {
  return {
    sandbox_mode: "read-only",
    model_instructions_file: instructionsFile(context),
    project_doc_max_bytes: 0,
    web_search: "disabled",
    include_environment_context: false,
    include_permissions_instructions: false,
    include_apps_instructions: false,
    include_collaboration_mode_instructions: false,
    tools: { view_image: false },
    skills: { include_instructions: false, bundled: { enabled: false } },
    features: {
      shell_tool: false,
      unified_exec: false,
      apps: false,
      goals: false,
      image_generation: false,
      multi_agent: false,
      plugins: false,
    },
  };
}

export const codexProfile: AgentProfile = {
  name: "codex",
  command: async (context) => ["codex-acp", ...asArguments(settings(context))],
  async prepare(context) {
    await mkdir(codexHome(context), { recursive: true, mode: 0o700 });
    await writeFile(instructionsFile(context), `${neutralInstructions}\n`);
  },
  environment: (context) => ({
    CODEX_HOME: codexHome(context),
    INITIAL_AGENT_MODE: "read-only",
    NO_BROWSER: "1",
  }),
  mergedEnvironment: (context) => ({ CODEX_CONFIG: mergedJson(context.values["CODEX_CONFIG"], settings(context)) }),
  values: {},
  authenticate(methods, environment) {
    if (environment["CODEX_API_KEY"] && methods.includes("codex-api-key")) return "codex-api-key";
    if (environment["OPENAI_API_KEY"] && methods.includes("openai-api-key")) return "openai-api-key";
    return (environment["CODEX_API_KEY"] ?? environment["OPENAI_API_KEY"]) && methods.includes("api-key")
      ? "api-key"
      : undefined;
  },
  modelAtStart: false,
  mode: { id: "read-only", required: false },
  recycling: { turnsMax: 100 },
  tools: commonTools,
  errors: [
    { reason: "AGENT_USAGE_LIMIT", pattern: /You've hit your usage limit|usage_limit_reached|purchase more credits/i },
    { reason: "AGENT_UNAUTHENTICATED", pattern: /refresh token|unexpected status 401|codex login/i },
    { reason: "AGENT_RATE_LIMITED", pattern: /exceeded retry limit, last status: 429|unexpected status 429/i },
    { reason: "AGENT_ERROR", pattern: /The '[^']*' model is not supported|model_not_found/i },
  ],
  // It tells of its provider's failures in an answer that ends as if all were well.
  proseErrors: [
    { reason: "AGENT_RATE_LIMITED", pattern: /^(?:Error: )?exceeded retry limit, last status: 429/i },
    { reason: "AGENT_USAGE_LIMIT", pattern: /^You've hit your usage limit/i },
    { reason: "AGENT_UNAUTHENTICATED", pattern: /^(?:Error: )?unexpected status 401/i },
    {
      reason: "AGENT_ERROR",
      pattern: /^(?:Error: )?(?:unexpected status \d{3}|stream disconnected before completion)/i,
    },
  ],
};

/** `-c path.to.key=value`, with the value as TOML. */
function asArguments(fields: Readonly<Record<string, unknown>>, path = ""): string[] {
  return Object.entries(fields).flatMap(([name, value]) =>
    typeof value === "object" && value !== null
      ? asArguments(value as Record<string, unknown>, `${path}${name}.`)
      : ["-c", `${path}${name}=${JSON.stringify(value)}`],
  );
}

function codexHome({ folders, values }: StartContext): string {
  return values["CODEX_HOME"] ?? join(folders.home, ".codex");
}

function instructionsFile({ folders }: StartContext): string {
  return join(folders.config, "codex-instructions.md");
}

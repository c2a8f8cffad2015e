// qwen-code: settings with the fewest tools that it can run with, instructions in a file, tokens beside the last piece of the answer.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Frame } from "../protocol/framing.ts";
import { type AgentProfile, commonTools, neutralInstructions, type StartContext } from "./profile.ts";

/** tool_call and tool_search are those behind which it would hide the tools of a request. */
const unwanted = `
  agent ask_user_question enter_plan_mode enter_worktree exit_plan_mode exit_worktree get_goal list_agents record_artifact
  report_findings send_message skill task_stop tool_call tool_search update_goal
`
  .trim()
  .split(/\s+/);

const settings = {
  general: { disableAutoUpdate: true },
  privacy: { usageStatisticsEnabled: false },
  tools: { core: ["none"], exclude: unwanted, approvalMode: "default" },
  permissions: { deny: unwanted },
  // It would ask the model after each turn what is worth remembering, and write that down.
  memory: { enableManagedAutoMemory: false, enableManagedAutoDream: false },
  security: { folderTrust: { enabled: false } },
};

export const qwenProfile: AgentProfile = {
  name: "qwen",
  command: async () => ["qwen", "--acp"],
  async prepare(context) {
    await writeFile(instructionsFile(context), `${neutralInstructions}\n`);
    await writeFile(settingsFile(context), `${JSON.stringify(withLogin(context), null, 2)}\n`);
    await mkdir(join(context.folders.home, ".qwen"), { recursive: true, mode: 0o700 });
  },
  environment: (context) => ({
    QWEN_CODE_SYSTEM_SETTINGS_PATH: settingsFile(context),
    QWEN_SYSTEM_MD: instructionsFile(context),
    QWEN_CODE_NO_RELAUNCH: "true",
  }),
  values: {},
  modelAtStart: false,
  mode: { id: "default", required: false },
  // It cannot be told to forget a session.
  recycling: { turnsMax: 50 },
  // 300 s without a word end a call; words of progress keep it.
  tools: commonTools,
  errors: [
    { reason: "AGENT_UNAUTHENTICATED", pattern: /Incorrect API key|invalid_api_key|Use \/auth/i },
    { reason: "AGENT_USAGE_LIMIT", pattern: /Qwen API quota exceeded|free quota|Free allocated quota exceeded/i },
  ],
  usageIn(update) {
    const usage = (update["_meta"] as Frame | undefined)?.["usage"];
    return typeof usage === "object" && usage !== null ? (usage as Frame) : undefined;
  },
};

function withLogin({ values }: StartContext) {
  const auth = values["OPENAI_API_KEY"] ? { auth: { selectedType: "openai" } } : {};
  return { ...settings, security: { ...settings.security, ...auth } };
}

function instructionsFile({ folders }: StartContext): string {
  return join(folders.config, "qwen-instructions.md");
}

function settingsFile({ folders }: StartContext): string {
  return join(folders.config, "qwen-settings.json");
}

// The catalogue of agent profiles: the built-in ones, and those of the configuration.
import type { AgentSpec } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { claudeProfile } from "./claude.ts";
import { codexProfile } from "./codex.ts";
import { commandProfile } from "./command.ts";
import { demoProfile } from "./demo.ts";
import { geminiProfile } from "./gemini.ts";
import { kiroBinaries, kiroProfile, kiroV3Profile } from "./kiro.ts";
import { opencodeProfile } from "./opencode.ts";
import type { AgentProfile } from "./profile.ts";
import { qwenProfile } from "./qwen.ts";

export type { AgentProfile } from "./profile.ts";

/** An agent that `drawbridge up` looks for on the machine. */
export interface DetectableAgent {
  /** The profile's name. */
  readonly agent: string;
  /** Programs on the PATH; any of them will do. */
  readonly binaries: readonly string[];
  /** What an account serves without configuration: public name to the agent's own. */
  readonly models: Readonly<Record<string, string>>;
  /** Variables with credentials, which the account gets where they are set. */
  readonly credentials: readonly string[];
}

export const detectableAgents: readonly DetectableAgent[] = [
  { agent: kiroProfile.name, binaries: kiroBinaries, models: { "kiro-auto": "auto" }, credentials: ["KIRO_API_KEY"] },
  {
    agent: codexProfile.name,
    binaries: ["codex-acp"],
    models: { codex: "default" },
    credentials: ["CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"],
  },
  {
    agent: claudeProfile.name,
    binaries: ["claude-agent-acp"],
    models: { claude: "default" },
    credentials: ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"],
  },
  {
    agent: geminiProfile.name,
    binaries: ["gemini"],
    models: { gemini: "auto" },
    credentials: ["GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"],
  },
  {
    agent: qwenProfile.name,
    binaries: ["qwen"],
    models: { qwen: "default" },
    credentials: ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"],
  },
  {
    agent: opencodeProfile.name,
    binaries: ["opencode"],
    models: { opencode: "default" },
    credentials: ["OPENCODE_API_KEY", "OPENCODE_CONFIG_CONTENT"],
  },
];

/** Runs where nothing else is found. */
export const demoAgent: DetectableAgent = {
  agent: demoProfile.name,
  binaries: [],
  models: { demo: "demo" },
  credentials: [],
};

const builtIn: readonly AgentProfile[] = [
  kiroProfile,
  kiroV3Profile,
  codexProfile,
  claudeProfile,
  geminiProfile,
  qwenProfile,
  opencodeProfile,
  demoProfile,
];

/** Names that a configuration can use without defining them. */
export const builtInAgents: readonly string[] = builtIn.map(({ name }) => name);

export interface ProfileOptions {
  /** Profiles of the configuration. One with a built-in name replaces its command and adds to its environment. */
  readonly agents: readonly AgentSpec[];
  /** What relative paths of commands are relative to. */
  readonly folder: string;
}

/** NOT_FOUND if there is no such profile. */
export function findProfile(name: string, { agents, folder }: ProfileOptions): AgentProfile {
  const known = builtIn.find((profile) => profile.name === name);
  const spec = agents.find((each) => each.name === name);
  if (spec) {
    const configured = commandProfile(spec, folder);
    if (!known) return configured;
    // The canary is a question to the command that was replaced.
    const { canary: _, ...rest } = known;
    return { ...rest, command: configured.command, values: configured.values };
  }
  if (known) return known;
  throw new DrawbridgeError(
    "NOT_FOUND",
    `There is no agent "${name}". Built in are ${builtInAgents.join(", ")}; others are defined under "agents".`,
  );
}

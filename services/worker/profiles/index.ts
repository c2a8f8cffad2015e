// The catalogue of agent profiles: the built-in ones, and those of the configuration.
import type { AgentSpec } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { commandProfile } from "./command.ts";
import { demoProfile } from "./demo.ts";
import { kiroBinaries, kiroProfile } from "./kiro.ts";
import type { AgentProfile } from "./profile.ts";

export type { AgentProfile } from "./profile.ts";

/** An agent that `drawbridge up` looks for on the machine. */
export interface DetectableAgent {
  /** The profile's name. */
  readonly agent: string;
  /** Programs on the PATH; any of them will do. */
  readonly binaries: readonly string[];
  /** What an account serves without configuration: public name to the agent's own. */
  readonly models: Readonly<Record<string, string>>;
}

export const detectableAgents: readonly DetectableAgent[] = [
  { agent: kiroProfile.name, binaries: kiroBinaries, models: { "kiro-auto": "auto" } },
];

/** Runs where nothing else is found. */
export const demoAgent: DetectableAgent = { agent: demoProfile.name, binaries: [], models: { demo: "demo" } };

/** Names that a configuration can use without defining them. */
export const builtInAgents: readonly string[] = [kiroProfile.name, demoProfile.name];

export interface ProfileOptions {
  /** Profiles of the configuration. One with a built-in name replaces it. */
  readonly agents: readonly AgentSpec[];
  /** What relative paths of commands are relative to. */
  readonly folder: string;
}

/** NOT_FOUND if there is no such profile. */
export function findProfile(name: string, { agents, folder }: ProfileOptions): AgentProfile {
  const spec = agents.find((each) => each.name === name);
  if (spec) return commandProfile(spec, folder);
  const builtIn = [kiroProfile, demoProfile].find((profile) => profile.name === name);
  if (builtIn) return builtIn;
  throw new DrawbridgeError(
    "NOT_FOUND",
    `There is no agent "${name}". Built in are ${builtInAgents.join(", ")}; others are defined under "agents".`,
  );
}

// Any command of the configuration that speaks ACP on its standard input and output.
import { statSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import type { AgentSpec } from "#gen/drawbridge/v1/account";
import { type AgentProfile, commonTools } from "./profile.ts";

/** `folder`: what relative paths of the command are relative to. */
export function commandProfile(spec: AgentSpec, folder: string): AgentProfile {
  const command = spec.command.map((part, index) => absolute(part, index, folder));
  return {
    name: spec.name,
    command: async () => command,
    environment: () => ({}),
    values: spec.env,
    modelAtStart: false,
    tools: commonTools,
    errors: [],
  };
}

/** The agent runs in an empty folder, so a file that the command names is named in full. A bare program name is found on the PATH. */
function absolute(part: string, index: number, folder: string): string {
  if (isAbsolute(part) || part.startsWith("-") || (index === 0 && !part.includes("/"))) return part;
  const file = resolve(folder, part);
  return statSync(file, { throwIfNoEntry: false })?.isFile() ? file : part;
}

// The built-in demo agent, for a first request on a machine without agents.
import { fileURLToPath } from "node:url";
import { type AgentProfile, commonTools } from "./profile.ts";

const program = fileURLToPath(new URL("../../demo-agent/agent.ts", import.meta.url));

export const demoProfile: AgentProfile = {
  name: "demo",
  command: async () => [process.execPath, program],
  environment: () => ({}),
  values: {},
  modelAtStart: false,
  tools: commonTools,
  errors: [],
};

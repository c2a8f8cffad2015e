import { describeRealAgent } from "./real-agent.ts";

describeRealAgent({
  package: "@agentclientprotocol/claude-agent-acp@0.101.0",
  agent: "claude",
  agentModel: "default",
  environment: async (_folder, { origin }) => ({
    ANTHROPIC_API_KEY: "sk-ant-key-of-the-local-model",
    ANTHROPIC_BASE_URL: origin,
  }),
  usage: "reported",
  toolsMax: 0,
  process: "claude",
});

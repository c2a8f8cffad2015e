import { describeRealAgent } from "./real-agent.ts";

describeRealAgent({
  package: "@qwen-code/qwen-code@0.24.4",
  agent: "qwen",
  agentModel: "small",
  environment: async (_folder, { url }) => ({
    OPENAI_API_KEY: "key-of-the-local-model",
    OPENAI_BASE_URL: url,
    OPENAI_MODEL: "small",
  }),
  usage: "reported",
  toolsMax: 0,
  process: "qwen",
});

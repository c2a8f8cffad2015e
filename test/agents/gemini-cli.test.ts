import { describeRealAgent } from "./real-agent.ts";

describeRealAgent({
  package: "@google/gemini-cli@0.61.0",
  agent: "gemini",
  agentModel: "gemini-2.5-pro",
  environment: async (_folder, { origin }) => ({
    GEMINI_API_KEY: "key-of-the-local-model",
    GOOGLE_GEMINI_BASE_URL: origin,
  }),
  usage: "reported",
  // It leaves reasoning out.
  outputTokens: 42,
  toolsMax: 0,
  process: "gemini",
});

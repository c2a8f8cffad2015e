import { describeRealAgent } from "./real-agent.ts";

describeRealAgent({
  package: "opencode-ai@1.18.33",
  agent: "opencode",
  agentModel: "local/small",
  async environment(_folder, { url }) {
    const local = {
      npm: "@ai-sdk/openai-compatible",
      name: "local",
      options: { baseURL: url, apiKey: "key-of-the-local-model" },
      models: { small: { name: "small" } },
    };
    return {
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      OPENCODE_CONFIG_CONTENT: JSON.stringify({
        provider: { local },
        model: "local/small",
        small_model: "local/small",
      }),
    };
  },
  usage: "reported",
  toolsMax: 0,
  process: "opencode",
});

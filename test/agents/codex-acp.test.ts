import { codexEnvironment } from "./codex-home.ts";
import { describeRealAgent } from "./real-agent.ts";

const agentModel = "gpt-5.5";

describeRealAgent({
  package: "@agentclientprotocol/codex-acp@2.6.0",
  agent: "codex",
  agentModel,
  environment: (folder, provider) => codexEnvironment(folder, provider, agentModel),
  usage: "reported",
  toolsMax: 3,
  process: "codex-acp",
});

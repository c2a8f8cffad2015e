// The first adapter of Codex, whose launcher does not forward signals.
import { codexEnvironment } from "./codex-home.ts";
import { describeRealAgent } from "./real-agent.ts";

const agentModel = "gpt-5.2";

describeRealAgent({
  package: "@zed-industries/codex-acp@0.16.0",
  agent: "codex",
  agentModel,
  environment: (folder, provider) => codexEnvironment(folder, provider, agentModel),
  usage: "estimated",
  toolsMax: 4,
  process: "codex-acp",
});

// Settings of Codex for a model provider on this machine.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ModelServer } from "../support/model-server/server.ts";

/** A name that the agent knows: of an unknown one it complains in its answer. */
export async function codexEnvironment(
  folder: string,
  provider: ModelServer,
  agentModel: string,
): Promise<Record<string, string>> {
  const home = join(folder, "codex-home");
  await mkdir(home);
  await writeFile(
    join(home, "config.toml"),
    `model = "${agentModel}"
model_provider = "local"

[model_providers.local]
name = "local"
base_url = "${provider.url}"
wire_api = "responses"
env_key = "LOCAL_MODEL_KEY"
request_max_retries = 0
stream_max_retries = 0
`,
  );
  return { CODEX_HOME: home, LOCAL_MODEL_KEY: "key-of-the-local-model" };
}

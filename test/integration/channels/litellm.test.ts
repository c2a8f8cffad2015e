// LiteLLM itself against a gateway. Runs where DRAWBRIDGE_LITELLM_PYTHON names a Python that has it (pip install litellm), and is skipped elsewhere.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startUpstream } from "../../support/upstream.ts";
import { apiKey, model, says } from "../gateway/harness.ts";
import { channelTo, startWithChannels, upstreamModel } from "./given.ts";

const python = process.env["DRAWBRIDGE_LITELLM_PYTHON"];
const program = fileURLToPath(new URL("../../support/clients/litellm-client.py", import.meta.url));
const run = promisify(execFile);

test.skipIf(!python).each([
  ["the fleet", model, "Hello there"],
  ["an upstream channel", upstreamModel, "Hello from upstream"],
])("LiteLLM's SDK takes %s for a provider", { timeout: 300_000 }, async (_name, name, answer) => {
  await using upstream = await startUpstream();
  const routed = channelTo(upstream, { models: { [upstreamModel]: "own-name", "embedding-x": "own-embedding" } });
  await using gateway = await startWithChannels([routed]);
  gateway.engine.script = says("Hello", " there");
  const words = [program, `${gateway.url}/v1`, apiKey, name, "embedding-x"];
  const { stdout } = await run(python ?? "", words, { timeout: 240_000 });
  expect(JSON.parse(stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({
    whole: answer,
    usage: expect.any(Number),
    streamed: answer,
    streamed_usage: expect.any(Number),
    plain: answer,
    embedding: 1,
    health_error: null,
    wrong_key: "AuthenticationError",
    wrong_model: "NotFoundError",
  });
});

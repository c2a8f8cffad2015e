// LiteLLM itself against a gateway. Runs where DRAWBRIDGE_LITELLM_PYTHON names a Python that has it (pip install 'litellm[proxy]'), and is skipped elsewhere.
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { until } from "../../support/until.ts";
import { startUpstream } from "../../support/upstream.ts";
import { apiKey, model, says } from "../gateway/harness.ts";
import { allOf, channelTo, startWithChannels, upstreamModel } from "./given.ts";

const python = process.env["DRAWBRIDGE_LITELLM_PYTHON"];
const program = fileURLToPath(new URL("../../support/clients/litellm-client.py", import.meta.url));
const run = promisify(execFile);
/** The proxy starts with none that is easy to guess. */
const masterKey = `sk-${randomBytes(32).toString("hex")}`;

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

test.skipIf(!python)(
  "LiteLLM's proxy takes it for a deployment, and finds it healthy",
  { timeout: 300_000 },
  async () => {
    await using stack = new AsyncDisposableStack();
    const upstream = stack.use(await startUpstream());
    const gateway = stack.use(
      await startWithChannels([channelTo(upstream, { models: { [upstreamModel]: "own-name" } })]),
    );
    gateway.engine.script = says("Hello", " there");
    const folder = await mkdtemp(join(tmpdir(), "drawbridge-litellm-"));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const deployment = (name: string) => ({
      model_name: name,
      litellm_params: { model: `openai/${name}`, api_base: `${gateway.url}/v1`, api_key: apiKey },
    });
    const configuration = { model_list: [deployment(model), deployment(upstreamModel)] };
    await writeFile(join(folder, "config.yaml"), JSON.stringify(configuration));
    const port = await freePort();
    const program = join(dirname(python ?? ""), "litellm");
    const proxy = spawn(program, ["--config", "config.yaml", "--host", "127.0.0.1", "--port", String(port)], {
      cwd: folder,
      env: { ...process.env, LITELLM_LOCAL_MODEL_COST_MAP: "True", LITELLM_MASTER_KEY: masterKey },
      stdio: "ignore",
    });
    stack.defer(async () => {
      if (proxy.exitCode !== null || proxy.signalCode !== null) return;
      const ended = once(proxy, "exit");
      proxy.kill("SIGKILL");
      await ended;
    });
    const url = `http://127.0.0.1:${port}`;
    await until("the proxy listens", async () => (await fetch(`${url}/health/liveliness`)).ok, { timeoutMs: 120_000 });
    const health = (await (
      await fetch(`${url}/health`, { headers: { authorization: `Bearer ${masterKey}` } })
    ).json()) as Record<string, unknown>;
    expect(health).toMatchObject({ healthy_count: 2, unhealthy_count: 0 });
    const sdk = new OpenAI({ baseURL: `${url}/v1`, apiKey: masterKey, maxRetries: 0 });
    for (const [name, answer] of [
      [model, "Hello there"],
      [upstreamModel, "Hello from upstream"],
    ] as const) {
      const body = { model: name, messages: [{ role: "user" as const, content: "hi" }], user: "theirs" };
      expect((await sdk.chat.completions.create(body)).choices[0]?.message.content).toBe(answer);
      const chunks = await allOf(
        await sdk.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } }),
      );
      expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(answer);
      expect(chunks.findLast(({ usage }) => usage)?.usage?.total_tokens).toBeGreaterThan(0);
    }
  },
);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

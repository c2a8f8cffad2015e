// An answer ends while the store is away, and then everybody who knows what it cost is killed: the client has its answer, and pays for it.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { expectAccountBalanced, settledBooks } from "../support/books.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { startSplitSystem } from "../support/split-system.ts";
import { until } from "../support/until.ts";
import { startValkeyProcess } from "../support/valkey.ts";

test("what an answer cost outlives the store, the gateway and the worker, all of them killed", async () => {
  await using valkey = await startValkeyProcess(["--appendonly", "yes", "--appendfsync", "always"]);
  await using system = await startSplitSystem({
    state: `valkey://127.0.0.1:${valkey.port}`,
    configuration: fleet({
      accounts: [account("a-1")],
      prices: { [model]: { input: 1, output: 10 } },
      gateway: { hold_ttl: "20s", sweep_interval: "1s" },
      registry: { heartbeat_interval: "500ms", lease_ttl: "3s", prompt_lease_ttl: "20s" },
      scheduler: { lease_ttl: "20s", sweep_interval: "1s" },
      controller: { leader_lease: "6s", leader_renew: "2s", leader_retry: "500ms" },
    }),
  });
  const stream = await system.openai().chat.completions.create({
    model,
    stream: true,
    messages: ask({ do: "answer", chunks: 20, pause_ms: 50 }),
  });
  let text = "";
  for await (const chunk of stream) {
    if (text === "") await valkey.kill();
    text += chunk.choices[0]?.delta.content ?? "";
  }
  expect(text).toBe(words(20));
  const unsettled = join(system.folder, ".drawbridge", "unsettled");
  expect(await readdir(unsettled)).toHaveLength(1);

  await system.kill("gateway-1");
  for (const { pid } of (await system.processes()).filter(({ command }) => command.includes("drawbridge.ts worker"))) {
    process.kill(pid, "SIGKILL");
  }
  await valkey.restart();
  system.start("gateway-1");
  await system.ready();

  const { user, accounts, usage } = await settledBooks(system.admin, "default", 60_000);
  expect(usage).toMatchObject([{ end: "finished", account: "a-1", cost: user.spent }]);
  expect(user.spent).toBeGreaterThan(0);
  for (const each of accounts) expectAccountBalanced(each);
  expect(accounts[0]?.spent).toBe(usage[0]?.credits);
  expect(accounts[0]?.spent).toBeGreaterThan(0);
  await until("nothing is kept any more", async () => (await readdir(unsettled)).length === 0);
});

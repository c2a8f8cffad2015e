// A system whose store fails, as its clients see it: streams that run, requests that knock, and the books afterwards.
import { expect } from "vitest";
import { expectAccountBalanced, settledBooks } from "./books.ts";
import { account, ask, fleet, model } from "./fleet.ts";
import { splitKeys, type SplitSystem } from "./split-system.ts";
import { until } from "./until.ts";

/** Short leases, so that what is left behind is swept within seconds. */
export const configuration = fleet({
  accounts: [account("a-1", { slots: 8, queue: 32 }), account("a-2", { slots: 8, queue: 32 })],
  prices: { [model]: { input: 1, output: 10 } },
  gateway: { hold_ttl: "6s", sweep_interval: "1s" },
  registry: { heartbeat_interval: "500ms", lease_ttl: "3s", prompt_lease_ttl: "20s" },
  scheduler: { lease_ttl: "20s", sweep_interval: "1s" },
  controller: { leader_lease: "6s", leader_renew: "2s", leader_retry: "500ms" },
});

/** A stream that is read in the background. */
export function read(system: SplitSystem, chunks: number, pauseMs: number) {
  let seen = 0;
  const text = (async () => {
    const stream = await system.openai().chat.completions.create({
      model,
      stream: true,
      messages: ask({ do: "answer", chunks, pause_ms: pauseMs }),
    });
    let all = "";
    for await (const chunk of stream) {
      all += chunk.choices[0]?.delta.content ?? "";
      seen += 1;
    }
    return all;
  })();
  text.catch(() => {});
  return { text, seen: () => seen };
}

/** A new request: its status, and when to come back. */
export async function knock(system: SplitSystem) {
  const response = await fetch(`${system.gateways[0]}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${splitKeys.api}`, "content-type": "application/json" },
    body: JSON.stringify({ model, messages: ask({ do: "answer" }) }),
  });
  await response.text();
  return { status: response.status, retryAfter: response.headers.get("retry-after") };
}

/** Waits until a new request is served. */
export const serves = (system: SplitSystem) =>
  until("the system serves again", async () => (await knock(system)).status === 200, { timeoutMs: 60_000 });

/** Waits until nothing is held; then so many requests are paid, once each, and the books of the user and the accounts balance. */
export async function expectBooks(system: SplitSystem, requests: number): Promise<void> {
  const { usage, accounts } = await settledBooks(system.admin, "default", 60_000);
  expect(usage.filter(({ end }) => end === "finished").length).toBe(requests);
  for (const each of accounts) expectAccountBalanced(each);
}

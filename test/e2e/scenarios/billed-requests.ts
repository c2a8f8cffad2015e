// Requests that are paid: the prices, and what scenarios about money ask for.
import { account, ask, fleet, type Instruction, model, openTier } from "../../support/fleet.ts";
import type { ServingSystem } from "../../support/serving-system.ts";

type Clients = Pick<ServingSystem, "openai">;

const prices = {
  [model]: { input: 3, output: 15 },
  // A price at which almost every request ends between two millionths.
  fractions: { input: 0.001, output: 0.3 },
};

export const configuration = fleet({
  accounts: [
    account("a-1", {
      credits: 500,
      cost_per_request: 2,
      slots: 8,
      models: { [model]: "m", fractions: "m", free: "m" },
    }),
  ],
  prices,
  tiers: { default: openTier, half: { ...openTier, ratio: 0.5 } },
  worker: { first_token_timeout: "1s", idle_timeout: "1s", cancel_grace: "500ms" },
  // What a killed process leaves behind is swept within seconds.
  gateway: { hold_ttl: "9s", sweep_interval: "1s" },
  scheduler: { lease_ttl: "8s", sweep_interval: "1s" },
  registry: { heartbeat_interval: "1s", lease_ttl: "5s", prompt_lease_ttl: "8s" },
});

export async function keyOf(system: ServingSystem, user: string, quota: number, tier?: string): Promise<string> {
  return (await system.admin.createUser(user, quota, tier)).key;
}

export const usageOf = (input: number, output: number) => ({
  inputTokens: input,
  outputTokens: output,
  totalTokens: input + output,
});

export async function whole(system: Clients, key: string, instruction: Instruction, name = model): Promise<void> {
  await system.openai({ apiKey: key }).chat.completions.create({ model: name, messages: ask(instruction) });
}

/** Opens a stream, and resolves when its first content is there. */
export async function open(system: Clients, key: string, instruction: Instruction) {
  const stream = await system.openai({ apiKey: key }).chat.completions.create({
    model,
    stream: true,
    messages: ask(instruction),
  });
  const iterator = stream[Symbol.asyncIterator]();
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
    if (next.value.choices[0]?.delta.content) break;
  }
  return {
    leave: () => stream.controller.abort(),
    /** Reads to its end, of whatever kind. */
    async end() {
      for (let next = await iterator.next(); !next.done; next = await iterator.next());
    },
  };
}

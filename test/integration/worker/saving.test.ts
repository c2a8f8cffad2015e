// What it saves to continue a session: prints the figures of docs/agents.md. SAVING_ROUNDS (default 3) sets how many rounds they are made of.
import { afterEach, expect, it } from "vitest";
import type { Message } from "#gen/drawbridge/v1/prompt";
import { assistant, user } from "../../support/messages.ts";
import { type Answer, startWorker, type WorkerUnderTest } from "./harness.ts";

const rounds = Number(process.env["SAVING_ROUNDS"] ?? 3);
const text = "It was the best of times, it was the worst of times. ".repeat(40);
const history = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? user(text) : assistant(text)));

let worker: WorkerUnderTest;

afterEach(() => worker[Symbol.asyncDispose]());

interface Sample {
  readonly firstTokenMs: number;
  readonly inputTokens: number;
  readonly answer: Answer;
}

async function measure(messages: Message[], conversationScope: string): Promise<Sample> {
  const start = performance.now();
  let firstTokenMs = 0;
  const answer = await worker.prompt(
    { do: "answer" },
    {
      prompt: { messages, conversationScope },
      onEvents(events) {
        if (firstTokenMs === 0 && events.some(({ event }) => event.case === "text"))
          firstTokenMs = performance.now() - start;
      },
    },
  );
  return { firstTokenMs, inputTokens: Number(answer.outcome?.usage?.inputTokens), answer };
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

it("prints time to first token and input, continued and not", async () => {
  worker = await startWorker();
  await worker.ready();
  const samples: Record<"continued" | "anew", Sample[]> = { continued: [], anew: [] };
  for (let round = 0; round < rounds; round += 1) {
    const opening = [...history, user(`round ${round}`)];
    const first = await measure(opening, "alice");
    const next = [...opening, assistant(first.answer.text), user("and now?")];
    samples.continued.push(await measure(next, "alice"));
    samples.anew.push(await measure(next, "bob"));
  }
  for (const [kind, each] of Object.entries(samples)) {
    const firstTokenMs = median(each.map((sample) => sample.firstTokenMs)).toFixed(1);
    const inputTokens = median(each.map((sample) => sample.inputTokens));
    process.stdout.write(`${kind}: ${inputTokens} input tokens, ${firstTokenMs} ms to the first token (median)\n`);
  }
  expect(median(samples.continued.map(({ inputTokens }) => inputTokens))).toBeLessThan(20);
  expect(median(samples.anew.map(({ inputTokens }) => inputTokens))).toBeGreaterThan(10_000);
});

// Configurations of systems whose agents do what the prompt asks: test/support/agents/faulty-agent.ts, whose head documents the instructions.
import { fileURLToPath } from "node:url";

const agents = new URL("./agents/", import.meta.url);
export const faultyAgent = fileURLToPath(new URL("faulty-agent.ts", agents));
export const deafWrapper = fileURLToPath(new URL("deaf-wrapper.sh", agents));

/** The public name of the model that fleets serve, with a slash, as many real names have. */
export const model = "test/model-1";

export interface Instruction {
  readonly do: string;
  readonly [field: string]: unknown;
}

/** The messages that make the agent do this. */
export function ask(instruction: Instruction): { role: "user"; content: string }[] {
  const { do: action, ...rest } = instruction;
  // The agent finds its instruction by these first characters.
  return [{ role: "user", content: JSON.stringify({ do: action, ...rest }) }];
}

/** What the agent says in `count` chunks, if the instruction names no text. */
export function words(count: number, size = 8): string {
  return Array.from({ length: count }, (_, index) => {
    const word = `w${index} `;
    return word.repeat(Math.ceil(size / word.length)).slice(0, size);
  }).join("");
}

export function account(id: string, fields: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    id,
    agent: "faulty",
    models: { [model]: "agent-model" },
    credits: 1_000_000,
    cost_per_request: 1,
    slots: 4,
    queue: 16,
    workers: { min: 1, max: 1 },
    ...fields,
  };
}

/** Generous limits, so that only tests of limits meet them. */
export const openTier = { rpm: 1_000_000, tpm: 1_000_000_000, concurrency: 1_000, ratio: 1 };

/** drawbridge.yaml for a fleet of such accounts. */
export function fleet(fields: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    agents: { faulty: { command: [process.execPath, faultyAgent] } },
    accounts: [account("a-1")],
    tiers: { default: openTier },
    ...fields,
  };
}

// What the local model provider answers, whatever API it is asked through.

import type { ScriptedCall } from "./tools.ts";

/** The tokens that every answer reports: input with its cached part, output with its reasoning part. */
export const reportedUsage = { input_tokens: 123, cached_tokens: 7, output_tokens: 45, reasoning_tokens: 3 } as const;

export const defaultAnswer = "This is the local model.";

export interface Step {
  readonly text: string;
  readonly delayMs: number;
}

/** `call(TOOL, field=VALUE)` calls a tool; several do so at the same time. What the tools say is then repeated. */
export function callsFor(prompt: string): ScriptedCall[] {
  return [...prompt.matchAll(/call\((\w+)(?:, *(\w+)=([^)]*))?\)/g)].map(([, name = "", field, value = ""]) => ({
    name,
    input: field === undefined ? {} : { [field]: value },
  }));
}

/** `say(WORDS)` is answered with these words, `count(N, MS)` with N numbered words, one each MS milliseconds, anything else with a sentence. */
export function stepsFor(prompt: string): Step[] {
  const count = /count\((\d+), *(\d+)\)/.exec(prompt);
  if (count) {
    return Array.from({ length: Number(count[1]) }, (_, index) => ({ text: `w${index} `, delayMs: Number(count[2]) }));
  }
  const words = /say\(([^)]*)\)/.exec(prompt)?.[1] ?? defaultAnswer;
  return words.split(/(?<= )/).map((text) => ({ text, delayMs: 0 }));
}

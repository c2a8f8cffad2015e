// What a benchmark's prompt tells the far end to do. The fake agent and the fake upstream read the same words, so every contender carries
// the same answer.

export interface PromptPlan {
  /** Chunks of the answer. */
  readonly chunks: number;
  /** Pause before each further chunk, in ms. 0: as fast as they can be written. */
  readonly pauseMs: number;
  /** Leave the answer open after its chunks, until the client goes. */
  readonly hold: boolean;
}

/** Opens every chunk and stands nowhere else, so that chunks can be counted after any merging on the way. */
export const chunkMark = "~";

const words = ["river ", "window ", "the ", "of ", "and ", "bridge ", "stone ", "morning ", "a ", "quiet "];

export function promptText({ chunks, pauseMs, hold }: PromptPlan): string {
  return `bench chunks=${chunks} pause=${pauseMs} hold=${hold ? 1 : 0}`;
}

/** Finds the plan in a request, whatever stands around it. */
export function parsePrompt(text: string): PromptPlan {
  const match = /bench chunks=(\d+) pause=(\d+) hold=([01])/.exec(text);
  if (!match) throw new Error("The prompt has no plan such as `bench chunks=1 pause=0 hold=0`.");
  return { chunks: Number(match[1]), pauseMs: Number(match[2]), hold: match[3] === "1" };
}

/** A chunk as a model would send it: about one token. */
export function chunkText(index: number): string {
  return `${chunkMark}${words[index % words.length]}`;
}

/** The first chunk says how long the far end itself took to come to it, so that the way there and back can be told apart from it. */
export function firstChunkText(ownMicros: number): string {
  return `${chunkMark}own=${ownMicros} `;
}

export function ownMicrosOf(text: string): number | undefined {
  const match = /own=(\d+)/.exec(text);
  return match ? Number(match[1]) : undefined;
}

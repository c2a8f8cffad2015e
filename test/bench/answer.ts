// Plays a prompt's plan: the same pace for the fake agent and the fake upstream.
import { chunkText, firstChunkText, type PromptPlan } from "./prompt.ts";

export interface AnswerOptions {
  readonly plan: PromptPlan;
  /** When the prompt came, by performance.now(). */
  readonly receivedAt: number;
  /** Sends one chunk. A promise: the reader is slow, and nothing is sent before it resolves. */
  readonly write: (text: string) => Promise<void> | undefined;
  readonly end: () => void;
  /** The reader is gone, or cancelled. */
  readonly stopped: () => boolean;
  /** Chunks between two looks at what has come in, without a pause. */
  readonly burst: number;
}

export function playAnswer(options: AnswerOptions): void {
  const { plan, write } = options;
  const first = write(firstChunkText(Math.round((performance.now() - options.receivedAt) * 1_000)));
  if (plan.hold) return;
  if (plan.pauseMs > 0) playPaced(options, plan);
  else if (first) void first.then(() => playSaturated(options, 1));
  else playSaturated(options, 1);
}

function playPaced({ write, end, stopped }: AnswerOptions, { chunks, pauseMs }: PromptPlan): void {
  let sent = 1;
  const timer = setInterval(() => {
    if (!stopped() && sent < chunks) {
      void write(chunkText(sent));
      sent += 1;
      return;
    }
    clearInterval(timer);
    end();
  }, pauseMs);
}

function playSaturated(options: AnswerOptions, from: number): void {
  const { plan, write, end, stopped, burst } = options;
  let index = from;
  for (const until = Math.min(plan.chunks, from + burst); index < until && !stopped(); index += 1) {
    const pending = write(chunkText(index));
    if (pending) {
      void pending.then(() => playSaturated(options, index + 1));
      return;
    }
  }
  if (index >= plan.chunks || stopped()) end();
  else setImmediate(playSaturated, options, index);
}

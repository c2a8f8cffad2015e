// What an agent says in one turn, on its way to the caller: whole characters, up to a stop sequence or the output limit, counted.
import type { Batcher, Delta } from "./batcher.ts";
import { createOutputMeter, createStopScanner } from "./output-limits.ts";

/** Why the output ended before the agent did. */
export type Cut = "max_tokens" | "stop_sequence";

export interface TurnOutputOptions {
  /** 0: no limit. */
  readonly tokensMax: number;
  readonly stop: readonly string[];
  readonly batcher: Batcher;
  /** Told once, at the first piece that the caller gets. */
  readonly onFirst: () => void;
}

export interface TurnOutput {
  /** Takes a piece. The cut, when it made one; then no more is taken. */
  push(kind: Delta, piece: string): Cut | undefined;
  /** The agent finished: what was held back goes out. */
  flush(): Cut | undefined;
  /** From now on pieces are counted and not passed on: nobody waits for them. */
  mute(): void;
  readonly tokens: number;
  readonly reasoningTokens: number;
  /** Whether anything was passed on. */
  readonly content: boolean;
}

export function createTurnOutput({ tokensMax, stop, batcher, onFirst }: TurnOutputOptions): TurnOutput {
  const scanner = createStopScanner(stop);
  const meter = createOutputMeter(tokensMax);
  const halves: Record<Delta, string> = { text: "", reasoning: "" };
  let cut: Cut | undefined;
  let muted = false;
  let content = false;

  const emit = (kind: Delta, piece: string): Cut | undefined => {
    if (piece === "") return undefined;
    const { text, full } = meter.push(kind, piece);
    if (text !== "" && !muted) {
      if (!content) onFirst();
      content = true;
      batcher.delta(kind, text);
    }
    return full ? "max_tokens" : undefined;
  };
  return {
    push(kind, piece) {
      if (cut) return undefined;
      const [whole, half] = splitHalf(halves[kind] + piece);
      halves[kind] = half;
      if (kind === "reasoning") return (cut = emit(kind, whole));
      const { text, stopped } = scanner.push(whole);
      cut = emit(kind, text) ?? (stopped ? "stop_sequence" : undefined);
      return cut;
    },
    flush() {
      if (cut) return undefined;
      cut = emit("text", scanner.flush() + halves.text);
      return cut;
    },
    mute: () => void (muted = true),
    get tokens() {
      return meter.tokens;
    },
    get reasoningTokens() {
      return meter.reasoningTokens;
    },
    get content() {
      return content;
    },
  };
}

/** A character outside the basic plane is two UTF-16 units, and agents split texts between them; the first unit waits for the second. */
function splitHalf(text: string): readonly [whole: string, half: string] {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? [text.slice(0, -1), text.slice(-1)] : [text, ""];
}

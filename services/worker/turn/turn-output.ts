// What an agent says in one turn, on its way to the caller: whole characters, up to a stop sequence or the output limit, counted.
import { create } from "@bufbuild/protobuf";
import { ToolCallDeltaSchema } from "#gen/drawbridge/v1/prompt";
import type { ToolCallInHand } from "../tools/tool-desk.ts";
import type { Batcher, Delta } from "./batcher.ts";
import { createOutputMeter, createStopScanner } from "./output-limits.ts";

/** Why the output ended before the agent did. */
export type Cut = "max_tokens" | "stop_sequence" | "too_long";

export interface TurnOutputOptions {
  /** 0: no limit. */
  readonly tokensMax: number;
  readonly stop: readonly string[];
  readonly batcher: Batcher;
  /** Characters of text that are collected instead of being passed on, because the whole has to be looked at; 0: none. */
  readonly collectMax?: number;
  /** Told once, at the first piece that the caller gets. */
  readonly onFirst: () => void;
  /** Told of every piece of text that the caller gets. */
  readonly onText?: (text: string) => void;
}

export interface TurnOutput {
  /** Takes a piece. The cut, when it made one; then no more is taken. */
  push(kind: Delta, piece: string): Cut | undefined;
  /** The agent finished: what was held back goes out. */
  flush(): Cut | undefined;
  /** From now on pieces are counted and not passed on: nobody waits for them. */
  mute(): void;
  /** A call of one of the client's tools. It is passed on and counted, whatever happens to text. */
  call(index: number, call: ToolCallInHand): void;
  /** What was collected. */
  readonly collected: string;
  /** The collected text, or what became of it, goes out, muted or not. */
  release(text: string): void;
  /** What was collected is forgotten: the agent says it anew. */
  restart(): void;
  /** The stop sequence that made the cut, if one did. */
  readonly stopSequence: string | undefined;
  readonly tokens: number;
  readonly reasoningTokens: number;
  /** Whether anything was passed on. */
  readonly content: boolean;
}

export function createTurnOutput(options: TurnOutputOptions): TurnOutput {
  const { tokensMax, batcher, collectMax = 0, onFirst, onText } = options;
  const scanner = createStopScanner(options.stop);
  const meter = createOutputMeter(tokensMax);
  const halves: Record<Delta, string> = { text: "", reasoning: "" };
  let cut: Cut | undefined;
  let stopSequence: string | undefined;
  let muted = false;
  let content = false;
  let collected = "";

  const begin = () => {
    if (!content) onFirst();
    content = true;
  };
  const pass = (kind: Delta, text: string) => {
    begin();
    batcher.delta(kind, text);
    if (kind === "text") onText?.(text);
  };
  const emit = (kind: Delta, piece: string): Cut | undefined => {
    if (piece === "") return undefined;
    const { text, full } = meter.push(kind, piece);
    if (collectMax === 0) {
      if (text !== "" && !muted) pass(kind, text);
    } else if (kind === "text") {
      // Reasoning would commit the answer before anybody knows that it has the right form.
      if (collected.length + text.length > collectMax) return "too_long";
      collected += text;
    }
    return full ? "max_tokens" : undefined;
  };
  return {
    push(kind, piece) {
      if (cut) return undefined;
      const [whole, half] = splitHalf(halves[kind] + piece);
      halves[kind] = half;
      if (kind === "reasoning") return (cut = emit(kind, whole));
      const { text, reached } = scanner.push(whole);
      cut = emit(kind, text) ?? (reached === undefined ? undefined : "stop_sequence");
      if (cut === "stop_sequence") stopSequence = reached;
      return cut;
    },
    flush() {
      if (cut) return undefined;
      cut = emit("text", scanner.flush() + halves.text);
      return cut;
    },
    mute: () => void (muted = true),
    call(index, { id, name, argumentsJson }) {
      meter.push("text", `${name}${argumentsJson}`);
      begin();
      batcher.add({ case: "toolCall", value: create(ToolCallDeltaSchema, { index, id, name, argumentsJson }) });
    },
    get collected() {
      return collected;
    },
    release(text) {
      collected = "";
      if (text !== "") pass("text", text);
    },
    restart() {
      collected = "";
      halves.text = halves.reasoning = "";
      scanner.flush();
    },
    get stopSequence() {
      return stopSequence;
    },
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

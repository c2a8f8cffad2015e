// The calls of client tools that belong to one answer: those that come within a short time of each other.
import type { Clock } from "../../kit/clock.ts";
import { failure, type ToolCallInHand, type ToolDesk } from "../tools/tool-desk.ts";

/** Which calls an answer may have. */
export interface CallRules {
  /** It has to have one. */
  readonly required: boolean;
  /** Only calls of this tool; undefined: of any. */
  readonly only: string | undefined;
  /** At most one. */
  readonly single: boolean;
}

export interface GatherOptions {
  readonly desk?: ToolDesk | undefined;
  readonly config: { readonly tool_gather: number };
  readonly clock: Clock;
}

export interface Gathering extends Disposable {
  /** Later calls wait for the next answer. */
  stop(): void;
}

/** `onCalls` is told once, unless it was stopped. */
export function gatherCalls(
  { desk, config, clock }: GatherOptions,
  { only, single }: CallRules,
  onCalls: (calls: readonly ToolCallInHand[]) => void,
): Gathering {
  const calls: ToolCallInHand[] = [];
  let timer: Disposable | undefined;
  const stop = () => {
    timer?.[Symbol.dispose]();
    desk?.onCall(undefined);
  };
  const done = () => {
    stop();
    onCalls(calls);
  };
  const look = () => {
    const before = calls.length;
    while (calls.length === 0 || !single) {
      const call = desk?.take();
      if (!call) break;
      if (only !== undefined && call.name !== only) call.answer(failure(`Only the tool ${only} may be called now.`));
      else calls.push(call);
    }
    if (calls.length === before) return;
    timer?.[Symbol.dispose]();
    timer = clock.after(single ? 0 : config.tool_gather, done);
  };
  desk?.onCall(look);
  look();
  return { stop, [Symbol.dispose]: stop };
}

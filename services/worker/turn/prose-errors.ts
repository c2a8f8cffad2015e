// Some agents tell of their provider's failure in an answer that ends as if all were well. An answer that begins like such a report is held
// back until its end, where usage tells whether a model wrote it.
import type { ErrorRule } from "../profiles/profile.ts";

export interface ProseErrors {
  /** What may go out now. */
  push(text: string): string;
  /** What was held back; empty: nothing. */
  readonly held: string;
}

/** No report is longer. What is, goes out. */
const charsMax = 4_000;

export function createProseErrors(rules: readonly ErrorRule[] = []): ProseErrors {
  let begun = false;
  let held = "";
  return {
    push(text) {
      if (held === "") {
        const suspect = !begun && rules.some(({ pattern }) => pattern.test(text.trimStart()));
        if (text.trim() !== "") begun = true;
        if (!suspect) return text;
      }
      held += text;
      if (held.length <= charsMax) return "";
      const all = held;
      held = "";
      return all;
    },
    get held() {
      return held;
    },
  };
}

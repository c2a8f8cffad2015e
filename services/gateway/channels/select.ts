// Which channel takes a request: pure. The highest priority that has anybody to take it; within it the one that the conversation knows, else
// one at random by weight.
import type { Random } from "../../kit/random.ts";

export interface Choosable {
  readonly id: string;
  readonly priority: number;
  /** 0: as 1. */
  readonly weight: number;
}

export interface Choice {
  /** What the conversation was with before. */
  readonly preferred: string | undefined;
  /** Whether only that one can go on with it, so that priorities do not matter. */
  readonly bound: boolean;
  readonly random: Random;
}

/** `candidates` are those that can take the request now. undefined: there is none. */
export function choose<T extends Choosable>(
  candidates: readonly T[],
  { preferred, bound, random }: Choice,
): T | undefined {
  const home = candidates.find((each) => each.id === preferred);
  if (home && bound) return home;
  const priority = Math.max(...candidates.map((each) => each.priority));
  const first = candidates.filter((each) => each.priority === priority);
  const known = first.find((each) => each.id === preferred);
  if (known) return known;
  const total = first.reduce((sum, each) => sum + weightOf(each), 0);
  let at = random() * total;
  for (const each of first) {
    at -= weightOf(each);
    if (at < 0) return each;
  }
  return first.at(-1);
}

function weightOf({ weight }: Choosable): number {
  return Math.max(1, weight);
}

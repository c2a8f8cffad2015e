// A fence: whoever acts for leaders remembers the highest epoch that it has heard of, and refuses lower ones.
import { DrawbridgeError } from "./errors.ts";

/** NOT_LEADER for the epoch of a leader that has been replaced. */
export type Fence = (epoch: number) => void;

export function createFence(first = 0): Fence {
  let highest = first;
  return (epoch) => {
    if (epoch < highest) {
      throw new DrawbridgeError("NOT_LEADER", `Epoch ${epoch} is over: a leader of epoch ${highest} has acted since.`);
    }
    highest = epoch;
  };
}

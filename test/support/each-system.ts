// The two ways in which the product runs, for scenarios that must hold in both: describe.each(eachSystem)("$name", …).
import type { StartServing } from "./serving-system.ts";
import { startSplitSystem, twoOfEach } from "./split-system.ts";
import { startSystem } from "./system.ts";

const startUp: StartServing = (configuration) => startSystem({ configuration });

/** Two of every service, on one Valkey. */
const startSplit: StartServing = (configuration) => startSplitSystem({ configuration, counts: twoOfEach });

export const eachSystem: readonly { readonly name: string; readonly start: StartServing }[] = [
  { name: "up", start: startUp },
  { name: "split", start: startSplit },
];

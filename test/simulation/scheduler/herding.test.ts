// Several schedulers spread a load as one does; `npm run bench:herding` prints the figures.
import { expect, test } from "vitest";
import { herdingOf, ourHerding, yardsticks } from "./herding.ts";

test.each([1, 2, 4, 8])("%i schedulers place nothing wrong and stay near the ideal share", async (schedulers) => {
  const ours = await ourHerding(schedulers, 1);
  expect(ours.misplaced).toBe(0);
  expect(ours.deviation).toBeLessThan(0.35);
  for (const [name, choose] of Object.entries(yardsticks)) {
    const theirs = await herdingOf(choose, schedulers, 1);
    if (name === "round robin" || (name === "least loaded" && schedulers === 1)) continue;
    expect(theirs.deviation, name).toBeGreaterThan(ours.deviation * 0.9);
  }
});

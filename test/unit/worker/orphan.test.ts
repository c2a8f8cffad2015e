import { describe, expect, it } from "vitest";
import { createOrphanWatch } from "../../../services/worker/presence/orphan.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function given(timeoutMs = 600_000) {
  const clock = new VirtualClock();
  let ended = 0;
  const watch = createOrphanWatch({ timeoutMs, clock, onOrphaned: () => ended++ });
  watch.start();
  return { clock, watch, ended: () => ended };
}

describe("a worker that is on its own", () => {
  it("ends when nobody has been heard for the set time, and a moment longer", async () => {
    const { clock, ended } = given();
    await clock.advance(614_999);
    expect(ended()).toBe(0);
    await clock.advance(1);
    expect(ended()).toBe(1);
    await clock.advance(10_000_000);
    expect(ended()).toBe(1);
  });

  it("stays as long as somebody is heard", async () => {
    const { clock, watch, ended } = given();
    for (let minute = 0; minute < 60; minute++) {
      await clock.advance(60_000);
      watch.heard();
    }
    expect(ended()).toBe(0);
    await clock.advance(615_000);
    expect(ended()).toBe(1);
  });

  it("listens before it believes: after a stop, the first word comes late", async () => {
    const { clock, watch, ended } = given();
    await clock.advance(605_000);
    watch.heard();
    await clock.advance(599_999);
    expect(ended()).toBe(0);
  });

  it("stays when it was told to end otherwise", async () => {
    const { clock, watch, ended } = given();
    watch[Symbol.dispose]();
    await clock.advance(1_000_000);
    expect(ended()).toBe(0);
  });
});

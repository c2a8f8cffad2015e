import { describe, expect, it } from "vitest";
import { createRetries } from "../../../services/controller/retries.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function start() {
  const clock = new VirtualClock(0);
  const retries = createRetries({ clock, random: () => 1, baseMs: 1_000, maxMs: 60_000, stableMs: 10_000 });
  return { clock, retries, waitOf: (id: string) => (retries.retryAt.get(id) ?? 0) - clock.now() };
}

describe("retries", () => {
  it("take the first failure for an accident, then wait 1 s, doubled up to a minute", () => {
    const { retries, waitOf } = start();
    const waits = Array.from({ length: 9 }, () => {
      retries.failed("a", 0, "crashed");
      return waitOf("a");
    });
    expect(waits).toEqual([0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect(retries.lastFailure("a")).toBe("crashed");
  });

  it("begin anew after a worker that ran long enough, after a reset, and for every account", () => {
    const { retries, waitOf } = start();
    for (let failure = 0; failure < 5; failure++) retries.failed("a", 0, "crashed");
    retries.failed("a", 10_000, "crashed");
    expect(waitOf("a")).toBe(0);
    retries.failed("a", 0, "crashed");
    expect(waitOf("a")).toBe(1_000);
    retries.failed("b", 0, "crashed");
    expect(waitOf("b")).toBe(0);
    retries.reset("a");
    expect([retries.retryAt.has("a"), retries.lastFailure("a")]).toEqual([false, undefined]);
  });
});

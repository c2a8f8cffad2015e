import { describe, expect, it } from "vitest";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { startWorker } from "./harness.ts";

describe("a worker's answer", () => {
  it("begins with started and ends with finished", async () => {
    await using worker = await startWorker();
    const { events, text, outcome, stopReason, attemptId } = await worker.prompt({ do: "answer", chunks: 3 });
    expect(events[0]?.event.case).toBe("started");
    expect(text).toBe("w0 w0 w0w1 w1 w1w2 w2 w2");
    expect(stopReason).toBe(StopReason.END_TURN);
    expect(outcome).toMatchObject({ attemptId, end: End.FINISHED, content: true, workerId: "worker-1" });
    expect(outcome?.usage?.source).toBe(UsageSource.ESTIMATED);
    expect(outcome?.usage?.outputTokens).toBeGreaterThan(0n);
    expect(outcome?.millicredits).toBeUndefined();
  });
});

// DRAWBRIDGE_ENDURANCE_PROMPTS: how many prompts (default 300, some seconds). `npm run test:endurance` runs 20,000 and prints its figures.
import { describe, expect, it } from "vitest";
import { endure, notAdmitted, slots } from "./endurance.ts";

const prompts = Number(process.env["DRAWBRIDGE_ENDURANCE_PROMPTS"] ?? 300);
const seed = Number(process.env["DRAWBRIDGE_ENDURANCE_SEED"] ?? 1);
const long = prompts >= 5_000;

describe.skipIf(process.platform !== "linux")("a worker that lives long", () => {
  it(
    `ends ${prompts} prompts at random with one outcome each, and leaves nothing`,
    async () => {
      const result = await endure({ prompts, seed, onProgress: (text) => long && process.stdout.write(`${text}\n`) });
      if (long) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
      const { before, after, ended } = result;
      expect(result.outcomes).toBe(result.admitted);
      expect(result.ends[notAdmitted] ?? 0).toBeLessThan(prompts / 10);

      expect(after.agentProcesses).toBe(before.agentProcesses);
      expect(after.sessionFolders).toBe(before.sessionFolders);
      // A process has three pipes; everything else is as it was.
      expect(after.fileDescriptors).toBeLessThanOrEqual(before.fileDescriptors + 3 * slots);
      expect(after.heapMiB).toBeLessThan(before.heapMiB + 24);

      expect(ended).toMatchObject({ agentProcesses: 0, sessionFolders: 0 });
      expect(ended.fileDescriptors).toBeLessThan(before.fileDescriptors);
    },
    long ? 3_600_000 : 180_000,
  );
});

// Durations as people write them.
const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** What a refusal of a duration shows as good ones. */
export const durationExamples = '"250ms", "30s", "5m", "1h" or "30d"';

/** "250ms", "30s", "5m", "1h", "30d" → milliseconds. undefined: not a duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const factor = unitMs[match?.[2] ?? ""];
  return match && factor ? Math.round(Number(match[1]) * factor) : undefined;
}

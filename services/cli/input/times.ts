// Times as people write them: spans such as "30d", or points in time.
import { durationExamples, parseDuration } from "../../kit/duration.ts";
import { WrongInput } from "./amounts.ts";

/** A span → milliseconds; more than none. */
export function parseSpan(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms === 0) throw new WrongInput(`expected a duration such as ${durationExamples}`);
  return ms;
}

/** The last moment that a timestamp of the contract can hold: the end of the year 9999. */
const momentMax = Date.UTC(10_000, 0, 1) - 1;

const isoForm = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?$/;

/** "1h" → so long before (or after) `now`; an ISO time → that time. In milliseconds since 1970. */
export function parseMoment(text: string, now: number, direction: "before" | "after"): number {
  const span = parseDuration(text);
  if (span !== undefined) return direction === "before" ? Math.max(0, now - span) : Math.min(momentMax, now + span);
  const at = isoForm.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) {
    throw new WrongInput(`expected a duration such as ${durationExamples}, or a time such as 2026-01-31T18:00:00Z`);
  }
  return at;
}

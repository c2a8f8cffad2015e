// One admission for all the tries of a request, whichever channels they are on: each try admits and settles as if it were alone, and the ledger
// hears of it once. A try that failed before content leaves the hold to the next one.
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Admission, Admissions } from "../access/admit.ts";

export interface SharedAdmissions extends Admissions {
  /** Whether the request is settled, or was left to the sweep: nothing may be tried any more. */
  readonly over: boolean;
  /** Settles what no try has settled, with the last one's outcome. undefined: there is nothing to settle. */
  finish(): Promise<{ readonly outcome: Outcome | undefined; readonly entry: UsageEntry | undefined } | undefined>;
}

export function shareAdmission(admissions: Admissions): SharedAdmissions {
  let held: Admission | undefined;
  let last: Outcome | undefined;
  let over = false;
  return {
    limits: (caller) => admissions.limits(caller),
    priority: (caller) => admissions.priority(caller),
    async admit(request) {
      const admission = (held ??= await admissions.admit(request));
      return {
        limits: admission.limits,
        priority: admission.priority,
        async settle(outcome) {
          if (mayMoveOn(outcome)) {
            last = outcome ?? last;
            return undefined;
          }
          over = true;
          return await admission.settle(outcome);
        },
        abandon() {
          over = true;
          admission.abandon();
        },
      };
    },
    get over() {
      return over;
    },
    async finish() {
      if (!held || over) return undefined;
      over = true;
      return { outcome: last, entry: await held.settle(last) };
    },
  };
}

function mayMoveOn(outcome: Outcome | undefined): boolean {
  return outcome === undefined || (outcome.end === End.FAILED_BEFORE_CONTENT && !outcome.content);
}

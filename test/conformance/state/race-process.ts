// A second process on the same store: races for a user's quota and an account's credits, and tells its parent how each call ended.
import { once } from "node:events";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import { admission, lease, leaseVerdict, verdict } from "./given.ts";

export interface RaceTask {
  readonly url: string;
  /** Begins the ids, so that processes do not repeat each other's. */
  readonly name: string;
  /** Admissions, and leases, to try. */
  readonly count: number;
  readonly now: number;
}

export interface RaceResult {
  readonly admissions: string[];
  readonly leases: string[];
  /** Ids that were admitted. */
  readonly admitted: string[];
  /** Ids that were acquired. */
  readonly acquired: string[];
}

const batch = 10;

const [task] = (await once(process, "message")) as [RaceTask];
{
  await using state = await openState(task.url, { log: silentLog });
  for (let sent = 0; sent < task.count && process.connected; sent += batch) {
    const ids = Array.from({ length: batch }, (_, index) => `${task.name}-${sent + index}`);
    const results = await Promise.all(
      ids.map(async (id) => ({
        id,
        admission: verdict(await state.ledger.admit(admission({ requestId: id, now: task.now }))),
        lease: leaseVerdict(await state.leases.acquire(lease({ attemptId: id, now: task.now }))),
      })),
    );
    const part: RaceResult = {
      admissions: results.map((each) => each.admission),
      leases: results.map((each) => each.lease),
      admitted: results.filter((each) => each.admission === "admitted").map(({ id }) => id),
      acquired: results.filter((each) => each.lease === "acquired").map(({ id }) => id),
    };
    process.send?.(part);
    // Lets the message leave.
    await new Promise((resolve) => setImmediate(resolve));
  }
}
process.disconnect();

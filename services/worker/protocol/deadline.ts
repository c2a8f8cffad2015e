// Waiting with a bound.
import type { Clock } from "../../kit/clock.ts";
import type { DrawbridgeError } from "../../kit/errors.ts";

/** `work`, or the error when `ms` have passed first. The work itself goes on; whoever called ends it. */
export async function within<T>(work: Promise<T>, ms: number, clock: Clock, late: () => DrawbridgeError): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  using _ = clock.after(ms, () => reject(late()));
  return await Promise.race([work, timeout]);
}

/** Whether `work` settled, either way, within `ms`. */
export async function settlesWithin(work: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const { promise: timeout, resolve } = Promise.withResolvers<boolean>();
  using _ = clock.after(ms, () => resolve(false));
  const settled = work.then(
    () => true,
    () => true,
  );
  return await Promise.race([settled, timeout]);
}

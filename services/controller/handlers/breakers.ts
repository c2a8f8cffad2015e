// FleetService: breakers.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Breaker, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import { accountNotFound } from "./account-records.ts";
import type { HandlerDependencies } from "./dependencies.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";

/** Schedulers write the breaker too; somebody else is first only so often. */
const attemptsMax = 20;

export function breakerHandlers({
  state,
  clock,
  events,
}: HandlerDependencies): Pick<FleetHandlers, "listBreakers" | "resetBreaker"> {
  async function close(accountId: string): Promise<Breaker> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const present = await state.breakers.get(accountId);
      const closed = create(BreakerSchema, {
        accountId,
        state: BreakerState.CLOSED,
        revision: present?.revision ?? 0n,
        changedAt: timestampFromMs(clock.now()),
      });
      const written = await state.breakers.compareAndSet(closed);
      if (written) return written;
    }
    throw new DrawbridgeError("REVISION_CONFLICT", `The breaker of ${accountId} changes all the time. Try again.`);
  }

  return {
    async listBreakers() {
      return { breakers: await state.breakers.list() };
    },

    async resetBreaker({ accountId }) {
      if (!(await state.accounts.get(accountId))) throw accountNotFound(accountId);
      const breaker = await close(accountId);
      events.record("BreakerReset", "The breaker was closed by a person.", { accountId });
      return { breaker };
    },
  };
}

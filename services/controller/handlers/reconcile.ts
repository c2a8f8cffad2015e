// FleetService: what the controller does about the fleet, and workers.
import { durationMs } from "@bufbuild/protobuf/wkt";
import { DrawbridgeError } from "../../kit/errors.ts";
import { changesFor, checkSpec, checkUnique } from "../specs.ts";
import type { HandlerDependencies } from "./dependencies.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";

const drainTimeoutMs = 5_000;

export function reconcileHandlers({
  state,
  loop,
  view,
  worker,
  events,
  profiles,
}: HandlerDependencies): Pick<FleetHandlers, "plan" | "reconcile" | "drainWorker"> {
  return {
    async plan({ accounts }) {
      if (!accounts) return { actions: [...(await loop.preview(undefined))] };
      checkUnique(accounts.specs);
      for (const spec of accounts.specs) checkSpec(spec, profiles);
      const { created, updated, deleted, unchanged } = changesFor(await state.accounts.list(), accounts.specs);
      return {
        actions: [...(await loop.preview(accounts.specs))],
        created: created.map(({ id }) => id),
        updated: updated.map(({ id }) => id),
        deleted: [...deleted],
        unchanged: [...unchanged],
      };
    },

    async reconcile() {
      return { actions: [...(await loop.reconcile())] };
    },

    async drainWorker({ workerId, grace }, context) {
      const found = view.get(workerId);
      if (!found) {
        throw new DrawbridgeError(
          "NOT_FOUND",
          `There is no worker ${workerId}. \`drawbridge status\` shows those that are there.`,
        );
      }
      const call = { timeoutMs: drainTimeoutMs, signal: context.signal };
      const { inFlight } = await worker(found.address).drain(grace ? { grace } : {}, call);
      const bound = grace ? ` within ${durationMs(grace) / 1_000} s` : "";
      const accountId = found.pools[0]?.accountId ?? "";
      events.record("WorkerDraining", `A person asked for it; ${inFlight} prompts finish${bound}.`, {
        workerId,
        accountId,
      });
      return { inFlight };
    },
  };
}

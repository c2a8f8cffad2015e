// RegistryService: wire to domain and back.
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeregisterResponseSchema,
  HeartbeatResponseSchema,
  ListWorkersResponseSchema,
  RegisterResponseSchema,
  type RegistryService,
} from "#gen/drawbridge/v1/registry_service";
import type { Clock } from "../kit/clock.ts";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { State } from "../state/state.ts";
import type { RegistrySettings } from "./config.ts";
import { createDirectoryReader } from "./directory-reader.ts";
import { recordOutcomes, takeBeat } from "./heartbeat.ts";
import { watchWorkers } from "./watch.ts";

const pageSizeDefault = 1_000;

export interface HandlerDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: RegistrySettings;
  /** Aborted when the watches have to end. */
  readonly ending: AbortSignal;
}

export function createHandlers(options: HandlerDependencies): ServiceImpl<typeof RegistryService> {
  const { state, clock, log, config, ending } = options;
  const reader = createDirectoryReader({
    directory: state.workers,
    clock,
    log,
    rereadMs: config.prune_interval,
    ending,
  });
  return {
    async register({ worker }) {
      if (!worker) throw new DrawbridgeError("INVALID_ARGUMENT", "worker is missing.");
      await state.workers.put(worker, config.lease_ttl, clock.now());
      return create(RegisterResponseSchema, {
        heartbeatInterval: durationFromMs(config.heartbeat_interval),
        leaseTtl: durationFromMs(config.lease_ttl),
      });
    },

    async heartbeat(request) {
      const acknowledgedAttemptIds = await takeBeat(options, request, clock.now());
      return create(HeartbeatResponseSchema, { acknowledgedAttemptIds });
    },

    async deregister({ workerId, incarnation, outcomes }) {
      const recorded = await recordOutcomes(options, outcomes, clock.now());
      await state.workers.remove(workerId, incarnation, clock.now());
      if (recorded.length < outcomes.length) {
        throw new DrawbridgeError("STATE_UNAVAILABLE", "Some outcomes could not be recorded. Tell them again.");
      }
      return create(DeregisterResponseSchema);
    },

    async listWorkers({ model, pageSize, pageToken }) {
      const size = pageSize || pageSizeDefault;
      const { workers, revision } = await state.workers.list(clock.now());
      // The token of a page is its last id: a worker that comes or goes in between shifts nothing.
      const rest = workers.filter(
        ({ id, pools }) => id > pageToken && (model === "" || pools.some((pool) => pool.models.includes(model))),
      );
      const page = rest.slice(0, size);
      const nextPageToken = rest.length > size ? (page.at(-1)?.id ?? "") : "";
      return create(ListWorkersResponseSchema, { workers: page, nextPageToken, revision: BigInt(revision) });
    },

    async *watchWorkers(_request, context) {
      const signal = AbortSignal.any([context.signal, ending]);
      yield* watchWorkers({ reader, signal, bookmarkMs: config.bookmark_interval });
      // An end without an error would look like success: a watch has no end of its own.
      signal.throwIfAborted();
    },
  };
}

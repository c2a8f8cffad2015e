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
import type { Worker } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../kit/errors.ts";
import type { RegistrySettings } from "./config.ts";
import type { Directory } from "./directory.ts";
import type { DirectoryWatch } from "./watch.ts";

const pageSizeDefault = 1_000;

export interface HandlerDependencies {
  readonly directory: Directory;
  readonly watch: DirectoryWatch;
  readonly settings: RegistrySettings;
  /** Aborted when the watches have to end. */
  readonly ending: AbortSignal;
}

export function createHandlers(dependencies: HandlerDependencies): ServiceImpl<typeof RegistryService> {
  const { directory, watch, settings, ending } = dependencies;
  return {
    async register({ worker }) {
      await directory.register(required(worker));
      return create(RegisterResponseSchema, {
        heartbeatInterval: durationFromMs(settings.heartbeat_interval),
        leaseTtl: durationFromMs(settings.lease_ttl),
      });
    },

    async heartbeat({ worker, runningAttemptIds, outcomes }) {
      const acknowledgedAttemptIds = await directory.heartbeat(required(worker), runningAttemptIds, outcomes);
      return create(HeartbeatResponseSchema, { acknowledgedAttemptIds });
    },

    async deregister({ workerId, incarnation, outcomes }) {
      await directory.deregister(workerId, incarnation, outcomes);
      return create(DeregisterResponseSchema);
    },

    async listWorkers({ model, pageSize, pageToken }) {
      const page = await directory.list({ model, pageSize: pageSize || pageSizeDefault, pageToken });
      return create(ListWorkersResponseSchema, { ...page, revision: BigInt(page.revision) });
    },

    watchWorkers: (_request, context) => watch.watch(AbortSignal.any([context.signal, ending])),
  };
}

function required(worker: Worker | undefined): Worker {
  if (!worker) throw new DrawbridgeError("INVALID_ARGUMENT", "worker is missing.");
  return worker;
}

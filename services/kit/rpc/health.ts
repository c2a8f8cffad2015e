// grpc.health.v1.Health, for probes and load balancers.
import type { ServiceImpl } from "@connectrpc/connect";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health";
import type { Clock } from "../clock.ts";
import { DrawbridgeError } from "../errors.ts";

export interface HealthOptions {
  /** Full names of the services that this server has. */
  readonly services: readonly string[];
  /** Whether they can do their work now. */
  readonly ready: () => boolean | Promise<boolean>;
  readonly clock: Clock;
}

/** How often Watch looks whether the status changed. */
const watchIntervalMs = 500;

export function createHealthService(options: HealthOptions): ServiceImpl<typeof Health> {
  const status = async (service: string): Promise<Status> => {
    if (service !== "" && !options.services.includes(service)) return Status.SERVICE_UNKNOWN;
    return (await options.ready()) ? Status.SERVING : Status.NOT_SERVING;
  };
  return {
    async check(request) {
      const found = await status(request.service);
      if (found === Status.SERVICE_UNKNOWN) {
        throw new DrawbridgeError("NOT_FOUND", `This server has no service "${request.service}".`);
      }
      return { status: found };
    },
    async *watch(request, context) {
      let last: Status | undefined;
      while (!context.signal.aborted) {
        const next = await status(request.service);
        if (next !== last) yield { status: next };
        last = next;
        await options.clock.sleep(watchIntervalMs, context.signal);
      }
    },
  };
}

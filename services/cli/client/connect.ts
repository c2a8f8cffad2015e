// Typed clients of a running system, through its one public port.
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { AccessService } from "#gen/drawbridge/v1/access_service";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Target } from "./target.ts";

/** Their calls fail with Connect's errors; failures.ts makes sentences of these. */
export interface Clients {
  readonly access: Client<typeof AccessService>;
  readonly fleet: Client<typeof FleetService>;
  readonly scheduler: Client<typeof SchedulerService>;
}

/** The largest answer, in bytes. */
const answerBytesMax = 64 << 20;

export function connect(target: Target, timeoutMs: number): Clients {
  const transport = createConnectTransport({
    baseUrl: target.url,
    httpVersion: "1.1",
    useBinaryFormat: true,
    defaultTimeoutMs: timeoutMs,
    readMaxBytes: answerBytesMax,
    interceptors: [bearer(target.adminKey)],
  });
  return {
    access: createClient(AccessService, transport),
    fleet: createClient(FleetService, transport),
    scheduler: createClient(SchedulerService, transport),
  };
}

function bearer(token: string): Interceptor {
  return (next) => async (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return await next(request);
  };
}

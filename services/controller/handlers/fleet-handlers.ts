// The type that the parts of FleetService's implementation are picked from.
import type { ServiceImpl } from "@connectrpc/connect";
import type { FleetService } from "#gen/drawbridge/v1/fleet_service";

export type FleetHandlers = ServiceImpl<typeof FleetService>;

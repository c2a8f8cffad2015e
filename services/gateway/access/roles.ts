// What each method of the typed services wants of an admin key. docs/access.md shows this table, and a test holds it to the contracts.
import { AdminRole } from "#gen/drawbridge/v1/access_service";

interface Methods {
  readonly readOnly: readonly string[];
  readonly operator: readonly string[];
}

/** What is in no list, such as a method that is new, wants an admin. */
const methodsByService: Readonly<Record<string, Methods>> = {
  "drawbridge.v1.AccessService": {
    readOnly: [
      "GetUser",
      "ListUsers",
      "ListApiKeys",
      "ListAdminKeys",
      "ListCodes",
      "ListTiers",
      "ListPrices",
      "ListChannels",
      "ListUsage",
    ],
    // Who names a channel's address and its keys could have any secret of this machine sent anywhere: that is for admins.
    operator: ["EnableChannel", "DisableChannel"],
  },
  "drawbridge.v1.FleetService": {
    readOnly: ["GetAccount", "ListAccounts", "ListBreakers", "Plan", "WatchEvents", "GetStatus"],
    operator: [
      "CreateAccount",
      "UpdateAccount",
      "DeleteAccount",
      "ApplyAccounts",
      "GrantCredits",
      "SetCredits",
      "ResetBreaker",
      "Reconcile",
      "DrainWorker",
    ],
  },
  "drawbridge.v1.SchedulerService": { readOnly: ["Explain", "ListModels"], operator: [] },
  "grpc.reflection.v1.ServerReflection": { readOnly: ["ServerReflectionInfo"], operator: [] },
};

/** The least role that may call a method. */
export function leastRole(service: string, method: string): AdminRole {
  const methods = methodsByService[service];
  if (methods?.readOnly.includes(method)) return AdminRole.READ_ONLY;
  return methods?.operator.includes(method) ? AdminRole.OPERATOR : AdminRole.ADMIN;
}

/** As people write it: read-only. */
export function roleName(role: AdminRole): string {
  return roleNames.find(([, each]) => each === role)?.[0] ?? "unknown";
}

const roleNames: readonly (readonly [string, AdminRole])[] = [
  ["read-only", AdminRole.READ_ONLY],
  ["operator", AdminRole.OPERATOR],
  ["admin", AdminRole.ADMIN],
];

// docs/access.md shows the least role of every method that the public port serves; this holds it to the table and to the contracts.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { AccessService, AdminRole } from "#gen/drawbridge/v1/access_service";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { leastRole, roleName } from "../../../services/gateway/access/roles.ts";

const page = readFileSync(new URL("../../../docs/access.md", import.meta.url), "utf8");

/** All but these are refused on the public port. */
const schedulerMethods = ["Explain", "ListModels"];

it("is documented for every method", () => {
  const served = [AccessService, FleetService, SchedulerService].flatMap((service) =>
    service.methods
      .filter(({ name }) => service !== SchedulerService || schedulerMethods.includes(name))
      .map(({ name }) => `| ${service.name} | ${name} | ${roleName(leastRole(service.typeName, name))} |`),
  );
  expect(page.match(/^\| \w+Service \| .*$/gm)).toEqual(served);
});

it("is admin for what changes users, keys and money, and for what is not known", () => {
  const { typeName } = AccessService;
  for (const { name } of AccessService.methods) {
    if (/^(List|Get)|Channel/.test(name)) continue;
    expect(leastRole(typeName, name), name).toBe(AdminRole.ADMIN);
  }
  expect(leastRole(typeName, "MakeGold")).toBe(AdminRole.ADMIN);
  expect(leastRole("unheard.of.Service", "List")).toBe(AdminRole.ADMIN);
});

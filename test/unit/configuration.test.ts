// What the parts' settings must be to each other. Each part's own settings are tested with the part.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { loadConfiguration } from "../../services/configuration.ts";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drawbridge-configuration-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function load(fields: Record<string, unknown>) {
  const file = join(folder, "drawbridge.yaml");
  await writeFile(file, stringify(fields));
  return loadConfiguration({ file, environment: {} });
}

describe("the leases of prompts outlast a worker that is cut off, and the turns that it ends", () => {
  it.each([
    ["the defaults", {}],
    [
      "short times",
      {
        registry: { heartbeat_interval: "500ms", lease_ttl: "2s", prompt_lease_ttl: "5s" },
        scheduler: { lease_ttl: "5s", sweep_interval: "500ms" },
      },
    ],
    [
      "leases that last long enough with the sweep only",
      {
        registry: { lease_ttl: "11s", prompt_lease_ttl: "10s" },
        scheduler: { lease_ttl: "10s", sweep_interval: "5s" },
        worker: { cancel_grace: "3s" },
      },
    ],
  ])("%s are taken", async (_, fields) => {
    await expect(load(fields)).resolves.toBeDefined();
  });

  it.each([
    ["registry.prompt_lease_ttl", { registry: { prompt_lease_ttl: "13s" } }],
    ["scheduler.lease_ttl", { scheduler: { lease_ttl: "13s" } }],
  ])("%s that ends at the same time is refused, with its path and what was expected", async (path, fields) => {
    const refused = load(fields);
    await expect(refused).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
    await expect(refused).rejects.toThrow(
      `${path}: expected more than registry.lease_ttl + worker.cancel_grace (18000 ms), less scheduler.sweep_interval`,
    );
  });

  it("each that is too short is named, also where another setting made it so", async () => {
    const refused = load({ worker: { cancel_grace: "60s" } });
    await expect(refused).rejects.toThrow("registry.prompt_lease_ttl: ");
    await expect(refused).rejects.toThrow("scheduler.lease_ttl: ");
  });
});

describe("the controller's caution", () => {
  it("lasts two leases of a worker at least", async () => {
    await expect(load({ registry: { lease_ttl: "15s" } })).resolves.toBeDefined();
    const longer = { registry: { lease_ttl: "20s", prompt_lease_ttl: "60s" } };
    await expect(load(longer)).rejects.toThrow(
      "controller.registry_caution: expected at least two of registry.lease_ttl (40000 ms)",
    );
    await expect(load({ ...longer, controller: { registry_caution: "40s" } })).resolves.toBeDefined();
  });
});

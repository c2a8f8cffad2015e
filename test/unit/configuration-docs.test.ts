// docs/configuration.md is written by hand; this holds it to the schemas.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { controllerSettings } from "../../services/controller/config.ts";
import { gatewaySettings } from "../../services/gateway/config.ts";
import { registrySettings } from "../../services/registry/config.ts";
import { schedulerSettings } from "../../services/scheduler/config.ts";
import { workerSettings } from "../../services/worker/config.ts";

const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");

/** The text under a heading, up to the next one. */
function section(heading: string): string {
  const start = page.indexOf(`## \`${heading}\``);
  const end = page.indexOf("\n## ", start + 1);
  return page.slice(start, end === -1 ? undefined : end);
}

const parts = {
  gateway: gatewaySettings.parse({}),
  scheduler: schedulerSettings.parse({}),
  registry: registrySettings.parse({}),
  controller: controllerSettings.parse({}),
  worker: workerSettings.parse({}),
};

test.each(Object.entries(parts))("every setting of %s is documented, and no other", (name, settings) => {
  const documented = [...section(name).matchAll(/^\| `([a-z_]+)` \|/gm)].map((match) => match[1]);
  const fields = Object.entries(settings).flatMap(([field, value]) =>
    typeof value === "object" && value !== null ? [field, ...Object.keys(value)] : [field],
  );
  const nested = Object.keys(settings).filter((field) => typeof settings[field as never] === "object");
  expect(new Set([...documented, ...nested])).toEqual(new Set(fields));
});

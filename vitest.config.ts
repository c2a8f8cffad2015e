import { defineConfig } from "vitest/config";

// One project for each kind of test. `npm test` runs all but "agents", which installs third-party agents and is asked for by name.
const kinds = ["unit", "contract", "conformance", "integration", "simulation", "e2e"] as const;
const opted = process.env["npm_lifecycle_event"] === "test:agents";

function project(name: string) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      ...(name === "conformance" ? { globalSetup: ["test/conformance/valkey-servers.ts"] } : {}),
      pool: "forks" as const,
      testTimeout: name === "unit" ? 10_000 : 120_000,
      hookTimeout: 120_000,
      teardownTimeout: 20_000,
    },
  };
}

export default defineConfig({
  test: {
    // Two cores are shared with the processes that the tests start.
    maxWorkers: 2,
    projects: opted ? [project("agents")] : kinds.map(project),
  },
});

import { describe, expect, it } from "vitest";
import {
  accountSpecs,
  accountsSetting,
  agentSpecs,
  agentsSetting,
  controllerSettings,
} from "../../../services/controller/config.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { z } from "zod";

const file = z.strictObject({ accounts: accountsSetting, agents: agentsSetting, controller: controllerSettings });
const parse = (value: object) => parseSettings(file, value, "drawbridge.yaml");
const account = (fields: object = {}) => ({ accounts: [{ id: "a", agent: "kiro", models: { m: "n" }, ...fields }] });

describe("accounts of the configuration", () => {
  it("become specifications, with amounts in thousandths", () => {
    const { accounts } = parse({
      accounts: [
        {
          id: "kiro-1",
          agent: "kiro",
          models: { "claude-sonnet-4.5": "sonnet" },
          credits: 1000.5,
          cost_per_request: 0.25,
          slots: 2,
          queue: 16,
          workers: { min: 1, max: 3 },
          env: {
            KIRO_API_KEY: { from_env: "KIRO_1_KEY" },
            TOKEN: { from_file: "/run/token" },
            MODE: "fast",
            LEVEL: 3,
            QUIET: true,
          },
          drained: true,
        },
      ],
    });
    expect(accountSpecs(accounts)[0]).toMatchObject({
      id: "kiro-1",
      agent: "kiro",
      models: { "claude-sonnet-4.5": "sonnet" },
      initialMillicredits: 1_000_500n,
      millicreditsPerRequest: 250n,
      slots: 2,
      queue: 16,
      workers: { min: 1, max: 3 },
      drained: true,
      env: {
        KIRO_API_KEY: { source: { case: "fromEnv", value: "KIRO_1_KEY" } },
        TOKEN: { source: { case: "fromFile", value: "/run/token" } },
        MODE: { source: { case: "value", value: "fast" } },
        LEVEL: { source: { case: "value", value: "3" } },
        QUIET: { source: { case: "value", value: "true" } },
      },
    });
  });

  it("have defaults for all but id, agent and models, which may be a list", () => {
    const { accounts } = parse(account({ models: ["m1", "m2"] }));
    expect(accountSpecs(accounts)[0]).toMatchObject({
      models: { m1: "m1", m2: "m2" },
      initialMillicredits: 1_000_000n,
      millicreditsPerRequest: 1_000n,
      slots: 1,
      queue: 16,
      workers: { min: 1, max: 1 },
      env: {},
      drained: false,
    });
  });

  it("take the values of secrets by reference only, and say how", () => {
    const names = ["API_KEY", "X_APIKEY", "AWS_SECRET_ACCESS_KEY", "CLIENT_SECRET", "Hf_Token", "DB_PASSWORD"];
    for (const name of names) {
      expect(() => parse(account({ env: { [name]: "x" } })), name).toThrow(
        "{ from_env: VARIABLE }, { from_file: PATH }",
      );
      expect(() => parse(account({ env: { [name]: { from_env: "X" } } })), name).not.toThrow();
      expect(() => parse(account({ env: { [name]: "" } })), name).not.toThrow();
    }
    const others = ["MODE", "MAX_OUTPUT_TOKENS", "TOKENIZERS_PARALLELISM", "KEYBOARD", "SECRETARY", "CREDENTIALS_FILE"];
    for (const name of others) expect(() => parse(account({ env: { [name]: "x" } })), name).not.toThrow();
  });

  it("let the maximum of workers follow the minimum", () => {
    const workersOf = (workers: object) => accountSpecs(parse(account({ workers })).accounts)[0]?.workers;
    expect(workersOf({ min: 3 })).toMatchObject({ min: 3, max: 3 });
    expect(workersOf({ max: 3 })).toMatchObject({ min: 1, max: 3 });
    expect(workersOf({ min: 0 })).toMatchObject({ min: 0, max: 1 });
  });

  it.each([
    ["accounts[0].id", account({ id: "" })],
    ["accounts[0].id", account({ id: "a\nb" })],
    ["accounts[0].agent", account({ agent: undefined })],
    ["accounts[0].models", account({ models: {} })],
    ["accounts[0].models", account({ models: "m" })],
    ["accounts[0].credits", account({ credits: -1 })],
    ["accounts[0].credits", account({ credits: 0.0001 })],
    ["accounts[0].credits", account({ credits: "10" })],
    ["accounts[0].cost_per_request", account({ cost_per_request: 1e13 })],
    ["accounts[0].slots", account({ slots: 0 })],
    ["accounts[0].slots", account({ slots: 1.5 })],
    ["accounts[0].queue", account({ queue: -1 })],
    ["accounts[0].workers.min", account({ workers: { min: 3, max: 2 } })],
    ["accounts[0].workers.max", account({ workers: { max: 0 } })],
    ["accounts[0].workers", account({ workers: { most: 2 } })],
    ["accounts[0].env.1KEY", account({ env: { "1KEY": "x" } })],
    ["accounts[0].env.KEY", account({ env: { KEY: { from_env: "A", from_file: "B" } } })],
    ["accounts[0].env.KEY", account({ env: { KEY: null } })],
    ["accounts[0].env.KIRO_API_KEY", account({ env: { KIRO_API_KEY: "ksk_1" } })],
    ["agents.mine.env.HF_TOKEN", { agents: { mine: { command: ["node"], env: { HF_TOKEN: "hf_1" } } } }],
    ["accounts[0]", account({ credit: 5 })],
    ["accounts[1].id", { accounts: [...account().accounts, ...account().accounts] }],
    ["agents.mine.command", { agents: { mine: { command: [] } } }],
    ["agents.mine.command", { agents: { mine: { command: "node agent.mjs" } } }],
    ["agents.mine", { agents: { mine: { command: ["node"], cwd: "/" } } }],
    ["controller.resync", { controller: { resync: 30 } }],
    ["controller.leader_renew", { controller: { leader_renew: "40s" } }],
    ["controller.health_failures", { controller: { health_failures: 0 } }],
    ["controller", { controller: { health: "5s" } }],
  ])("refuse a wrong field by its path: %s", (path, value) => {
    expect(() => parse(value)).toThrow(`\n  ${path}: `);
  });
});

describe("agents of the configuration", () => {
  it("become specifications", () => {
    const { agents } = parse({ agents: { mine: { command: ["node", "agent.mjs"], env: { MODE: "fast" } } } });
    expect(agentSpecs(agents)).toMatchObject([
      { name: "mine", command: ["node", "agent.mjs"], env: { MODE: { source: { case: "value", value: "fast" } } } },
    ]);
  });
});

describe("the controller's settings", () => {
  it("may be left out", () => {
    const { controller } = parse({});
    expect(controller).toMatchObject({
      resync: 30_000,
      leader_lease: 60_000,
      leader_renew: 20_000,
      health_failures: 3,
    });
  });
});

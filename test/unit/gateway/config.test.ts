import { describe, expect, it } from "vitest";
import { BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { channelsSetting, gatewaySettings, pricesSetting, tiersSetting } from "../../../services/gateway/config.ts";
import { parseSettings } from "../../../services/kit/settings.ts";

describe("prices", () => {
  it("become whole millionths of a dollar", () => {
    const [price] = pricesSetting.parse({ m: { input: 3, output: 15.000001, cached_input: 0.3, request: 0.002 } });
    expect(price).toMatchObject({
      model: "m",
      inputMicrosPerMillion: 3_000_000n,
      outputMicrosPerMillion: 15_000_001n,
      cachedInputMicrosPerMillion: 300_000n,
      requestMicros: 2_000n,
    });
  });

  it("leave out what is not set", () => {
    const [price] = pricesSetting.parse({ m: { input: 0, output: 0 } });
    expect(price?.cachedInputMicrosPerMillion).toBeUndefined();
    expect(price?.requestMicros).toBe(0n);
    expect(pricesSetting.parse(undefined)).toEqual([]);
  });

  // Numbers whose binary form is off by a little, as most decimals are.
  it.each([0.07, 0.29, 1.1, 4.35, 0.000001, 999_999.999999, 123_456.789012])("takes %s exactly", (dollars) => {
    const [price] = pricesSetting.parse({ m: { input: dollars, output: 0 } });
    expect(price?.inputMicrosPerMillion).toBe(BigInt(dollars.toFixed(6).replace(".", "")));
  });

  it.each([
    ["a seventh decimal", { input: 3.0000005, output: 1 }],
    ["a seventh decimal of a small price", { input: 0.0000001, output: 1 }],
    ["a negative price", { input: -1, output: 1 }],
    ["a price as text", { input: "3", output: 1 }],
    ["an unknown field", { input: 1, output: 1, inputs: 1 }],
    ["no output price", { input: 1 }],
  ])("refuse %s", (_, price) => {
    expect(pricesSetting.safeParse({ m: price }).success).toBe(false);
  });
});

describe("tiers", () => {
  it("have the documented defaults, and there is always a default one", () => {
    expect(tiersSetting.parse(undefined)).toMatchObject([
      {
        name: "default",
        requestsPerMinute: 600n,
        tokensPerMinute: 1_000_000n,
        concurrency: 32n,
        ratioPermille: 1_000n,
      },
    ]);
    expect(
      tiersSetting.parse({ gold: { rpm: 1, ratio: 0.125 } }).map(({ name, ratioPermille }) => [name, ratioPermille]),
    ).toEqual([
      ["default", 1_000n],
      ["gold", 125n],
    ]);
  });

  it.each([
    ["a fourth decimal of the ratio", { ratio: 1.0005 }],
    ["a ratio that would round to nothing", { ratio: 0.0000001 }],
    ["half a request", { rpm: 0.5 }],
    ["a negative limit", { concurrency: -1 }],
  ])("refuse %s", (_, tier) => {
    expect(tiersSetting.safeParse({ default: tier }).success).toBe(false);
  });
});

describe("channels", () => {
  const channel = {
    id: "openai",
    kind: "openai",
    base_url: "https://api.example.com/v1",
    api_keys: [{ from_env: "UPSTREAM_KEY" }, { from_file: "/run/secrets/key" }],
    models: { "gpt-x": "gpt-x-2" },
  };
  const read = (...channels: object[]) => parseSettings(channelsSetting, channels, "a test");

  it("are none by default", () => {
    expect(channelsSetting.parse(undefined)).toEqual([]);
  });

  it("become specifications", () => {
    const [spec, fleet] = read(
      {
        ...channel,
        priority: 10,
        weight: 3,
        concurrency: 8,
        timeouts: { idle: "5s" },
        breaker: { failure_rate: 0.25 },
      },
      { id: "fleet", kind: "fleet", priority: 20 },
    );
    expect(spec).toMatchObject({
      id: "openai",
      baseUrl: "https://api.example.com/v1",
      apiKeys: [{ source: { case: "fromEnv", value: "UPSTREAM_KEY" } }, { source: { case: "fromFile" } }],
      models: { "gpt-x": "gpt-x-2" },
      priority: 10,
      weight: 3,
      concurrency: 8,
      timeouts: { idle: { seconds: 5n } },
      breaker: { failurePercent: 25 },
    });
    expect(fleet).toMatchObject({ id: "fleet", kind: "fleet", priority: 20, weight: 1 });
  });

  it("take a list of models that have the same names at the upstream", () => {
    expect(read({ ...channel, models: ["a", "b"] })[0]?.models).toEqual({ a: "a", b: "b" });
  });

  it.each([
    ["a key in the file", { ...channel, api_keys: ["sk-secret"] }, "[0].api_keys[0]"],
    ["no address", { ...channel, base_url: "api.example.com" }, "[0].base_url: expected an address"],
    ["a password in the address", { ...channel, base_url: "https://a:b@example.com/v1" }, "[0].base_url: it must not"],
    ["no models", { ...channel, models: [] }, "[0].models: name at least one"],
    ["our own secrets", { ...channel, api_keys: [{ from_env: "DRAWBRIDGE_KEY_PEPPER" }] }, "[0].api_keys: DRAWBRIDGE_"],
    ["an unknown route", { ...channel, routes: ["chat"] }, "[0].routes[0]"],
    ["no time at all", { ...channel, timeouts: { idle: "0ms" } }, "[0].idle"],
    ["another name of the fleet", { id: "mine", kind: "fleet" }, "[0].id"],
    ["the fleet's name", { ...channel, id: "fleet" }, "[0].id"],
    ["an unknown kind", { ...channel, kind: "azure" }, "[0].kind"],
  ])("refuse %s, with the path", (_name, wrong, path) => {
    expect(() => read(wrong)).toThrow(path);
  });

  it("refuse an id that is there twice", () => {
    expect(() => read(channel, channel)).toThrow("[1].id: given twice.");
  });
});

describe("tiers with more", () => {
  it("have a priority and a budget with its window", () => {
    const tiers = tiersSetting.parse({ batch: { priority: "low", budget: { amount: 1.5, per: "week" } } });
    expect(tiers.find(({ name }) => name === "default")).toMatchObject({ priority: Priority.NORMAL });
    expect(tiers.find(({ name }) => name === "batch")).toMatchObject({
      priority: Priority.LOW,
      budget: { micros: 1_500_000n, window: BudgetWindow.WEEK },
    });
  });
});

describe("the gateway's section", () => {
  it("has the documented defaults", () => {
    expect(gatewaySettings.parse(undefined)).toEqual({
      processes: 1,
      body_limit: 8 << 20,
      upload_limit: 32 << 20,
      header_limit: 32 << 10,
      first_content_wait: 10_000,
      trusted_proxies: [],
      cors_origins: [],
      tls_cert: "",
      tls_key: "",
      overload: {
        in_flight_max: 10_000,
        in_flight_bytes_max: 512 << 20,
        event_loop_delay_max: 1_000,
        heap_share_max: 0.9,
      },
      headers_timeout: 10_000,
      receive_timeout: 120_000,
      idle_timeout: 75_000,
      request_timeout: 600_000,
      stall_timeout: 60_000,
      channel_refresh: 30_000,
      retry: { attempts: 3, share: 0.2, burst: 10, per_second: 1 },
      default_output_tokens: 4_096,
      output_tokens_max: 128_000,
      input_tokens_max: 1_000_000,
      hold_ttl: 60_000,
      sweep_interval: 5_000,
      usage_retention: 400 * 24 * 3_600_000,
      keep_alive_interval: 15_000,
      idempotency_answers_max: 1_000,
      idempotency_ttl: 86_400_000,
      stored_responses_max: 1_000,
      stored_responses_ttl: 3_600_000,
      retry_after: 1_000,
    });
  });

  it.each([
    ["an unknown field", { bodylimit: "1MiB" }, /bodylimit/],
    ["a duration without a unit", { hold_ttl: "60" }, /duration/],
    ["a loop that would never rest", { sweep_interval: "0s" }, /at least 50ms/],
    ["headers that may take longer than the request", { headers_timeout: "5m" }, /receive_timeout/],
  ])("refuses %s", (_, settings, message) => {
    expect(() => parseSettings(gatewaySettings, settings, "drawbridge.yaml")).toThrow(message);
  });
});

// docker-compose.yml and the Dockerfile say what the program understands. No engine runs here: this is as far as a look at them goes.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly stop_grace_period?: string;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly ports?: readonly string[];
  readonly restart?: string;
}

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
const { services, volumes } = parse(read("docker-compose.yml"), { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};
const dockerfile = read("Dockerfile");
const ours = Object.entries(services).filter(([, { image }]) => image === "drawbridge");

/** Variables that some file of the program reads. */
const known = [...read("services/configuration.ts").matchAll(/DRAWBRIDGE_[A-Z_]+/g)].map(([name]) => name);

describe("docker-compose.yml", () => {
  test("has every service", () => {
    expect(ours.map(([name]) => name).toSorted()).toEqual(["controller", "gateway", "registry", "scheduler"]);
    expect(Object.keys(volumes).toSorted()).toEqual(["controller", "valkey"]);
  });

  test.each(ours)(
    "%s is started with its own command, at the port that others know",
    (name, { command, environment }) => {
      expect(command?.[0]).toBe(name);
      const port = /:(\d+)$/.exec(command?.[command.indexOf("--listen") + 1] ?? "")?.[1];
      const url = environment?.[`DRAWBRIDGE_${name.toUpperCase()}_URL`];
      if (url !== undefined) expect(new URL(url)).toMatchObject({ hostname: name, port });
      else expect(services[name]?.ports).toEqual([`127.0.0.1:${port}:${port}`]);
    },
  );

  test.each(ours)(
    "%s gets variables that the program knows, and secrets from outside only",
    (_, { environment = {} }) => {
      expect(Object.keys(environment).filter((variable) => !known.includes(variable))).toEqual([]);
      for (const [variable, value] of Object.entries(environment)) {
        if (/TOKEN|KEY|PEPPER/.test(variable)) expect(value).toMatch(/^\$\{/);
      }
      expect(environment["DRAWBRIDGE_STATE"]).toBe("valkey://valkey:6379");
    },
  );

  test.each(ours)("%s says how it is, ends in peace, and waits for what it needs", (name, service) => {
    expect(service.healthcheck?.test[0]).toBe("CMD");
    // More than the program's own grace of 30 s.
    expect(Number(/^(\d+)s$/.exec(service.stop_grace_period ?? "")?.[1])).toBeGreaterThan(30);
    expect(service.restart).toBe("unless-stopped");
    for (const [needed, { condition }] of Object.entries(service.depends_on ?? {})) {
      expect(condition).toBe("service_healthy");
      expect(services[needed]?.healthcheck, `${name} waits for ${needed}`).toBeDefined();
    }
  });
});

describe("the Dockerfile", () => {
  test("runs as an ordinary user, with the tools of the build left behind", () => {
    expect(dockerfile).toMatch(/^USER node$/m);
    expect(dockerfile).toContain("npm ci --omit=dev");
    expect(dockerfile.match(/^FROM /gm)).toHaveLength(2);
  });

  test("starts the program so that signals reach it and children are reaped", () => {
    expect(dockerfile).toMatch(/^ENTRYPOINT \["tini", "--", "node", "\/app\/services\/drawbridge\.ts"\]$/m);
    for (const folder of ["gen", "services"]) expect(dockerfile).toContain(`COPY ${folder} ./${folder}`);
  });
});

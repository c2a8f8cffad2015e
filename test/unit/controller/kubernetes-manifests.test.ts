// deploy/kubernetes against the code that it runs: names, ports, rights, and a configuration that parses.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { loadConfiguration } from "../../../services/configuration.ts";
import { permissions } from "../../../services/controller/drivers/kubernetes/api.ts";

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules?: readonly {
    readonly resources: string[];
    readonly resourceNames?: string[];
    readonly verbs: string[];
  }[];
  readonly subjects?: readonly { readonly name: string }[];
  readonly spec: {
    readonly ports?: readonly { readonly port: number; readonly targetPort: string }[];
    readonly template: { readonly spec: PodSpec };
  };
  readonly stringData?: Readonly<Record<string, string>>;
}

interface PodSpec {
  readonly serviceAccountName?: string;
  readonly securityContext: object;
  readonly containers: readonly {
    readonly name: string;
    readonly args: readonly string[];
    readonly env?: readonly {
      readonly name: string;
      readonly valueFrom?: { readonly secretKeyRef: { name: string; key: string } };
    }[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly readinessProbe?: object;
    readonly livenessProbe?: object;
    readonly securityContext: object;
  }[];
}

const folder = join(import.meta.dirname, "../../../deploy/kubernetes");
const read = (file: string) => readFileSync(join(folder, file), "utf8");
const documents = (file: string) => parseAllDocuments(read(file)).map((each) => each.toJS() as Manifest);
const kustomization = parse(read("kustomization.yaml")) as {
  resources: string[];
  configMapGenerator: { name: string; files: string[] }[];
};
const manifests = kustomization.resources.flatMap(documents);
const named = (kind: string, name: string) =>
  manifests.find((each) => each.kind === kind && each.metadata.name === name) ?? expect.fail(`no ${kind} ${name}`);
const services = ["registry", "scheduler", "controller", "gateway"];

it("allows the controller what the driver calls, and nothing else", () => {
  const granted = (named("Role", "drawbridge-controller").rules ?? []).flatMap(({ resources, verbs }) =>
    resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
  );
  const called = Object.entries(permissions).flatMap(([resource, verbs]) => verbs.map((verb) => `${verb} ${resource}`));
  expect(granted.toSorted()).toEqual(called.toSorted());
  expect(named("RoleBinding", "drawbridge-controller").subjects).toMatchObject([{ name: "drawbridge-controller" }]);
  expect(manifests.filter(({ kind }) => /Cluster/.test(kind))).toEqual([]);
});

it.each(services)("runs the %s without root, with probes, behind a Service of its port", (name) => {
  const { spec } = named("Deployment", name).spec.template;
  expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1_000 });
  const [container] = spec.containers;
  expect(container?.args[0]).toBe(name);
  expect(container?.readinessProbe).toBeDefined();
  expect(container?.livenessProbe).toBeDefined();
  expect(container?.securityContext).toMatchObject({
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
  });
  const [port] = container?.ports ?? [];
  expect(container?.args.at(-1)).toBe(`0.0.0.0:${port?.containerPort}`);
  expect(named("Service", name).spec.ports).toMatchObject([{ port: port?.containerPort, targetPort: port?.name }]);
});

it("gives only the controller's account a token", () => {
  const accounts = services.map((name) => named("Deployment", name).spec.template.spec.serviceAccountName);
  expect(accounts).toEqual(["drawbridge", "drawbridge", "drawbridge-controller", "drawbridge"]);
  for (const name of ["drawbridge", "drawbridge-worker"]) {
    expect(named("ServiceAccount", name)).toMatchObject({ automountServiceAccountToken: false });
  }
});

it("refers to keys that the example of the Secret has", () => {
  const [secret] = documents("secret.example.yaml");
  for (const name of services) {
    for (const { valueFrom } of named("Deployment", name).spec.template.spec.containers[0]?.env ?? []) {
      if (!valueFrom) continue;
      expect(valueFrom.secretKeyRef.name).toBe(secret?.metadata.name);
      expect(secret?.stringData).toHaveProperty(valueFrom.secretKeyRef.key);
    }
  }
});

it("has a configuration that parses and fits the other manifests", async () => {
  const { configuration } = await loadConfiguration({ file: join(folder, "drawbridge.yaml"), environment: {} });
  const { driver, kubernetes } = configuration.controller;
  expect(driver).toBe("kubernetes");
  expect(named("ServiceAccount", kubernetes.service_account)).toBeDefined();
  expect(documents("secret.example.yaml")[0]?.metadata.name).toBe(kubernetes.secret);
  expect(kustomization.configMapGenerator[0]).toMatchObject({
    name: kubernetes.configuration,
    files: ["drawbridge.yaml"],
  });
  const leader = named("Role", "drawbridge-controller").rules?.flatMap(({ resourceNames = [] }) => resourceNames);
  expect(leader).toEqual([`${kubernetes.system}-leader`]);
});

it("lists every manifest but the example", () => {
  const others = ["kustomization.yaml", "secret.example.yaml", "drawbridge.yaml"];
  const files = readdirSync(folder).filter((file) => !others.includes(file));
  expect(kustomization.resources.toSorted()).toEqual(files.toSorted());
});

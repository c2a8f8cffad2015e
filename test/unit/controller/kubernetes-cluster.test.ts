import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { loadCluster } from "../../../services/controller/drivers/kubernetes/cluster.ts";
import { labelValue, podName } from "../../../services/controller/drivers/kubernetes/names.ts";

const directory = mkdtempSync(join(tmpdir(), "drawbridge-cluster-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const kubeconfig = join(directory, "kubeconfig");
const cluster = (name: string) => `{ name: ${name}, cluster: { server: "https://${name}:6443" } }`;
const context = (name: string, more: string) => `{ name: ${name}, context: { cluster: ${name}, user: me${more} } }`;
writeFileSync(
  kubeconfig,
  `apiVersion: v1
kind: Config
clusters: [${cluster("one")}, ${cluster("two")}]
users: [{ name: me, user: { token: secret } }]
contexts: [${context("one", "")}, ${context("two", ", namespace: agents")}]
current-context: one
`,
);
const settings = { kubeconfig, context: "", namespace: "" };

it("takes the current context of a kubeconfig, or the one that is named, and its namespace", () => {
  expect(loadCluster(settings, {}).config.getCurrentCluster()?.server).toBe("https://one:6443");
  expect(loadCluster(settings, {}).namespace).toBe("default");
  expect(loadCluster({ ...settings, context: "two" }, {}).namespace).toBe("agents");
  expect(loadCluster({ ...settings, context: "two", namespace: "mine" }, {}).namespace).toBe("mine");
});

it("says what is wrong with a kubeconfig", () => {
  expect(() => loadCluster({ ...settings, context: "three" }, {})).toThrow('no context "three"');
  expect(() => loadCluster({ ...settings, kubeconfig: join(directory, "none") }, {})).toThrow(/kubeconfig: .*none/);
});

it("is in its own namespace when it runs in a Pod", () => {
  writeFileSync(join(directory, "namespace"), "fleet\n");
  const inPod = { kubeconfig: "", context: "", namespace: "" };
  expect(loadCluster(inPod, { KUBERNETES_SERVICE_HOST: "10.0.0.1" }, directory).namespace).toBe("fleet");
});

it.each(["a-1", "Acc_1-1", "kiro.team-2", "x".repeat(128), "-", "ü-1", "a-"])(
  "makes names of the worker id %s",
  (id) => {
    expect(podName("drawbridge", id)).toMatch(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);
    expect(labelValue(id)).toMatch(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/);
  },
);

it("gives different workers different names", () => {
  const ids = ["a_1", "a-1", "a.1", "A-1", `${"x".repeat(80)}-1`, `${"x".repeat(80)}-2`];
  expect(new Set(ids.map((id) => podName("drawbridge", id))).size).toBe(ids.length);
  expect(new Set(ids.map(labelValue)).size).toBe(ids.length);
});

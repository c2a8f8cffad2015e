// The whole product with workers as Pods of a cluster that runs them as processes: real workers with real probes, real drains.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { namespace, startKubernetesApi } from "../support/kubernetes-api.ts";
import { entry, startSystem } from "../support/system.ts";
import { until } from "../support/until.ts";

const token = "internal-token-of-services-and-pods";

it("serves from a Pod, and loses no stream when somebody deletes it", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-pods-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
  const api = resources.use(
    await startKubernetesApi({
      program: entry,
      secrets: { drawbridge: { DRAWBRIDGE_INTERNAL_TOKEN: token } },
      environment: { PATH: process.env["PATH"] ?? "", HOME: directory, DRAWBRIDGE_DIRECTORY: directory },
      probes: true,
    }),
  );
  const kubeconfig = join(directory, "kubeconfig");
  await writeFile(kubeconfig, api.config().exportConfig());
  const system = resources.use(
    await startSystem({
      configuration: {
        controller: { driver: "kubernetes", kubernetes: { kubeconfig, namespace } },
        accounts: [{ id: "seat", agent: "demo", models: ["demo"] }],
      },
      environment: { DRAWBRIDGE_INTERNAL_TOKEN: token },
    }),
  );
  const [first] = api.pods();
  expect(api.pods()).toHaveLength(1);
  await until("the Pod is ready", () =>
    api.pods()[0]?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
  );

  const content = "word ".repeat(40).trim();
  const ask = { model: "demo", messages: [{ role: "user" as const, content }], stream: true as const };
  let answer = "";
  for await (const chunk of await system.openai().chat.completions.create(ask)) {
    if (answer === "") api.deleteByHand("pods", first?.metadata.name ?? "");
    answer += chunk.choices[0]?.delta.content ?? "";
  }
  expect(answer).toContain(`You said: ${content}`);

  await until("the Pod is gone", () => !api.pods().some(({ metadata }) => metadata.uid === first?.metadata.uid));
  const again = await until("another Pod answers", async () => {
    const response = await system.openai().chat.completions.create({ ...ask, stream: false });
    return response.choices[0]?.message.content ?? undefined;
  });
  expect(again).toContain(content);
  expect(api.complaints).toEqual([]);
});

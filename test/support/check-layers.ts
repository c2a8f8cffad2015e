// Checks the layers of the house: a part imports another one only through its contract (gen/) or its interface. Run by CI.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

const root = normalize(join(import.meta.dirname, "../.."));

/** Folder of services/ → the folders of services/ that it may import, beside itself and gen/. */
const allowed: Record<string, readonly string[]> = {
  kit: [],
  state: ["kit"],
  client: ["kit"],
  gateway: ["kit", "state", "client"],
  scheduler: ["kit", "state", "client"],
  registry: ["kit", "state"],
  controller: ["kit", "state"],
  worker: ["kit"],
  "demo-agent": [],
};

/** What the command, which composes the parts, may import of a service. */
const faces = ["app.ts", "config.ts", "main.ts"];
/** Further doors that a part opens to the command, with the reason. */
const doors: Record<string, readonly string[]> = {
  gateway: ["access/bootstrap.ts"],
  worker: ["profiles/index.ts"],
  controller: ["drivers/open.ts", "drivers/driver.ts"],
  state: ["state.ts", "open.ts", "store-setup.ts"],
};
const leaves = ["kit", "client"];

const problems: string[] = [];

for (const file of globSync("services/**/*.ts", { cwd: root })) {
  for (const target of importsOf(file)) {
    const problem = judge(file, target);
    if (problem) problems.push(`${file}: imports ${target}: ${problem}`);
  }
}

if (problems.length > 0) {
  process.stderr.write(`${problems.join("\n")}\n${problems.length} imports cross a layer; see services/README.md.\n`);
  process.exitCode = 1;
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1] ?? "");
  return specifiers
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => relative(root, join(root, dirname(file), specifier)));
}

function judge(file: string, target: string): string | undefined {
  if (target === "package.json") return file === "services/kit/version.ts" ? undefined : "only kit/version.ts reads it";
  if (!target.startsWith("services/")) return "services import nothing outside services/ but gen/ and packages";
  const [, from = "", ...fromRest] = file.split("/");
  const [, to = "", ...toRest] = target.split("/");
  if (fromRest.length === 0 || from === "cli") return judgeCommand(to, toRest);
  if (from === to) return undefined;
  const rule = allowed[from];
  if (!rule) return `services/${from} has no rule in ${relative(root, import.meta.filename)}`;
  return rule.includes(to) ? undefined : `services/${from} may import ${rule.join(", ") || "nothing"} and gen/`;
}

function judgeCommand(to: string, rest: readonly string[]): string | undefined {
  if (rest.length === 0 || to === "cli" || leaves.includes(to)) return undefined;
  const path = rest.join("/");
  if (faces.includes(path) || doors[to]?.includes(path)) return undefined;
  return `the command sees only ${[...faces, ...(doors[to] ?? [])].join(", ")} of services/${to}`;
}

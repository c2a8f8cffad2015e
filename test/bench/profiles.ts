// Reads the CPU profiles that Drawbridge's processes wrote, and says where their time went.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const itemsShown = 25;
const idle = new Set(["(idle)", "(root)"]);

/** The functions with the most time of their own, for each profile of a folder. */
export function profileSummaries(folder: string): string {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => `${name}\n${summary(JSON.parse(readFileSync(join(folder, name), "utf8")) as Profile)}`)
    .join("\n");
}

function summary({ nodes, samples, timeDeltas }: Profile): string {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, frameName(callFrame)]));
  const micros = new Map<string, number>();
  samples.forEach((node, index) => {
    const name = names.get(node) ?? "?";
    if (!idle.has(name)) micros.set(name, (micros.get(name) ?? 0) + (timeDeltas[index] ?? 0));
  });
  const busy = [...micros.values()].reduce((sofar, each) => sofar + each, 0);
  const lines = [...micros]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, itemsShown)
    .map(([name, each]) => `  ${((100 * each) / busy).toFixed(1).padStart(5)} %  ${name}`);
  return `  busy for ${(busy / 1_000_000).toFixed(1)} s\n${lines.join("\n")}\n`;
}

function frameName({ functionName, url, lineNumber }: Profile["nodes"][number]["callFrame"]): string {
  const name = functionName || "(anonymous)";
  const file = url.replace(/^file:\/\//, "").replace(/^.*\/(?=services\/|gen\/|node_modules\/)/, "");
  return file === "" ? name : `${name}  ${file}:${lineNumber + 1}`;
}

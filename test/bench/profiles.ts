// Reads the CPU profiles that Drawbridge's processes wrote, and says where their time went: by area and by function of its own time, and
// which of our functions it was spent under.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

interface Profile {
  readonly nodes: readonly ProfileNode[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const itemsShown = 25;
const idleNames = new Set(["(idle)", "(root)"]);

export function profileSummaries(folder: string): string {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => `${name}\n${summary(JSON.parse(readFileSync(join(folder, name), "utf8")) as Profile)}`)
    .join("\n");
}

function summary(profile: Profile): string {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const ownMicros = new Map<number, number>();
  profile.samples.forEach((id, index) => {
    if (!idleNames.has(nodes.get(id)?.callFrame.functionName ?? "")) add(ownMicros, id, profile.timeDeltas[index] ?? 0);
  });
  const byArea = new Map<string, number>();
  const byFunction = new Map<string, number>();
  let busy = 0;
  for (const [id, micros] of ownMicros) {
    const frame = nodes.get(id)?.callFrame;
    if (!frame) continue;
    busy += micros;
    add(byArea, areaOf(frame), micros);
    add(byFunction, nameOf(frame), micros);
  }
  return [
    `  busy for ${(busy / 1_000_000).toFixed(1)} s`,
    `  own time, by area\n${top(byArea, busy)}`,
    `  own time, by function\n${top(byFunction, busy)}`,
    `  time under a function of services/\n${top(underOurs(nodes, ownMicros), busy)}\n`,
  ].join("\n");
}

/** A function that calls itself counts once. */
function underOurs(
  nodes: ReadonlyMap<number, ProfileNode>,
  ownMicros: ReadonlyMap<number, number>,
): Map<string, number> {
  const parents = new Map(
    [...nodes.values()].flatMap((node) => (node.children ?? []).map((child) => [child, node.id])),
  );
  const totals = new Map<string, number>();
  for (const [id, micros] of ownMicros) {
    const above = new Set<string>();
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const frame = nodes.get(at)?.callFrame;
      if (frame?.url.includes("/services/")) above.add(nameOf(frame));
    }
    for (const name of above) add(totals, name, micros);
  }
  return totals;
}

function add<Key>(totals: Map<Key, number>, key: Key, micros: number): void {
  totals.set(key, (totals.get(key) ?? 0) + micros);
}

function top(totals: ReadonlyMap<string, number>, busy: number): string {
  return [...totals]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, itemsShown)
    .map(([name, micros]) => `  ${((100 * micros) / busy).toFixed(1).padStart(5)} %  ${name}`)
    .join("\n");
}

type Frame = ProfileNode["callFrame"];

/** From the first folder that says something. */
function fileOf({ url }: Frame): string {
  return url.replace(/^.*\/(?=(?:services|gen)\/)/, "").replace(/^.*\/node_modules\//, "");
}

function nameOf(frame: Frame): string {
  const name = frame.functionName || "(anonymous)";
  return frame.url === "" ? name : `${name}  ${fileOf(frame)}:${frame.lineNumber + 1}`;
}

/** A folder of ours, a package, a part of Node, or the engine. */
function areaOf(frame: Frame): string {
  const file = fileOf(frame);
  if (file === "") return frame.functionName.startsWith("(") ? frame.functionName : "native code";
  const parts = file.split("/");
  if (file.startsWith("node:")) return parts.slice(0, 2).join("/");
  return parts.slice(0, 2).join("/");
}

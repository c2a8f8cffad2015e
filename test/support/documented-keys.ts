// What docs/state.md says of the keys in Valkey.
import { readFile } from "node:fs/promises";

export interface DocumentedKey {
  /** As the server says it. */
  readonly type: string;
  readonly writtenBy: readonly string[];
  readonly readBy: readonly string[];
  readonly lives: string;
}

const serverTypes: Record<string, string> = { integer: "string", "sorted set": "zset" };

/** By their names there, such as lease:{…}:… */
export async function readDocumentedKeys(): Promise<ReadonlyMap<string, DocumentedKey>> {
  const text = await readFile(new URL("../../docs/state.md", import.meta.url), "utf8");
  const found = new Map<string, DocumentedKey>();
  for (const line of text.split("\n")) {
    const cells = line.split("|").map((cell) => cell.trim());
    if (cells.length !== 8 || !cells[1]?.startsWith("`")) continue;
    const [, names = "", type = "", , writtenBy = "", readBy = "", lives = ""] = cells;
    const types = type === "string, JSON" ? ["string"] : type.split(", ");
    for (const [index, [, name = ""]] of [...names.matchAll(/`([^`]+)`/g)].entries()) {
      const own = types[index] ?? types[0] ?? "";
      found.set(name, {
        type: serverTypes[own] ?? own,
        writtenBy: writtenBy.split(", "),
        readBy: readBy.split(", "),
        lives,
      });
    }
  }
  return found;
}

/** Tags that are names, not ids. */
const fixedTags = ["pods", "keys", "codes"];

/** pod:{w-1} → pod:{…}; lease:{a}:att → lease:{…}:… The key is without the store's prefix. */
export function documentedName(key: string): string {
  const parts = /^(?<kind>[a-z-]+):\{(?<tag>[^}]*)\}(?::(?<rest>.*))?$/s.exec(key)?.groups;
  if (!parts || parts["kind"] === "epoch") return key;
  const tag = fixedTags.includes(parts["tag"] ?? "") ? parts["tag"] : "…";
  const { rest } = parts;
  return `${parts["kind"]}:{${tag}}${rest === undefined ? "" : rest === "pods" ? ":pods" : ":…"}`;
}

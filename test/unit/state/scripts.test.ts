import { describe, expect, test } from "vitest";
import { loadScripts, scriptFile, scriptFiles } from "../../../services/state/valkey/scripts.ts";

const scripts = Object.values(loadScripts());

describe("the store's scripts", () => {
  test("are the files that there are", () => {
    expect(scripts.map(({ name }) => scriptFile(name)).toSorted()).toEqual(scriptFiles().toSorted());
  });

  test.each(scripts.map((script) => [script.name, script] as const))(
    "%s says what it takes and gives",
    (_name, script) => {
      const header = script.text.split("\n").filter((line) => line.startsWith("-- "));
      expect(header[0]).toMatch(/\.$/);
      for (const part of ["KEYS", "ARGV", "Result"])
        expect(header.join("\n")).toMatch(new RegExp(`^-- ${part}  `, "m"));
      expect(script.text).not.toContain("@include");
    },
  );

  test.each(scripts.map((script) => [script.name, script] as const))(
    "%s takes as many keys as its name says",
    (_name, script) => {
      const used = [...script.text.matchAll(/KEYS\[(\d+)\]/g)].map(([, number]) => Number(number));
      if (script.keyCount !== undefined) expect(Math.max(...used)).toBe(script.keyCount);
    },
  );
});

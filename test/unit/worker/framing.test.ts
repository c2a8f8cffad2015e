import { describe, expect, it } from "vitest";
import { PassThrough } from "node:stream";
import { createFraming, createLineSplitter } from "../../../services/worker/protocol/framing.ts";

function split(chunks: readonly (string | Buffer)[], bytesMax = 1_000) {
  const lines: string[] = [];
  let oversize = 0;
  const push = createLineSplitter({ bytesMax, onLine: (line) => lines.push(line), onOversize: () => (oversize += 1) });
  for (const chunk of chunks) push(Buffer.from(chunk as string));
  return { lines, oversize };
}

describe("the line splitter", () => {
  it("finds lines wherever the chunks end", () => {
    expect(split(["a\nb", "c\n", "\n\nd", "e\nrest"]).lines).toEqual(["a", "bc", "de"]);
  });

  it("decodes characters that are split between chunks", () => {
    const bytes = Buffer.from("naïve 漢字 😀\n");
    expect(split([...bytes].map((byte) => Buffer.from([byte]))).lines).toEqual(["naïve 漢字 😀"]);
  });

  it("throws one long line away, once, and goes on with the next", () => {
    expect(split(["ok\n", "x".repeat(8), "y".repeat(8), "z\nnext\n"], 10)).toEqual({
      lines: ["ok", "next"],
      oversize: 1,
    });
    expect(split(["x".repeat(11), "\n", "x".repeat(10), "\n"], 10)).toEqual({ lines: ["x".repeat(10)], oversize: 1 });
  });
});

describe("framing", () => {
  it("sends a frame as one line for every reader, whatever a text has in it", async () => {
    const stdin = new PassThrough();
    const framing = createFraming({
      stdin,
      stdout: new PassThrough(),
      lineBytesMax: 1_000,
      onFrame: () => {},
      onOversize: () => {},
    });
    const message = { text: "a\u2028b\u2029c\u0085d\ne" };
    await framing.send(message);
    const sent = String(stdin.read());
    expect(sent).not.toMatch(/[\u2028\u2029\u0085]/);
    expect(sent.split("\n")).toHaveLength(2);
    expect(JSON.parse(sent)).toEqual(message);
  });

  it("passes objects on and counts the rest", () => {
    const stdout = new PassThrough();
    const frames: unknown[] = [];
    const framing = createFraming({
      stdin: new PassThrough(),
      stdout,
      lineBytesMax: 1_000,
      onFrame: (frame) => frames.push(frame),
      onOversize: () => {},
    });
    stdout.emit("data", Buffer.from('{"a":1}\nwarning\n[1]\n{"half\n  {"b":2}\r\n'));
    expect(frames).toEqual([{ a: 1 }, { b: 2 }]);
    expect(framing.skippedLines).toBe(3);
  });
});

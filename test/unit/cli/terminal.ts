// A command line without a terminal: what a command printed, and how it ended.
import { tmpdir } from "node:os";
import { runProgram } from "../../../services/cli/program.ts";
import { OutputClosed, type Shell } from "../../../services/cli/shell.ts";

export interface Surroundings {
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  /** Nobody reads any more after so many writes. */
  readonly readerLeavesAfter?: number;
}

export interface Ended {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

export const now = Date.UTC(2026, 0, 31, 18);

export async function runWords(words: readonly string[], surroundings: Surroundings = {}): Promise<Ended> {
  let output = "";
  let errors = "";
  const shell = testShell(surroundings, {
    output: (text) => (output += text),
    errors: (text) => (errors += text),
  });
  const code = await runProgram(words, shell);
  return { code, output, errors };
}

export function testShell(
  { environment = {}, directory = tmpdir(), readerLeavesAfter = Number.POSITIVE_INFINITY }: Surroundings,
  sinks: { readonly output: (text: string) => void; readonly errors: (text: string) => void },
): Shell {
  let writes = 0;
  return {
    environment,
    directory,
    errors: sinks.errors,
    now: () => now,
    sleep: async () => {},
    output: {
      terminal: false,
      async write(text) {
        if (++writes > readerLeavesAfter) throw new OutputClosed();
        sinks.output(text);
      },
    },
  };
}

// Validates texts against JSON Schemas that strangers wrote, in a thread with a time limit: a schema can be made that takes for ever to compile
// or to match.
import { Worker } from "node:worker_threads";
import type { Clock } from "../../kit/clock.ts";

export interface Validation {
  /** What is wrong: with the schema, with the text, or that it took too long; undefined: nothing. */
  readonly fault: "schema" | "text" | "late" | undefined;
  /** In a sentence. */
  readonly problem: string;
}

export interface SchemaValidator extends AsyncDisposable {
  /** `text` undefined: only the schema is looked at. */
  validate(schemaJson: string, text: string | undefined): Promise<Validation>;
}

/** What the thread is asked. */
export interface ValidationJob {
  readonly schemaJson: string;
  readonly text: string | undefined;
}

const jobMs = 2_000;

export function createSchemaValidator(clock: Clock): SchemaValidator {
  let thread: Worker | undefined;
  let last: Promise<unknown> = Promise.resolve();

  function start(): Worker {
    const started = new Worker(new URL("schema-thread.ts", import.meta.url), { env: {}, execArgv: [] });
    started.unref();
    return started;
  }

  async function run(job: ValidationJob): Promise<Validation> {
    const worker = (thread ??= start());
    const { promise, resolve } = Promise.withResolvers<Validation>();
    const broken = (error?: unknown) => {
      thread = undefined;
      resolve({
        fault: "late",
        problem: `It could not be checked${error instanceof Error ? `: ${error.message}` : "."}`,
      });
    };
    const late = () => {
      broken(new Error("that takes too long"));
      void worker.terminate();
    };
    using _ = clock.after(jobMs, late);
    worker.once("message", resolve);
    worker.once("error", broken);
    worker.once("exit", broken);
    worker.postMessage(job);
    try {
      return await promise;
    } finally {
      worker.off("message", resolve);
      worker.off("error", broken);
      worker.off("exit", broken);
    }
  }

  return {
    validate(schemaJson, text) {
      const result = last.then(() => run({ schemaJson, text }));
      last = result;
      return result;
    },
    async [Symbol.asyncDispose]() {
      await thread?.terminate();
    },
  };
}

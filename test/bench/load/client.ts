// The load generator, as the benchmark sees it.
import { startModule } from "../processes.ts";
import type { LoadAnswer, LoadCommand, LoadCounters, LoadPlan, LoadResult } from "./plan.ts";

export interface LoadGenerator extends AsyncDisposable {
  start(plan: LoadPlan): Promise<void>;
  sample(): Promise<LoadCounters>;
  /** Begins nothing new, waits up to `withinMs` for what is open, hangs up the rest. */
  stop(withinMs: number): Promise<LoadResult>;
}

const answerWithinMs = 10_000;

export function createLoadGenerator(): LoadGenerator {
  const started = startModule(new URL("./generator.ts", import.meta.url));
  const { child } = started;

  /** One command at a time. */
  const ask = <Kind extends LoadAnswer["kind"]>(command: LoadCommand, kind: Kind, withinMs: number) =>
    new Promise<Extract<LoadAnswer, { kind: Kind }>>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`The load generator ${why}. It printed:\n${started.output()}`));
      const onExit = () => settle(() => fail("ended"));
      const timer = setTimeout(() => settle(() => fail("did not answer in time")), withinMs);
      const onMessage = (message: unknown) => {
        const answer = message as LoadAnswer;
        settle(() => {
          if (answer.kind === kind) resolve(answer as Extract<LoadAnswer, { kind: Kind }>);
          else fail(`answered ${answer.kind} instead of ${kind}`);
        });
      };
      const settle = (how: () => void) => {
        clearTimeout(timer);
        child.off("exit", onExit).off("message", onMessage);
        how();
      };
      child.once("exit", onExit).once("message", onMessage);
      child.send(command, (error) => {
        if (error) settle(() => fail(`cannot be reached (${error.message})`));
      });
    });

  return {
    async start(plan) {
      await ask({ kind: "start", plan }, "started", answerWithinMs);
    },
    async sample() {
      return (await ask({ kind: "sample" }, "sample", answerWithinMs)).counters;
    },
    async stop(withinMs) {
      return (await ask({ kind: "stop", withinMs }, "stopped", withinMs + answerWithinMs)).result;
    },
    [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
  };
}

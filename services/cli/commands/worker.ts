// drawbridge worker list|drain: the workers that run. `drawbridge worker` alone runs one (serve/).
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { type ClientFlags, clientCommand, type RunClient } from "../client/command.ts";
import { span } from "../input/arguments.ts";
import { workerView } from "../output/views.ts";

interface DrainFlags extends ClientFlags {
  readonly grace?: number;
}

/** Adds to the command that runs a worker. */
export function registerWorker(worker: Command, run: RunClient): void {
  clientCommand(worker, { name: "list", summary: "list the workers that run", examples: ["worker list"] }).action(
    (flags: ClientFlags) =>
      run(flags, async ({ fleet, print }) => {
        const { workers } = await fleet.getStatus({});
        await print.list([workers], workerView);
      }),
  );

  clientCommand(worker, {
    name: "drain",
    summary: "let a worker finish what it has, then end",
    description: "The controller starts another one where the account wants it.",
    examples: ["worker drain kiro-1-0", "worker drain kiro-1-0 --grace 5m"],
  })
    .argument("<id>", "the worker")
    .option("--grace <duration>", "what still runs after that is cancelled (default: the worker's setting)", span)
    .action((id: string, flags: DrainFlags) =>
      run(flags, async ({ fleet, print }) => {
        const grace = flags.grace === undefined ? {} : { grace: durationFromMs(flags.grace) };
        const { inFlight } = await fleet.drainWorker({ workerId: id, ...grace });
        const first =
          inFlight === 0 ? "" : `; ${inFlight} ${inFlight === 1 ? "prompt finishes" : "prompts finish"} first`;
        await print.object({ id, in_flight: inFlight }, () => `Worker ${id} drains${first}.\n`);
      }),
    );
}

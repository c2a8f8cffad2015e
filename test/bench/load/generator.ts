// The load generator as a process of its own, so that its work is neither counted nor in the way of who measures.
import type { LoadAnswer, LoadCommand } from "./plan.ts";
import { type LoadSession, startLoad } from "./session.ts";

let session: LoadSession | undefined;

async function handle(command: LoadCommand): Promise<LoadAnswer> {
  if (command.kind === "start") {
    session = startLoad(command.plan);
    return { kind: "started" };
  }
  if (!session) throw new Error("No plan was started.");
  if (command.kind === "sample") return { kind: "sample", counters: session.counters() };
  return { kind: "stopped", result: await session.stop(command.withinMs) };
}

process.on("message", (command: LoadCommand) => {
  void handle(command).then((answer) => process.send?.(answer));
});
process.once("disconnect", () => process.exit(0));

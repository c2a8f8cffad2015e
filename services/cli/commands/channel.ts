// drawbridge channel: ways to an answer.
import type { Command } from "commander";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { channelView } from "../output/views.ts";

export function registerChannel(program: Command, run: RunClient): void {
  const channel = commandGroup(program, "channel", "ways to an answer: the fleet and upstreams");

  clientCommand(channel, { name: "list", summary: "list channels", examples: ["channel list"] }).action(
    (flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        const { channels } = await access.listChannels({});
        await print.list([channels], channelView);
      }),
  );
}

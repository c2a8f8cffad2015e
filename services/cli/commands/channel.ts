// drawbridge channel: ways to an answer.
import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type ChannelKey, ChannelKeySchema, type ChannelSpec, ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { DrawbridgeError } from "../../kit/errors.ts";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { list, modelNames, wholeNumber } from "../input/arguments.ts";
import { channelView } from "../output/views.ts";

interface SpecFlags extends ClientFlags {
  readonly baseUrl?: string;
  readonly keyEnv?: readonly string[];
  readonly keyFile?: readonly string[];
  readonly models?: Readonly<Record<string, string>>;
  readonly routes?: readonly string[];
  readonly priority?: number;
  readonly weight?: number;
  readonly concurrency?: number;
}

export function registerChannel(program: Command, run: RunClient): void {
  const channel = commandGroup(program, "channel", "ways to an answer: the fleet and upstreams");
  registerList(channel, run);
  registerCreate(channel, run);
  registerUpdate(channel, run);
  registerDelete(channel, run);
  registerSwitch(channel, run, "enable");
  registerSwitch(channel, run, "disable");
}

function registerList(channel: Command, run: RunClient): void {
  clientCommand(channel, {
    name: "list",
    summary: "list channels, with their states",
    description: "States and counts are those of the gateway that answers.",
    examples: ["channel list", "channel list --json"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ access, print }) => {
      const { channels } = await access.listChannels({});
      await print.list([channels], channelView);
    }),
  );
}

function registerCreate(channel: Command, run: RunClient): void {
  const command = clientCommand(channel, {
    name: "create",
    summary: "add an upstream that speaks OpenAI's API",
    description:
      "It takes requests at once. A key is named, not given: each gateway finds it in its own environment or files.",
    examples: [
      "channel create openai --base-url https://api.example.com/v1 --key-env UPSTREAM_KEY --models gpt-x,fast=gpt-x-mini",
    ],
  }).argument("<id>", "its name");
  specOptions(command).action((id: string, flags: SpecFlags) =>
    run(flags, async ({ access, print }) => {
      const spec = changed(create(ChannelSpecSchema, { id, kind: "openai", weight: 1 }), flags);
      const { channel: created } = await access.createChannel({ spec });
      await print.one(answered(created), channelView);
    }),
  );
}

function registerUpdate(channel: Command, run: RunClient): void {
  const command = clientCommand(channel, {
    name: "update",
    summary: "change a channel",
    description:
      "What is not named stays as it is; models, keys and routes are replaced as a whole. The fleet's channel has a priority and a weight. " +
      "A start brings the channels of the configuration file back.",
    examples: ["channel update openai --priority 10", "channel update fleet --priority 20"],
  }).argument("<id>", "its name");
  specOptions(command).action((id: string, flags: SpecFlags) =>
    run(flags, async ({ access, print }) => {
      const { channels } = await access.listChannels({});
      const before = channels.find((each) => each.id === id);
      if (!before?.spec) throw new DrawbridgeError("NOT_FOUND", `There is no channel "${id}".`);
      const { revision } = before;
      const { channel: updated } = await access.updateChannel({ spec: changed(before.spec, flags), revision });
      await print.one(answered(updated), channelView);
    }),
  );
}

function registerDelete(channel: Command, run: RunClient): void {
  clientCommand(channel, {
    name: "delete",
    summary: "remove a channel",
    description: "Requests that run on it finish.",
    examples: ["channel delete openai"],
  })
    .argument("<id>", "its name")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        await access.deleteChannel({ id });
        await print.object({ id, deleted: true }, () => `Channel ${id} is deleted.\n`);
      }),
    );
}

const switches = {
  enable: {
    summary: "switch a channel on",
    description: "It forgets what its breaker and its keys remembered: a key that was refused is tried again.",
  },
  disable: {
    summary: "switch a channel off",
    description:
      "It takes no new requests, also after a restart, until it is switched on; requests that run on it finish.",
  },
} as const;

function registerSwitch(channel: Command, run: RunClient, name: keyof typeof switches): void {
  clientCommand(channel, { name, ...switches[name], examples: [`channel ${name} openai`] })
    .argument("<id>", "its name")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        const { channel: switched } = await (name === "enable"
          ? access.enableChannel({ id })
          : access.disableChannel({ id }));
        await print.one(answered(switched), channelView);
      }),
    );
}

function specOptions(command: Command): Command {
  return command
    .option("--base-url <url>", "where it is, with its version part")
    .option("--key-env <names>", "variables of the gateway that hold its keys, with commas between them", list)
    .option("--key-file <paths>", "files that hold its keys, with commas between them", list)
    .option("--models <names>", "what it serves: names, or public=own, with commas between them", modelNames)
    .option("--routes <paths>", "paths below /v1 that it serves (default: all)", list)
    .option("--priority <number>", "higher ones first (default: 0)", wholeNumber)
    .option("--weight <number>", "share among channels of one priority (default: 1)", wholeNumber)
    .option("--concurrency <number>", "requests at the same time, for each gateway (default: no limit)", wholeNumber);
}

/** A specification with what the flags name. */
function changed(spec: ChannelSpec, flags: SpecFlags): ChannelSpec {
  const { baseUrl, keyEnv, keyFile, models, routes, priority, weight, concurrency } = flags;
  const keys = [
    ...(keyEnv ?? []).map((value) => keyOf({ case: "fromEnv", value })),
    ...(keyFile ?? []).map((value) => keyOf({ case: "fromFile", value })),
  ];
  return create(ChannelSpecSchema, {
    ...spec,
    ...(baseUrl === undefined ? {} : { baseUrl }),
    ...(keys.length === 0 ? {} : { apiKeys: keys }),
    ...(models === undefined ? {} : { models }),
    ...(routes === undefined ? {} : { routes: [...routes] }),
    ...(priority === undefined ? {} : { priority }),
    ...(weight === undefined ? {} : { weight }),
    ...(concurrency === undefined ? {} : { concurrency }),
  });
}

function keyOf(source: { case: "fromEnv" | "fromFile"; value: string }): ChannelKey {
  return create(ChannelKeySchema, { source });
}

// drawbridge admin-key: who may administrate.
import type { Command } from "commander";
import type { AdminRole } from "#gen/drawbridge/v1/access_service";
import { answered } from "../client/answered.ts";
import { type ClientFlags, clientCommand, commandGroup, type RunClient } from "../client/command.ts";
import { adminRole } from "../input/arguments.ts";
import { adminKeyView } from "../output/views.ts";

interface CreateFlags extends ClientFlags {
  readonly role: AdminRole;
  readonly name?: string;
}

export function registerAdminKey(program: Command, run: RunClient): void {
  const group = commandGroup(program, "admin-key", "admin keys and their roles");

  clientCommand(group, {
    name: "create",
    summary: "make an admin key",
    description: "The key is shown this once: only its hash is stored.",
    examples: ["admin-key create --role read-only --name grafana"],
  })
    .requiredOption("--role <role>", "what it may do: read-only, operator or admin", adminRole)
    .option("--name <name>", "a label for people")
    .action((flags: CreateFlags) =>
      run(flags, async ({ access, print }) => {
        const { key, secret } = await access.createAdminKey({ name: flags.name ?? "", role: flags.role });
        const { id } = answered(key);
        const text = `id   ${id}\nkey  ${secret}\nThe key is shown this once: only its hash is stored.\n`;
        await print.object({ id, key: secret }, () => text);
      }),
    );

  clientCommand(group, {
    name: "list",
    summary: "list admin keys, without the keys themselves",
    examples: ["admin-key list", "admin-key list --json"],
  }).action((flags: ClientFlags) =>
    run(flags, async ({ access, print }) => {
      const { keys } = await access.listAdminKeys({});
      await print.list([keys], adminKeyView);
    }),
  );

  clientCommand(group, {
    name: "revoke",
    summary: "end an admin key",
    description: "The last one with the role admin stays.",
    examples: ["admin-key revoke admin_01h8…"],
  })
    .argument("<id>", "the key's id, as `admin-key list` shows it")
    .action((id: string, flags: ClientFlags) =>
      run(flags, async ({ access, print }) => {
        await access.revokeAdminKey({ id });
        await print.object({ id, revoked: true }, () => `Admin key ${id} is revoked.\n`);
      }),
    );
}

// What `drawbridge up` says to the person who started it: what runs, where, and how to make the first request.
export interface BannerFacts {
  readonly version: string;
  readonly address: string;
  /** The store, as configured. */
  readonly state: string;
  readonly configuration: string | undefined;
  readonly accounts: readonly { readonly id: string; readonly agent: string; readonly models: readonly string[] }[];
  readonly channels: readonly { readonly id: string; readonly models: readonly string[] }[];
  /** Whether the accounts are there because no agent was found and none configured. */
  readonly demo: boolean;
  readonly apiKey: string | undefined;
  readonly adminKey: string | undefined;
  readonly adminKeyFile: string | undefined;
  /** Models without a price. */
  readonly unpriced: readonly string[];
  readonly logFile: string;
}

export function bannerText(facts: BannerFacts): string {
  const lines = [
    `Drawbridge ${facts.version}`,
    "",
    `  API            ${facts.address}/v1`,
    `  configuration  ${facts.configuration ?? "none (drawbridge.yaml is not there): defaults"}`,
    `  state          ${facts.state}`,
    `  log            ${facts.logFile}`,
    ...facts.accounts.map((each) => `  account        ${each.id} (agent ${each.agent}): ${each.models.join(", ")}`),
    ...facts.channels.map((each) => `  channel        ${each.id}: ${each.models.join(", ")}`),
  ];
  if (facts.demo) {
    lines.push(
      "",
      "  No agent was found on this machine, so the built-in demo agent answers: it is a small program, not a model.",
      "  Install kiro-cli and start again, or name any ACP agent in drawbridge.yaml (see README.md).",
    );
  }
  if (facts.unpriced.length > 0) {
    lines.push("", `  No price is set for ${facts.unpriced.join(", ")}: requests cost their users nothing.`);
  }
  lines.push("", ...keyLines(facts));
  return `${lines.join("\n")}\n`;
}

/** What is printed when the store was emptied while the system runs, and the keys that were in it are not known. */
export function newKeysText(facts: Pick<BannerFacts, "apiKey" | "adminKey" | "adminKeyFile">): string {
  return ["", "The store is a new one, and so are its keys:", ...keyLines(facts), ""].join("\n");
}

function keyLines(facts: Pick<BannerFacts, "apiKey" | "adminKey" | "adminKeyFile">): string[] {
  const lines: string[] = [];
  if (facts.apiKey) lines.push(`  API key        ${facts.apiKey}`);
  if (facts.adminKey) lines.push(`  admin key      ${facts.adminKey}`);
  if (facts.apiKey || facts.adminKey) {
    lines.push("                 Shown this once: only hashes are stored.");
  } else {
    lines.push("  API key        as before; `npm exec drawbridge -- key create --user default` makes another one");
  }
  if (facts.adminKeyFile)
    lines.push(`                 Commands on this machine read the admin key from ${facts.adminKeyFile}.`);
  return lines;
}

/** What is printed when the first model can be served. */
export function readyText(address: string, model: string, apiKey: string | undefined): string {
  return [
    "Ready. A first request, streamed:",
    "",
    `  curl -N ${address}/v1/chat/completions \\`,
    `    -H 'authorization: Bearer ${apiKey ?? "YOUR_API_KEY"}' -H 'content-type: application/json' \\`,
    `    -d '{"model": ${JSON.stringify(model)}, "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'`,
    "",
    `Any OpenAI SDK: base_url = ${address}/v1, and the API key. Ctrl-C stops everything.`,
    "",
  ].join("\n");
}

// Whether an account of kiro-cli is logged in. Without a login kiro-cli may wait for one for ever, or end well and say nothing, so it is
// asked first, and not for long.
import { classifyFailure } from "./errors.ts";
import type { Canary, CanaryResult } from "./profile.ts";

export function kiroCanary(binary: string): Canary {
  return { command: [binary, "whoami", "--format", "json"], timeoutMs: 20_000, verdict };
}

const advice = "log the account in with kiro-cli login in its home, or give it KIRO_API_KEY";

function verdict({ late, stdout, stderr }: CanaryResult): string | undefined {
  if (late) return `kiro-cli waited for a login; ${advice}`;
  // A version that does not know the question cannot answer it.
  if (/unrecognized subcommand|unexpected argument|invalid option|unknown (?:command|option)|Usage:/i.test(stderr))
    return undefined;
  if (classifyFailure({ text: `${stdout}\n${stderr}` }, []) === "AGENT_UNAUTHENTICATED") {
    return `kiro-cli is not logged in; ${advice}`;
  }
  if (/"(?:account_?type|accountType)"\s*:\s*null/i.test(stdout)) return `kiro-cli is not logged in; ${advice}`;
  return undefined;
}

import { describe, expect, it } from "vitest";
import { kiroCanary } from "../../../services/worker/profiles/kiro-canary.ts";

const { verdict } = kiroCanary("kiro-cli");
const said = (fields: { late?: boolean; stdout?: string; stderr?: string }) =>
  verdict({ late: false, stdout: "", stderr: "", ...fields });

describe("the canary of kiro-cli", () => {
  it.each([
    ["waits for a login", { late: true }],
    ["says so", { stderr: "error: Not logged in" }],
    ["ends well, with the reason on standard error", { stderr: "Authentication required: invalid API key" }],
    ["knows no kind of account", { stdout: '{"accountType":null}' }],
  ])("refuses an account where it %s", (_, fields) => {
    expect(said(fields)).toContain("kiro-cli login");
  });

  it.each([
    ["names the account", { stdout: '{"accountType":"BuilderId","email":"a@example.com"}' }],
    ["does not know the question", { stderr: "error: unrecognized subcommand 'whoami'" }],
    ["does not know the format", { stderr: "error: unexpected argument '--format' found" }],
  ])("passes an account where it %s", (_, fields) => {
    expect(said(fields)).toBeUndefined();
  });
});

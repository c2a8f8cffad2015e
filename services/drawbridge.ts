#!/usr/bin/env node
// The command `drawbridge`.
import { runProgram } from "./cli/program.ts";
import { processShell } from "./cli/shell.ts";

process.exitCode = await runProgram(process.argv.slice(2), processShell());

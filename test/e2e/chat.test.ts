// Chat completions as the official SDK reads them, and as bytes: in one process, and with every service apart.
import { describe } from "vitest";
import { eachSystem } from "../support/each-system.ts";
import { chatScenarios } from "./scenarios/chat.ts";

describe.each(eachSystem)("$name", ({ start }) => chatScenarios(start));

// Clients that go away: in one process, and with every service apart.
import { describe } from "vitest";
import { eachSystem } from "../support/each-system.ts";
import { disconnectScenarios } from "./scenarios/disconnect.ts";

describe.each(eachSystem)("$name", ({ start }) => disconnectScenarios(start));

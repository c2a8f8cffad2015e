// Every refusal that a client can meet: in one process, and with every service apart.
import { describe } from "vitest";
import { eachSystem } from "../support/each-system.ts";
import { errorScenarios } from "./scenarios/errors.ts";

describe.each(eachSystem)("$name", ({ start }) => errorScenarios(start));

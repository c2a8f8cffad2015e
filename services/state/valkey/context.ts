// What every part of the Valkey store is made of.
import type { Keys } from "../keys.ts";
import type { Changes } from "./changes.ts";
import type { Connection } from "./connection.ts";

export interface Context {
  readonly connection: Connection;
  readonly keys: Keys;
}

export interface ObservedContext extends Context {
  readonly changes: Changes;
}

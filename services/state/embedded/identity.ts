// The store's name.
import type { State } from "../state.ts";
import type { Database } from "./database.ts";

export function createIdentity(database: Database): State["identify"] {
  const name = () => database.get("SELECT name FROM identity WHERE id = 1")?.["name"];
  return async (proposed) => {
    const present = name();
    if (present !== undefined) return String(present);
    database.run("INSERT OR IGNORE INTO identity VALUES (1, ?)", proposed);
    return String(name());
  };
}

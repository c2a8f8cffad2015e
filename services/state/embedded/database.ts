// The SQLite file: opening it, one transaction for each operation, prepared statements.
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { DrawbridgeError } from "../../kit/errors.ts";
import { applicationId, migrations } from "./schema.ts";

export type Row = Record<string, SQLOutputValue>;

export interface Database extends Disposable {
  /** Runs `work` as one atomic, immediate transaction. A throw rolls it back. */
  transaction<T>(work: () => T): T;
  get(sql: string, ...values: SQLInputValue[]): Row | undefined;
  all(sql: string, ...values: SQLInputValue[]): Row[];
  /** How many rows were changed. */
  run(sql: string, ...values: SQLInputValue[]): number;
  /** The next value of a counter that only grows. */
  next(counter: string): number;
  /** Changes when another connection has written. */
  dataVersion(): number;
  /** Brings the rest of the write-ahead log into the file, so that the next write begins it anew. Waits for the disk. */
  restartLog(): void;
}

/** Stands for a store in memory, which ends with its owner. */
export const inMemoryPath = ":memory:";

/** How long an operation waits for another process's transaction, in ms. */
const busyTimeoutMs = 5_000;

export function openDatabase(path: string): Database {
  const connection = guard(path, () => {
    if (path !== inMemoryPath) prepareFile(path);
    return new DatabaseSync(path, { timeout: busyTimeoutMs });
  });
  try {
    guard(path, () => {
      checkIdentity(connection, path);
      if (path !== inMemoryPath) chmodSync(path, 0o600);
      // Commits survive the process without a flush to the disk each; a power cut may take the last ones. Checkpoints are made elsewhere.
      connection.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;");
      migrate(connection);
    });
  } catch (error) {
    connection.close();
    throw error;
  }
  return wrap(connection, path);
}

/** Makes the folder and the file where they are not there yet. SQLite's side files take over the file's mode. */
function prepareFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
}

/** Refuses, before anything is written, a file that is not a store of this version or an earlier one. */
function checkIdentity(connection: DatabaseSync, path: string): void {
  if (pragma(connection, "application_id") === applicationId) {
    if (pragma(connection, "user_version") <= migrations.length) return;
    const message = `${path} was written by a newer version of Drawbridge. Use that version, or name another file in "state".`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message);
  }
  if (connection.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get()) throw notOurs(path);
}

function migrate(connection: DatabaseSync): void {
  connection.exec("BEGIN IMMEDIATE");
  try {
    // Read inside the transaction: another process may have been first.
    for (const migration of migrations.slice(pragma(connection, "user_version"))) connection.exec(migration);
    connection.exec(`PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${migrations.length}; COMMIT`);
  } catch (error) {
    if (connection.isTransaction) connection.exec("ROLLBACK");
    throw error;
  }
}

function pragma(connection: DatabaseSync, name: "application_id" | "user_version"): number {
  return Number(connection.prepare(`PRAGMA ${name}`).get()?.[name]);
}

function wrap(connection: DatabaseSync, path: string): Database {
  const statements = new Map<string, StatementSync>();
  const prepare = (sql: string): StatementSync => {
    let statement = statements.get(sql);
    if (!statement) {
      statement = connection.prepare(sql);
      statements.set(sql, statement);
    }
    return statement;
  };
  const database: Database = {
    transaction(work) {
      return guard(path, () => {
        prepare("BEGIN IMMEDIATE").run();
        try {
          const result = work();
          prepare("COMMIT").run();
          return result;
        } catch (error) {
          if (connection.isTransaction) prepare("ROLLBACK").run();
          throw error;
        }
      });
    },
    get: (sql, ...values) => guard(path, () => prepare(sql).get(...values) as Row | undefined),
    all: (sql, ...values) => guard(path, () => prepare(sql).all(...values) as Row[]),
    run: (sql, ...values) => guard(path, () => Number(prepare(sql).run(...values).changes)),
    next(counter) {
      const row = database.get(
        "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        counter,
      );
      return Number(row?.["value"]);
    },
    dataVersion: () => Number(database.get("PRAGMA data_version")?.["data_version"]),
    restartLog: () => void database.get("PRAGMA wal_checkpoint(RESTART)"),
    [Symbol.dispose]() {
      statements.clear();
      connection.close();
    },
  };
  return database;
}

/** Sets columns of the row of this id. */
export function updateColumns(
  database: Database,
  table: "users" | "api_keys",
  id: string,
  columns: Readonly<Record<string, SQLInputValue>>,
): void {
  const names = Object.keys(columns);
  if (names.length === 0) return;
  const assignments = names.map((name) => `${name} = ?`).join(", ");
  database.run(`UPDATE ${table} SET ${assignments} WHERE id = ?`, ...Object.values(columns), id);
}

/** SQLite's errors, and the file system's, as ours. */
function guard<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof DrawbridgeError) throw error;
    throw storeError(path, error);
  }
}

/** SQLite's primary result codes (sqlite.org/rescode.html). */
const busyCode = 5;
const lockedCode = 6;
const corruptCode = 11;
const readOnlyCode = 8;
const cannotOpenCode = 14;
const notADatabaseCode = 26;

/** The file system's own words for a path that cannot hold the store. */
const fileErrors = ["EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOTDIR", "EPERM", "EROFS"];

function notOurs(path: string, cause?: unknown): DrawbridgeError {
  const message = `${path} is no Drawbridge store, or is damaged. Name another file in "state", or restore a copy.`;
  return new DrawbridgeError("INVALID_ARGUMENT", message, { cause });
}

function storeError(path: string, error: unknown): unknown {
  const code = (error as { errcode?: number }).errcode;
  const primary = code === undefined ? undefined : code & 0xff;
  if (primary === busyCode || primary === lockedCode) {
    return new DrawbridgeError("STATE_UNAVAILABLE", "The store is busy. Try again.", {
      cause: error,
      retryAfterMs: 1_000,
    });
  }
  if (primary === notADatabaseCode || primary === corruptCode) {
    return notOurs(path, error);
  }
  const systemCode = (error as NodeJS.ErrnoException).code ?? "";
  if (primary === cannotOpenCode || primary === readOnlyCode || fileErrors.includes(systemCode)) {
    const message = `The store ${path} cannot be opened: check that the folder is there and that this user may write in it.`;
    return new DrawbridgeError("INVALID_ARGUMENT", message, { cause: error });
  }
  if (systemCode === "ERR_INVALID_STATE") {
    return new DrawbridgeError("STATE_UNAVAILABLE", "The store is closed.", { cause: error, retryAfterMs: 1_000 });
  }
  if (primary !== undefined) {
    return new DrawbridgeError("STATE_UNAVAILABLE", `The store failed: ${(error as Error).message}.`, {
      cause: error,
      retryAfterMs: 5_000,
    });
  }
  return error;
}

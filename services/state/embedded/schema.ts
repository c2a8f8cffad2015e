// The tables of the embedded store. A new version appends a migration; a file from a newer program is refused.

/** Marks a SQLite file as ours (PRAGMA application_id): "DRAW". */
export const applicationId = 0x44524157;

/** Each entry brings the file from the version of its index to the next one. */
export const migrations: readonly string[] = [
  `
  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    incarnation TEXT NOT NULL,
    record TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX workers_by_expiry ON workers (expires_at);

  CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    managed_by TEXT NOT NULL,
    conditions TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Outlives its account, so that running leases settle into the books.
  CREATE TABLE credits (
    account_id TEXT PRIMARY KEY,
    granted INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    spent INTEGER NOT NULL CHECK (spent >= 0),
    CHECK (granted = available + held + spent)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE credit_grants (
    account_id TEXT NOT NULL, grant_id TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (account_id, grant_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE leases (
    account_id TEXT NOT NULL,
    attempt_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    worker_incarnation TEXT NOT NULL,
    model TEXT NOT NULL,
    millicredits INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    settled_at INTEGER,
    charged INTEGER,
    PRIMARY KEY (account_id, attempt_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX leases_open ON leases (account_id, worker_id, expires_at) WHERE settled_at IS NULL;
  CREATE INDEX leases_open_by_expiry ON leases (expires_at) WHERE settled_at IS NULL;
  CREATE INDEX leases_settled ON leases (settled_at) WHERE settled_at IS NOT NULL;

  CREATE TABLE outcomes (
    attempt_id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    content INTEGER NOT NULL,
    record TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outcomes_final ON outcomes (request_id, recorded_at) WHERE content = 1;
  CREATE INDEX outcomes_by_expiry ON outcomes (expires_at);

  CREATE TABLE breakers (account_id TEXT PRIMARY KEY, record TEXT NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE users (
    id TEXT PRIMARY KEY,
    tier TEXT NOT NULL,
    granted INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available >= 0),
    held INTEGER NOT NULL CHECK (held >= 0),
    spent INTEGER NOT NULL CHECK (spent >= 0),
    requests_level REAL,
    tokens_level REAL,
    levels_at INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    CHECK (granted = available + held + spent)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE quota_grants (
    user_id TEXT NOT NULL, grant_id TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (user_id, grant_id)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    models TEXT NOT NULL,
    allowed_addresses TEXT NOT NULL,
    budget INTEGER,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    expires_at INTEGER,
    revoked_at INTEGER,
    created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX api_keys_by_user ON api_keys (user_id, id);
  CREATE TABLE admin_keys (hash TEXT PRIMARY KEY, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE tiers (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE prices (model TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE holds (
    user_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    micros INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    price TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, request_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX holds_by_user ON holds (user_id, expires_at);
  CREATE INDEX holds_by_expiry ON holds (expires_at);

  CREATE TABLE usage (
    user_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    account_id TEXT NOT NULL,
    input_tokens INTEGER,
    cached_input_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    source INTEGER,
    micros INTEGER NOT NULL,
    millicredits INTEGER NOT NULL,
    end INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (user_id, request_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX usage_by_user ON usage (user_id, at, request_id);
  CREATE INDEX usage_by_time ON usage (at, request_id, user_id);

  CREATE TABLE idempotency (
    user_id TEXT NOT NULL, key TEXT NOT NULL,
    request_id TEXT NOT NULL, body_hash TEXT NOT NULL, expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

  CREATE TABLE events (revision INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL) STRICT;
  CREATE TABLE leader (
    id INTEGER PRIMARY KEY CHECK (id = 1), owner TEXT NOT NULL, epoch INTEGER NOT NULL, expires_at INTEGER NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE demand (
    model TEXT NOT NULL, scheduler_id TEXT NOT NULL, waiting INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    PRIMARY KEY (model, scheduler_id)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE channels (id TEXT PRIMARY KEY, record TEXT NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  `,
  `
  -- Budgets: a period names the window that is counted (budgets.ts). Levels of a key: as a user's.
  ALTER TABLE users ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE users ADD COLUMN deleted_at INTEGER;
  ALTER TABLE users ADD COLUMN budget INTEGER;
  ALTER TABLE users ADD COLUMN budget_window INTEGER NOT NULL DEFAULT 1;
  ALTER TABLE users ADD COLUMN period TEXT NOT NULL DEFAULT '';
  ALTER TABLE users ADD COLUMN period_spent INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE users ADD COLUMN period_held INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE api_keys ADD COLUMN budget_window INTEGER NOT NULL DEFAULT 1;
  ALTER TABLE api_keys ADD COLUMN period TEXT NOT NULL DEFAULT '';
  ALTER TABLE api_keys ADD COLUMN period_spent INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE api_keys ADD COLUMN period_held INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE api_keys ADD COLUMN limits TEXT;
  ALTER TABLE api_keys ADD COLUMN requests_level REAL;
  ALTER TABLE api_keys ADD COLUMN tokens_level REAL;
  ALTER TABLE api_keys ADD COLUMN levels_at INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE api_keys ADD COLUMN previous_hash TEXT;
  ALTER TABLE api_keys ADD COLUMN previous_ends_at INTEGER;
  CREATE INDEX api_keys_by_previous_hash ON api_keys (previous_hash) WHERE previous_hash IS NOT NULL;
  ALTER TABLE holds ADD COLUMN user_budget INTEGER;
  ALTER TABLE holds ADD COLUMN user_period TEXT NOT NULL DEFAULT '';
  ALTER TABLE holds ADD COLUMN key_budget INTEGER;
  ALTER TABLE holds ADD COLUMN key_period TEXT NOT NULL DEFAULT '';

  -- Those that were there could do everything.
  ALTER TABLE admin_keys RENAME TO old_admin_keys;
  CREATE TABLE admin_keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, prefix TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, role INTEGER NOT NULL, created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  INSERT INTO admin_keys SELECT 'admin_' || substr(hash, 1, 16), '', '', hash, 3, created_at FROM old_admin_keys;
  DROP TABLE old_admin_keys;

  CREATE TABLE codes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    micros INTEGER NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    redeemed_by TEXT,
    redeemed_at INTEGER
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE identity (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL) STRICT;
  `,
];

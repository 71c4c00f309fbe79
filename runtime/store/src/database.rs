//! The one SQLite file: schema, connection, transactions.
//!
//! Statements are prepared once per connection. A write takes the database's lock when it begins, so that it never
//! fails halfway because another process was faster. `synchronous=NORMAL`: power loss may take back the last
//! transactions, in order, and never tears one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::database::failure::explain;
use crate::place::Unsuitable;
use crate::{Result, StoreError, damage};

mod failure;

/// How long a transaction waits for those of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// States of a snapshot: 0 active, 1 committed, 2 being removed; `owner` names the lock of the process that writes or
/// removes it. Ids are never used twice, and a child's id is larger than its parent's.
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        parent INTEGER REFERENCES snapshots (id),
        state INTEGER NOT NULL,
        owner TEXT,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        content_key BLOB,
        synced INTEGER NOT NULL DEFAULT 0,
        created_unix INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX snapshots_parent ON snapshots (parent) WHERE parent IS NOT NULL;
    CREATE UNIQUE INDEX snapshots_content ON snapshots (content_key) WHERE state = 1 AND content_key IS NOT NULL;
    CREATE INDEX snapshots_unfinished ON snapshots (owner) WHERE state <> 1;
    CREATE INDEX snapshots_unsynced ON snapshots (id) WHERE state = 1 AND synced = 0;

    CREATE TABLE results (id INTEGER PRIMARY KEY, value BLOB NOT NULL, created_unix INTEGER NOT NULL) STRICT;
    CREATE TABLE record_keys (
        key BLOB PRIMARY KEY,
        result INTEGER NOT NULL REFERENCES results (id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX record_keys_result ON record_keys (result);
    CREATE TABLE result_snapshots (
        result INTEGER NOT NULL REFERENCES results (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        snapshot INTEGER NOT NULL REFERENCES snapshots (id),
        PRIMARY KEY (result, place)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX result_snapshots_snapshot ON result_snapshots (snapshot);

    CREATE TABLE images (
        name TEXT PRIMARY KEY,
        blob BLOB NOT NULL,
        descriptor TEXT NOT NULL,
        created_unix INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX images_blob ON images (blob);

    CREATE TABLE layers (
        key BLOB PRIMARY KEY,
        diff_id BLOB NOT NULL,
        blob BLOB NOT NULL,
        descriptor TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layers_blob ON layers (blob);

    CREATE TABLE stat_directories (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE stat_entries (
        directory INTEGER NOT NULL REFERENCES stat_directories (id) ON DELETE CASCADE,
        path BLOB NOT NULL,
        entry BLOB NOT NULL,
        PRIMARY KEY (directory, path)
    ) STRICT, WITHOUT ROWID;
";

/// What came later, under its number: additions that an older program can do without. What it could not do without
/// raises [`crate::FORMAT`].
const ADDITIONS: [&str; 6] = [
    "
    CREATE TABLE tombstones (key BLOB PRIMARY KEY, reason INTEGER NOT NULL, gone_unix INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX tombstones_gone ON tombstones (gone_unix);
",
    // Of a snapshot that was made before, or by an older program, neither is known.
    "
    ALTER TABLE snapshots ADD COLUMN seal BLOB;
    ALTER TABLE snapshots ADD COLUMN own_key BLOB;
",
    "
    CREATE TABLE origins (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        blob BLOB NOT NULL,
        repository TEXT NOT NULL,
        UNIQUE (blob, repository)
    ) STRICT;
",
    // An older program would take each for a layer of its own, and so this came with a format.
    "
    ALTER TABLE snapshots ADD COLUMN continues INTEGER NOT NULL DEFAULT 0;
",
    // An older program keeps them for longer.
    "
    CREATE TABLE failures (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        step BLOB NOT NULL,
        about TEXT NOT NULL,
        failed_unix INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE failure_snapshots (
        failure INTEGER NOT NULL REFERENCES failures (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        snapshot INTEGER NOT NULL,
        own INTEGER NOT NULL,
        PRIMARY KEY (failure, place)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX failure_snapshots_snapshot ON failure_snapshots (snapshot);
",
    // An older program holds no leases, so that what it needs could go under it: this, too, came with a format.
    "
    CREATE TABLE uses (
        item TEXT PRIMARY KEY,
        base REAL NOT NULL,
        uses INTEGER NOT NULL,
        used_unix INTEGER NOT NULL,
        cost_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE pins (item TEXT PRIMARY KEY, pinned_unix INTEGER NOT NULL) STRICT, WITHOUT ROWID;
",
];

/// One connection, used by one thread at a time.
pub(crate) struct Database {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// The file that was opened; another one may take its path.
    inode: Option<u64>,
}

impl Database {
    /// Makes the database, or finishes making it; the caller holds the lock of the root. Snapshots get ids above
    /// `last_snapshot`.
    pub(crate) fn create(path: &Path, last_snapshot: u64) -> Result<()> {
        let make = || -> rusqlite::Result<bool> {
            let mut connection = Connection::open(path)?;
            // Without shared memory on this file system SQLite stays with another journal, and says no more than that.
            let mode: String =
                connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            if mode != "wal" {
                return Ok(false);
            }
            connection.pragma_update(None, "synchronous", "full")?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if !is_made(&transaction)? {
                transaction.execute_batch(SCHEMA)?;
                transaction.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('snapshots', ?)",
                    [to_sql(last_snapshot)],
                )?;
            }
            add(&transaction)?;
            transaction.commit().map(|()| true)
        };
        if make().map_err(|error| explain(path, error.into()))? {
            return Ok(());
        }
        let root = path.parent().unwrap_or(path).to_owned();
        Err(StoreError::Unsuitable {
            root,
            reason: Unsuitable::Lacks { what: "files mapped by several processes" },
        })
    }

    /// Opens the database, which is there and complete.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        use rusqlite::OpenFlags;
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")?;
            connection.set_prepared_statement_cache_capacity(64);
            Ok(connection)
        };
        let inode = damage::inode_of(path);
        let mut connection = open().map_err(|error| explain(path, error.into()))?;
        // What lacks the schema itself is not changed: reading it will say so.
        let is_older = || Ok(additions(&connection)? < ADDITIONS.len() && is_made(&connection)?);
        if is_older().map_err(|error: rusqlite::Error| explain(path, error.into()))? {
            let mut add = || {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                add(&transaction)?;
                transaction.commit()
            };
            add().map_err(|error| explain(path, error.into()))?;
        }
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), inode })
    }

    /// Looks at every page, as SQLite's quick check does: `Damaged` where one is not what it should be.
    pub(crate) fn check(&self) -> Result<()> {
        let said: String =
            self.read(|connection| Ok(connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?))?;
        if said == "ok" {
            return Ok(());
        }
        Err(self.told(StoreError::Damaged { path: self.path.clone(), reason: said }))
    }

    /// Explains a failure, and remembers damage for the next open.
    fn told(&self, error: StoreError) -> StoreError {
        let error = explain(&self.path, error);
        if let (StoreError::Damaged { .. }, Some(inode)) = (&error, self.inode) {
            damage::mark(&self.path, inode);
        }
        error
    }

    /// Runs queries. Each sees one state of the database.
    pub(crate) fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        body(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
            .map_err(|error| self.told(error))
    }

    /// Runs a transaction: all of it happens, or, on an error, nothing.
    pub(crate) fn write<T>(&self, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let run = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error: StoreError| self.told(error))
    }
}

/// Returns how many of the additions the database has.
fn additions(connection: &Connection) -> rusqlite::Result<usize> {
    let number: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(number).unwrap_or(0))
}

/// Makes the additions that are missing.
fn add(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let there = additions(transaction)?;
    if there >= ADDITIONS.len() {
        return Ok(()); // another process was faster, or a newer one
    }
    ADDITIONS[there..].iter().try_for_each(|addition| transaction.execute_batch(addition))?;
    transaction.pragma_update(None, "user_version", to_sql(ADDITIONS.len() as u64))
}

/// Says whether the database has its schema, which is made as a whole.
fn is_made(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'meta')";
    connection.query_row(query, [], |row| row.get(0))
}

/// SQLite's integers are signed; sizes and ids of ours fit.
pub(crate) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back of [`to_sql`].
pub(crate) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

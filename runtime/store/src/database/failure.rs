//! What SQLite's failures mean to whoever runs the program.

use std::path::Path;

use rusqlite::ErrorCode;
use rustix::fs::Access;
use rustix::io::Errno;

use crate::StoreError;

/// SQLite's code of a read that ended before the page did.
const SHORT_READ: i32 = rusqlite::ffi::SQLITE_IOERR_SHORT_READ;

/// SQLite's codes of a key that is there already, and of a row that should be there and is not.
const BROKEN: [i32; 5] = [
    rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    rusqlite::ffi::SQLITE_CONSTRAINT_ROWID,
    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
    rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY,
    rusqlite::ffi::SQLITE_CONSTRAINT_NOTNULL,
];

/// Replaces a raw failure of the database at `path` by one that says who has to do what, where that can be told.
pub(super) fn explain(path: &Path, error: StoreError) -> StoreError {
    let StoreError::Database(error) = error else { return error };
    let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
    match &error {
        rusqlite::Error::SqliteFailure(failure, message) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                damaged(message.clone().unwrap_or_else(|| failure.to_string()))
            }
            ErrorCode::DiskFull => StoreError::DiskFull { path: path.to_owned(), left_bytes: None },
            ErrorCode::SystemIoFailure if failure.extended_code == SHORT_READ => {
                damaged("it ends in the middle of a page".to_owned())
            }
            // Who adds a row has looked, in the same transaction, for one of its key and for those that it names.
            ErrorCode::ConstraintViolation if BROKEN.contains(&failure.extended_code) => {
                damaged(message.clone().unwrap_or_else(|| failure.to_string()))
            }
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly => {
                refusal(path).unwrap_or(StoreError::Database(error))
            }
            ErrorCode::Unknown => lacking(message.as_deref()).map_or(StoreError::Database(error), damaged),
            _ => StoreError::Database(error),
        },
        // Statements are compiled against the schema that is there.
        rusqlite::Error::SqlInputError { msg, .. } => {
            lacking(Some(msg)).map_or(StoreError::Database(error), damaged)
        }
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => damaged(error.to_string()),
        _ => StoreError::Database(error),
    }
}

/// Says which part of the schema is not there.
fn lacking(message: Option<&str>) -> Option<String> {
    message.filter(|text| text.starts_with("no such ")).map(str::to_owned)
}

/// Finds out why the database's files cannot be written. Nothing is opened: to close a file again would take SQLite's
/// locks away from this process.
fn refusal(path: &Path) -> Option<StoreError> {
    let root = path.parent().unwrap_or(path);
    for path in [root, path] {
        match rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK) {
            Err(Errno::ROFS) => return Some(StoreError::ReadOnly { path: path.to_owned() }),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Some(StoreError::NoPermission { action: "write", path: path.to_owned() });
            }
            Ok(()) | Err(_) => {}
        }
    }
    let statistics = rustix::fs::statvfs(root).ok()?;
    let counts_inodes = statistics.f_files > 0;
    let full = statistics.f_bavail == 0 || (counts_inodes && statistics.f_favail == 0);
    full.then(|| StoreError::DiskFull { path: path.to_owned(), left_bytes: None })
}

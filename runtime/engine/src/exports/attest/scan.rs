//! Statements that a scanner wrote: a file each, in the root of a tree.
//!
//! What is about nobody is about what was scanned. Files and their number are bounded, and links are not followed.
//! Source: BuildKit's `docs/attestations/sbom-protocol.md`, and how it takes such a folder apart.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;

use rb_exporters::{Statement, Subject};
use rb_snapshot::{Entry, FileType, SnapshotError, View};
use serde::Deserialize;
use serde_json::Value;

use super::Named;
use crate::error::EngineError;

/// What a scanner says.
const SPDX: &str = "https://spdx.dev/Document";
/// Largest statement.
const LIMIT_BYTES: u64 = 40 << 20;
/// All of them together.
const TOTAL_LIMIT_BYTES: u64 = 160 << 20;
/// How many there may be.
const LIMIT: usize = 1_000;
/// What the statement about the result itself is called, before the first dot.
const CORE: &str = "sbom";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    predicate_type: String,
    #[serde(default)]
    subject: Option<Vec<About>>,
    predicate: Value,
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    name: String,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Reads the statements of a scanner, the one about the result itself first.
pub(super) fn statements(view: &View, subjects: &[Subject]) -> Result<Vec<Named>, EngineError> {
    let entries = view.read_dir("/")?;
    if entries.len() > LIMIT {
        return Err(wrong("what the scanner wrote", format!("is more than {LIMIT} files"), None));
    }
    let total: u64 = entries.values().map(|entry| entry.metadata.size_bytes).sum();
    if total > TOTAL_LIMIT_BYTES {
        let reason = format!("is more than {} MiB", TOTAL_LIMIT_BYTES >> 20);
        return Err(wrong("what the scanner wrote", reason, None));
    }
    let mut statements = Vec::with_capacity(entries.len());
    for (name, entry) in &entries {
        statements.push(statement(view, name, entry, subjects)?);
    }
    if statements.is_empty() {
        let help = "a scanner writes `sbom.spdx.json` into the folder that $BUILDKIT_SCAN_DESTINATION names";
        return Err(wrong("the scanner", "wrote no statement".to_owned(), Some(help)));
    }
    statements.sort_by_key(|named| named.file.split('.').next() != Some(CORE));
    Ok(statements)
}

fn statement(view: &View, name: &OsStr, entry: &Entry, subjects: &[Subject]) -> Result<Named, EngineError> {
    let file = name.to_string_lossy().into_owned();
    let what = format!("the scanner's statement `{file}`");
    if entry.metadata.file_type != FileType::File {
        return Err(wrong(&what, "is not a regular file".to_owned(), None));
    }
    let mut bytes = Vec::new();
    let read = view.open(entry)?.take(LIMIT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| SnapshotError::Io { action: "read", path: entry.path.clone(), source })?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(wrong(&what, format!("is larger than {} MiB", LIMIT_BYTES >> 20), None));
    }
    let written: Written = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(&what, format!("is no in-toto statement: {error}"), None))?;
    if written.predicate_type != SPDX {
        let reason = format!("says `{}`, and a scanner's say `{SPDX}`", written.predicate_type);
        return Err(wrong(&what, reason, None));
    }
    let own = written.subject.unwrap_or_default();
    let subjects = match own.is_empty() {
        true => subjects.to_vec(),
        false => own.into_iter().map(|About { name, digest }| Subject { name, digest }).collect(),
    };
    let statement =
        Statement { predicate_type: written.predicate_type, subjects, predicate: written.predicate };
    Ok(Named { file, statement })
}

fn wrong(what: &str, reason: String, help: Option<&str>) -> EngineError {
    EngineError::Image { what: what.to_owned(), reason, help: help.map(ToOwned::to_owned) }
}

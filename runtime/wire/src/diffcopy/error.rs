//! What can go wrong between the two ends of an exchange.

use std::io;

use tonic::Status;

/// Why a tree did not come over.
#[derive(Debug, thiserror::Error)]
pub enum DiffCopyError {
    /// The other side gave up, and said why.
    #[error("the other side gave up: {0}")]
    Told(String),
    /// The stream broke.
    #[error("the stream of files broke")]
    Transport(#[source] Box<Status>),
    /// The stream ended too early.
    #[error("the stream of files ended before all was sent")]
    Ended,
    /// A packet that makes no sense where it came.
    #[error("{what}{}", .id.map(|id| format!(" (file {id})")).unwrap_or_default())]
    Protocol {
        /// What is wrong with it.
        what: &'static str,
        /// The number of a file, where it is about one.
        id: Option<u32>,
    },
    /// An entry that may not be.
    #[error("the entry `{path}` is refused: {reason}")]
    Entry {
        /// Its path, shortened.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// More than is taken.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
    /// A file of this side cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not as it was told.
    #[error("`{path}` changed as it was sent")]
    Changed {
        /// Its path.
        path: String,
    },
    /// What came cannot be written.
    #[error("`{path}` cannot be written")]
    Write {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread of this side died.
    #[error("a thread that handles files ended early")]
    Thread,
}

impl DiffCopyError {
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::Protocol { what, id: None }
    }

    pub(super) fn of_file(what: &'static str, id: u32) -> Self {
        Self::Protocol { what, id: Some(id) }
    }

    pub(super) fn entry(path: &str, reason: &'static str) -> Self {
        let path = path.chars().take(200).collect::<String>().escape_debug().to_string();
        Self::Entry { path, reason }
    }
}

impl From<Status> for DiffCopyError {
    fn from(status: Status) -> Self {
        Self::Transport(Box::new(status))
    }
}

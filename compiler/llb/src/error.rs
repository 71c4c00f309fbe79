//! What can be wrong with LLB.

use std::sync::Arc;

use rb_diag::ErrorKind;
use rb_oci::Digest;

/// A definition that came is not one, or a node that was built cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlbError {
    /// Bytes are not the message they should be.
    #[error("the bytes of the {what} are not valid protobuf: {detail}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// A message holds more than anyone needs.
    #[error("the {what} is too large: {actual}, at most {limit} allowed")]
    TooLarge {
        /// Which message or list.
        what: &'static str,
        /// How much it has.
        actual: usize,
        /// How much it may have.
        limit: usize,
    },
    /// A text that should be a digest is none.
    #[error("the {what} is not a digest: {source}")]
    Digest {
        /// Where it stands.
        what: &'static str,
        /// What is wrong with it.
        source: Arc<rb_oci::DigestError>,
    },
    /// An enum has a number without a meaning.
    #[error("{what} has the unknown value {value}")]
    UnknownValue {
        /// The field.
        what: &'static str,
        /// Its number.
        value: i64,
    },
    /// A number lies outside the list it points into.
    #[error("{what} is {index}, but must be below {limit}")]
    Index {
        /// The field.
        what: &'static str,
        /// Its number.
        index: i64,
        /// First number that is too large.
        limit: u64,
    },
    /// An op lacks what it needs.
    #[error("{0}")]
    Invalid(&'static str),
    /// An op is of a kind that this version does not know.
    #[error("operations of the kind `{kind}` are not supported")]
    Unsupported {
        /// Its name in LLB.
        kind: &'static str,
    },
    /// An input is not among the ops before it.
    #[error("input {input} is not among the operations before the one that uses it")]
    MissingInput {
        /// The digest asked for.
        input: Digest,
    },
    /// An op was found wrong; the cause follows.
    #[error("operation {vertex} is invalid")]
    Vertex {
        /// Digest of the op.
        vertex: Digest,
        /// What is wrong with it.
        source: Box<Self>,
    },
    /// A node that a frontend built is wrong; the cause follows.
    #[error("cannot build the operation `{name}`")]
    Builder {
        /// How the op shows itself.
        name: String,
        /// What is wrong with it.
        source: Box<Self>,
    },
}

impl LlbError {
    /// Returns who has to act: frontends check what users write, so a node that cannot be built is our bug.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Builder { .. } => ErrorKind::Internal,
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Digest { .. }
            | Self::UnknownValue { .. }
            | Self::Index { .. }
            | Self::Invalid(_)
            | Self::Unsupported { .. }
            | Self::MissingInput { .. }
            | Self::Vertex { .. } => ErrorKind::Input,
        }
    }
}

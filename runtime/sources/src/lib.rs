//! Where trees come from: the user's folders, OCI layouts, this machine.
//!
//! In: what a source op of LLB names, and the client's session. Out: content to be keyed and read. Synchronous; the
//! engine decides when.

mod archive;
pub mod bundle;
mod error;
mod files;
mod filter;
mod follow;
pub mod host;
pub mod layout;
pub mod local;
pub mod unpack;
mod unpacked;

pub use error::SourceError;
pub use follow::{follow, literal};

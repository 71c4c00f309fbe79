//! Where trees come from: the user's folders, OCI layouts, repositories of git, files of the web, this machine.
//!
//! In: what a source op of LLB names, and the client's session. Out: content to be keyed and read. Synchronous; the
//! engine decides when.

mod archive;
pub mod bundle;
mod error;
mod files;
mod filter;
mod follow;
pub mod git;
pub mod host;
pub mod layout;
pub mod local;
pub mod packed;
pub mod signature;
mod single;
pub mod unpack;
mod unpacked;
pub mod web;
pub mod zipped;

pub use error::SourceError;
pub use follow::{follow, literal};
pub use single::SingleFile;

//! How a tree of files travels so that only what changed is sent.
//!
//! Who has the tree tells all its entries, sorted ([`send()`]); who wants it asks for the files that it lacks, by their number in
//! that list, and gets them in pieces ([`Receiver`]). An entry with nothing in it ends the list, a piece with nothing in it ends a
//! file, and a farewell is answered by one.
//! **Invariants:** of what the other side tells, no path leads out or through a link, each folder comes before what is in it and
//! each name once; no number is taken that was not given; nobody's file is longer or shorter than was said.
//! Source: fsutil's `send.go`, `receive.go`, `validator.go`; its modes are those of Go ([`entry`]).

pub mod entry;
mod error;
mod index;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Kind, compare, to_list};
pub use error::DiffCopyError;
pub use index::Limits;
pub use receive::{Receiver, Sink};
pub use send::{Files, Sent, send};

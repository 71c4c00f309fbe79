//! Diagnostics as data: where text came from, and what is wrong with it.
//!
//! In: file names and texts, byte ranges, messages. Out: [`Diagnostic`] values that a terminal, an editor or a
//! test renders in its own way. This crate does no IO and knows no language.
//! **Invariant:** a [`Span`] is a half-open UTF-8 byte range of the [`SourceFile`] whose id it carries.

mod chain;
mod diagnostic;
mod findings;
mod near;
mod source;

pub use chain::chain;
pub use diagnostic::{Diagnostic, Diagnostics, ErrorKind, Label, Severity};
pub use findings::Findings;
pub use near::nearest;
pub use source::{LineColumn, SourceFile, SourceId, SourceMap, Span, Spanned};

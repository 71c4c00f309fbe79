//! Text → tree, and every error of the text.
//!
//! In: a [`SourceFile`]. Out: always both a [`Buildfile`] (with what could be read) and all
//! diagnostics. What names mean is left to `rb-buildfile`. The grammar is `grammar/buildfile.pest`.
//!
//! In three steps: `entries` reads the text line by line with the grammar, `statements` turns the words of one
//! line into a statement, `file` puts them below their targets.
//! **Invariant:** a line that is wrong costs that line alone; what stands around it is read and checked.

mod ast;
mod codes;
mod commands;
mod entries;
mod file;
mod flags;
mod report;
mod statements;

use rb_diag::SourceFile;

pub use ast::*;
pub use codes::CODES;

/// The longest text that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// What parsing gives: a tree and the errors beside it.
#[derive(Debug)]
pub struct Parse {
    /// All that could be read.
    pub buildfile: Buildfile<Parsed>,
    /// Everything that is wrong, in the order of the text.
    pub diagnostics: rb_diag::Diagnostics,
}

/// Parses a build file. Never fails as a whole; takes time linear in the text's length.
///
/// The tree is fit for building only where no diagnostic is an error: a statement that could not be read is left out.
pub fn parse(file: &SourceFile) -> Parse {
    file::parse_file(file)
}

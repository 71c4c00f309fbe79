//! Text → tree, and every error of the text.
//!
//! In: a [`SourceFile`]. Out: always both a [`Buildfile`] (with what could be read) and all
//! diagnostics; and, where asked for, the lossless [`Tree`] of every byte. What names mean is left to
//! `rb-buildfile`. The grammar is `grammar/buildfile.pest`.
//!
//! In four steps: `entries` reads the text line by line with the grammar, `statements` turns the words of one line
//! into a statement, `blocks` puts those between IF and END together, `file` puts all below their headers.
//! **Invariant:** a line that is wrong costs that line alone (of a block, the block); what stands around it is read
//! and checked.

mod ast;
mod blocks;
mod codes;
mod commands;
mod docs;
mod entries;
mod file;
mod flags;
mod grammar;
mod headers;
mod heredoc;
mod json;
mod lines;
mod report;
mod statements;
mod tree;
mod unknown;

use rb_diag::SourceFile;

pub use ast::*;
pub use codes::CODES;
pub use commands::statements;
pub use json::to_json;
pub use statements::{dockerfile_of, is_stage_name};
pub use tree::{Node, Tree, tree};

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

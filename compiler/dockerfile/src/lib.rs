//! Dockerfiles: what they say, and the graph they stand for.
//!
//! In: the text of a Dockerfile, the options of a build as BuildKit's own frontend takes them, and a gateway that reads
//! contexts and resolves images. Out: an LLB state and an image config for each platform, and what the build checks found.
//! The walk: `lines` (what is one line) → `parse` (instructions) → `stages` (who needs whom) → `convert` (each instruction
//! once). **Invariant:** for the same file and options the operations are those that BuildKit's frontend makes.

mod ast;

pub use ast::{
    ArgDefinition, CommandLine, Directives, Dockerfile, Healthcheck, Heredoc, Instruction, Onbuild, Pair,
    Run, RunMount, Stage, Step, Transfer, TransferSource, Word,
};

//! Dockerfiles: what they say, and the graph they stand for.
//!
//! In: the text of a Dockerfile, the options of a build as BuildKit's own frontend takes them, and a gateway that reads
//! contexts and resolves images. Out: an LLB state and an image config for each platform, and what the build checks found.
//! The walk ([`plan`]): `contexts` (the file's text) → `lines` (what is one line) → `parse` (instructions) → `arguments`,
//! `stages` (who needs whom) → `bases`, `triggers` (what that needs from outside) → `convert` (each instruction once).
//! **Invariant:** for the same file and options the operations are those that BuildKit's frontend makes, and names,
//! configs, histories and findings say the same. Where this crate differs by choice:
//!
//! | what | here | BuildKit |
//! | --- | --- | --- |
//! | `# syntax=` | `docker/dockerfile` is this crate; another one is an error here, and run by `cli` | runs the image that it names |
//! | places of operations | one range per instruction, with columns | one range per line |
//! | ids of progress groups | platform, stage and number | random |
//! | steps `[n/m]` of triggers | counted as they are shown, the base among them | ENV and other triggers count, too |
//! | a tmpfs mount | takes nothing of the context | the whole context is asked for |
//! | a stage that a named context replaces | needs nothing | images of its COPY lines are still looked up |
//! | what is left of a local context as an image | an empty config for its platform | one without a platform |
//! | addresses of ssh repositories | the engine knows hosts' keys | asks the host for them while it plans |
//! | `SOURCE_DATE_EPOCH` of a file of the web | when it was changed, as it was said when these bytes first came | as it is said now |
//! | `required` of a mount | stands anywhere | only behind `type` |
//! | an archive of the web as a context | zstd, too | not zstd |
//! | Windows | shells and defaults only | drive letters, backslashes |
//! | the version of a system, as in `windows(10.0.17763)/amd64` | read over | tells images of an index apart |
//! | files in a tar that are older than `SOURCE_DATE_EPOCH` | keep their times | get that time |
//! | a step that changes nothing | no layer | a layer that holds nothing |
//! | no layers in a config | `[]` | `null` |
//!
//! What is said of an image beside it is `cli`'s and the engine's; what they choose stands in `rb_engine`'s `exports::attest`.

mod arguments;
mod ast;
mod bases;
pub mod checks;
mod codes;
mod concurrent;
mod contexts;
mod convert;
mod directives;
mod durations;
mod environment;
mod epoch;
mod failure;
mod filesystem;
mod git_reference;
mod go;
mod image;
mod lines;
mod lost;
mod options;
mod parse;
mod paths;
mod plan;
mod platform;
mod request;
mod scans;
mod stages;
mod triggers;
mod walk;
pub mod words;

pub use ast::{
    ArgDefinition, CommandLine, Directives, Dockerfile, Healthcheck, Heredoc, Instruction, Onbuild, Pair,
    Run, RunMount, Stage, Step, Transfer, TransferSource, Word,
};
pub use checks::{Checks, Control, Finding, Rule};
pub use codes::CODES;
pub use contexts::{Elsewhere, below, elsewhere};
pub use directives::is_own_frontend;
pub use go::csv_fields;
pub use options::{CacheImport, Given, Input, LentContext, NoCache, Options, ResolveMode, Volume};
pub use parse::{Parsed, is_heredoc, parse, parse_trigger};
pub use plan::{Checked, Planned, check, plan, plan_telling};
pub use platform::parse as parse_platform;
pub use request::{Outline, Parameter, Place, Required, TargetList, TargetStage, outline, targets};
pub use walk::PlannedImage;

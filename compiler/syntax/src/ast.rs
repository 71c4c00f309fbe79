//! The tree of a build file: what was written, with a place for every part, and nothing decided yet.
//!
//! Words stay as typed (quotes, `$NAME` and escapes included); `rb-buildfile` expands them. The stage parameter says
//! what a reference to a target, a function or a project is: text in [`Parsed`], settled after `buildfile::resolve`.

mod calls;
mod commands;
mod control;

use std::fmt::Debug;

use rb_diag::{Span, Spanned};
use serde::Serialize;

pub use calls::{Call, CallArg, Do, Import};
pub use commands::{
    Arg, ArgType, Assignment, Base, CacheStmt, CommandLine, CopySource, CopyStmt, FileSource, FromBuildpacks,
    FromDockerfile, FromStmt, GitClone, Healthcheck, Heredoc, HostEntry, Interactive, Label, Locally, Probe,
    Run, SaveArtifact, SaveImage, StepFlags, Toggle,
};
pub use control::{Branch, Condition, For, If, Later, Try};

/// What names are at one stage of the compiler.
pub trait Stage: Debug + Clone + PartialEq + Serialize {
    /// A reference to a target, such as `./lib+build`.
    type Target: Debug + Clone + PartialEq + Serialize;
    /// A reference to a function, such as `./lib+DEPLOY`.
    type Function: Debug + Clone + PartialEq + Serialize;
    /// A reference to a project, such as `./lib`, in IMPORT.
    type Project: Debug + Clone + PartialEq + Serialize;
}

/// As parsed: a reference is the word that was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Parsed {}

impl Stage for Parsed {
    type Target = Word;
    type Function = Word;
    type Project = Word;
}

/// One word as written, quotes and variables included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    /// The text, byte for byte (continuation lines already joined).
    pub raw: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole build file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Buildfile<S: Stage> {
    /// The `VERSION` line.
    pub version: Option<Version>,
    /// Statements before the first target: the base recipe, `+base`.
    pub base: Vec<Stmt<S>>,
    /// Targets in the order they were written. Names are unique (a second one is a diagnostic and is left out).
    pub targets: Vec<Recipe<S>>,
    /// Functions in the order they were written; their FUNCTION (or COMMAND) line is not among their statements.
    pub functions: Vec<Recipe<S>>,
}

impl<S: Stage> Buildfile<S> {
    /// Finds a target by name.
    pub fn target(&self, name: &str) -> Option<&Recipe<S>> {
        self.targets.iter().find(|recipe| recipe.name.value == name)
    }

    /// Finds a function by name.
    pub fn function(&self, name: &str) -> Option<&Recipe<S>> {
        self.functions.iter().find(|recipe| recipe.name.value == name)
    }
}

/// The edition of the language a file is written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Which edition.
    pub edition: Edition,
    /// Feature flags as written, without dashes; accepted and without effect.
    pub flags: Vec<Spanned<String>>,
    /// The whole line.
    pub span: Span,
}

/// Editions, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Edition {
    /// Earthly's `VERSION 0.6`.
    Earthly06,
    /// Earthly's `VERSION 0.7`.
    Earthly07,
    /// Earthly's `VERSION 0.8`.
    Earthly08,
    /// Our own, `VERSION 1`.
    One,
}

/// A target or function and its statements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe<S: Stage> {
    /// Name, without the colon.
    pub name: Spanned<String>,
    /// The comment block right above, where its first word is the recipe's name; without `#`.
    pub doc: Option<String>,
    /// Statements in order.
    pub body: Vec<Stmt<S>>,
}

/// One statement. A block's span is its first line, up to the keyword's last word.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stmt<S: Stage> {
    /// What it says.
    pub kind: StmtKind<S>,
    /// From the keyword to the last byte that is not space or comment.
    pub span: Span,
    /// The comment block right above, where its first word is the name that the statement gives (of an ARG, an
    /// artifact, an image); without `#`.
    pub doc: Option<String>,
}

/// The statements of the language.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "command", content = "statement", rename_all = "snake_case")]
pub enum StmtKind<S: Stage> {
    /// `FROM …`
    From(FromStmt<S>),
    /// `LOCALLY`
    Locally(Locally),
    /// `RUN …`
    Run(Run),
    /// `COPY …`
    Copy(CopyStmt<S>),
    /// `ARG …`
    Arg(Arg),
    /// `LET NAME=value`
    Let(Assignment),
    /// `SET NAME=value`
    Set(Assignment),
    /// `ENV NAME=value` or `ENV NAME value`; in `VERSION 1` several pairs.
    Env(Vec<Assignment>),
    /// `WORKDIR dir`
    Workdir(Word),
    /// `USER user[:group]`
    User(Word),
    /// `ENTRYPOINT …`
    Entrypoint(CommandLine),
    /// `CMD …`
    Cmd(CommandLine),
    /// `SHELL ["program", "argument"]`
    Shell(Vec<Spanned<String>>),
    /// `EXPOSE port…`
    Expose(Vec<Word>),
    /// `VOLUME path…`, also as a JSON array.
    Volume(Vec<Word>),
    /// `LABEL key=value…`
    Label(Vec<Label>),
    /// `HEALTHCHECK …`
    Healthcheck(Healthcheck),
    /// `STOPSIGNAL signal`
    StopSignal(Word),
    /// `HOST name address`
    Host(HostEntry),
    /// `GIT CLONE …`
    GitClone(GitClone),
    /// `CACHE …`
    Cache(CacheStmt),
    /// `SAVE ARTIFACT …`
    SaveArtifact(SaveArtifact),
    /// `SAVE IMAGE …`
    SaveImage(SaveImage),
    /// `BUILD …`
    Build(Call<S>),
    /// `DO …`
    Do(Do<S>),
    /// `IMPORT …`
    Import(Import<S>),
    /// `PROJECT org/name`: kept, without effect.
    Project(Word),
    /// `IF … ELSE IF … ELSE … END`
    If(If<S>),
    /// `FOR … IN … END`
    For(For<S>),
    /// `WAIT … END`
    Wait(Vec<Stmt<S>>),
    /// `TRY … CATCH … FINALLY … END`
    Try(Try<S>),
    /// Of the language, but not of this version: read, and refused where it is reached.
    Later(Later<S>),
}

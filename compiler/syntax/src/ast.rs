//! The tree of a build file: what was written, with a place for every part, and nothing decided yet.
//!
//! Words stay as typed (quotes, `$NAME` and escapes included); `rb-buildfile` expands them. The stage parameter says
//! what a reference to a target is: text in [`Parsed`], a settled reference after `buildfile::resolve`.

use std::fmt::Debug;

use rb_diag::{Span, Spanned};

/// What names are at one stage of the compiler.
pub trait Stage: Debug + Clone + PartialEq {
    /// A reference to a target, such as `./lib+build`.
    type Target: Debug + Clone + PartialEq;
}

/// As parsed: a reference is the word that was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {}

impl Stage for Parsed {
    type Target = Word;
}

/// One word as written, quotes and variables included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, byte for byte (continuation lines already joined).
    pub raw: String,
    /// Where it stands.
    pub span: Span,
}

/// A whole build file.
#[derive(Debug, Clone, PartialEq)]
pub struct Buildfile<S: Stage> {
    /// The `VERSION` line.
    pub version: Option<Version>,
    /// Statements before the first target: the base recipe, `+base`.
    pub base: Vec<Stmt<S>>,
    /// Targets in the order they were written. Names are unique (a second one is a diagnostic and is left out).
    pub targets: Vec<Recipe<S>>,
}

impl<S: Stage> Buildfile<S> {
    /// Finds a target by name.
    pub fn target(&self, name: &str) -> Option<&Recipe<S>> {
        self.targets.iter().find(|recipe| recipe.name.value == name)
    }
}

/// The edition of the language a file is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which edition.
    pub edition: Edition,
    /// Feature flags as written, without dashes; accepted and without effect.
    pub flags: Vec<Spanned<String>>,
    /// The whole line.
    pub span: Span,
}

/// Editions, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// A target and its statements.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe<S: Stage> {
    /// Name, without the colon.
    pub name: Spanned<String>,
    /// The comment block right above, where its first word is the target's name; without `#`.
    pub doc: Option<String>,
    /// Statements in order.
    pub body: Vec<Stmt<S>>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Stmt<S: Stage> {
    /// What it says.
    pub kind: StmtKind<S>,
    /// From the keyword to the last byte that is not space or comment.
    pub span: Span,
}

/// The statements of the language.
#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind<S: Stage> {
    /// `FROM …`
    From(Base<S>),
    /// `RUN …`
    Run(Run),
    /// `COPY …`
    Copy(CopyStmt<S>),
    /// `ARG …`
    Arg(Arg),
    /// `ENV NAME=value` or `ENV NAME value`
    Env {
        /// Name, not expanded.
        name: Spanned<String>,
        /// Value, empty where none was written.
        value: Word,
    },
    /// `WORKDIR dir`
    Workdir(Word),
    /// `ENTRYPOINT …`
    Entrypoint(CommandLine),
    /// `CMD …`
    Cmd(CommandLine),
    /// `SAVE ARTIFACT …`
    SaveArtifact(SaveArtifact),
    /// `SAVE IMAGE …`
    SaveImage(SaveImage),
    /// `BUILD …`
    Build(Call<S>),
}

/// What a recipe starts from.
#[derive(Debug, Clone, PartialEq)]
pub enum Base<S: Stage> {
    /// `FROM scratch`
    Scratch,
    /// `FROM oci-layout:./path[:tag]`, or an image by reference: the word as written.
    Image(Word),
    /// `FROM @host [--bind=PATH]… [--fingerprint='command']…`
    Host {
        /// Further host paths to show, read-only.
        binds: Vec<Word>,
        /// Commands whose output goes into the key of the base.
        fingerprints: Vec<Word>,
    },
    /// `FROM +target [--ARG=value]…`
    Target(Call<S>),
}

/// A reference to a target with arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Call<S: Stage> {
    /// Which target.
    pub target: S::Target,
    /// Where the reference stands.
    pub span: Span,
    /// `--NAME=value` in order.
    pub args: Vec<CallArg>,
}

/// `--NAME=value` behind a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallArg {
    /// Name, without dashes.
    pub name: Spanned<String>,
    /// Value, expanded in the caller.
    pub value: Word,
}

/// `RUN [--network=…] [--no-cache] [--] command`
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// `--network=none|host`, none where not given.
    pub network: Option<Word>,
    /// `--no-cache`
    pub no_cache: bool,
    /// What to run.
    pub command: CommandLine,
}

/// A command: for the shell as one text, or as words for exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// The text for `/bin/sh -c`, as written but with continuation lines joined and comments between them dropped.
    Shell(Word),
    /// `["program", "argument"]`
    Exec(Vec<Spanned<String>>),
}

/// `COPY [flags] source… destination`
#[derive(Debug, Clone, PartialEq)]
pub struct CopyStmt<S: Stage> {
    /// What to copy; all of one kind.
    pub sources: Vec<CopySource<S>>,
    /// Where to.
    pub destination: Word,
    /// `--dir`: copy directories themselves, not their contents.
    pub dir: bool,
    /// `--if-exists`
    pub if_exists: bool,
    /// `--keep-ts`
    pub keep_times: bool,
    /// `--keep-own`
    pub keep_owner: bool,
    /// `--symlink-no-follow`
    pub symlink_no_follow: bool,
    /// `--chmod=MODE`
    pub chmod: Option<Word>,
    /// `--chown=USER[:GROUP]`
    pub chown: Option<Word>,
}

/// One source of a COPY.
#[derive(Debug, Clone, PartialEq)]
pub enum CopySource<S: Stage> {
    /// A path or glob in the project's folder.
    Path(Word),
    /// `+target/path` or `(+target/path --ARG=value)`
    Artifact {
        /// The target.
        call: Call<S>,
        /// Path among its artifacts, with the leading slash; may hold globs.
        path: Word,
    },
}

/// `ARG [--required] [--global] NAME[=default]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// `--required`
    pub required: bool,
    /// `--global`
    pub global: bool,
    /// Name.
    pub name: Spanned<String>,
    /// Default, if any.
    pub default: Option<Word>,
}

/// `SAVE ARTIFACT [flags] source [destination] [AS LOCAL path]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveArtifact {
    /// What, in the target's filesystem.
    pub source: Word,
    /// Name among the artifacts; `./` where none was written.
    pub destination: Option<Word>,
    /// `AS LOCAL path`
    pub local: Option<Word>,
    /// `--if-exists`
    pub if_exists: bool,
    /// `--force`: the local path may lie outside the project.
    pub force: bool,
    /// `--keep-ts`
    pub keep_times: bool,
    /// `--symlink-no-follow`
    pub symlink_no_follow: bool,
}

/// `SAVE IMAGE [--push] name…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveImage {
    /// Names; none means the image is only defined for other targets.
    pub names: Vec<Word>,
    /// `--push`
    pub push: bool,
}

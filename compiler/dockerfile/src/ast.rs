//! A Dockerfile as it stands: stages, instructions, flags, each with its place.
//!
//! What the parser makes and the rest reads. Words are kept as written, with quotes, escapes and variables: what they
//! mean depends on the values of a build and is decided when an instruction is converted.
//! **Invariant:** every span lies in the one file; `code` is the instruction in one line, as history and progress show it.

use rb_diag::{Span, Spanned};
use serde::Serialize;

use crate::checks::Control;

/// A word as written.
pub type Word = Spanned<String>;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dockerfile {
    /// What stands before everything: `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Step>,
    /// Stages, in order.
    pub stages: Vec<Stage>,
}

/// Parser directives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Directives {
    /// `# syntax=`: the image of a frontend.
    pub syntax: Option<Word>,
    /// `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# check=`: which rules are looked at, and whether they stop the build.
    pub check: Option<Word>,
}

/// `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The `FROM` instruction.
    pub span: Span,
    /// `FROM`, as typed.
    pub keyword: Word,
    /// The `FROM` instruction in one line.
    pub code: String,
    /// An image, an earlier stage, `scratch` or a named context.
    pub base: Word,
    /// `--platform=`
    pub platform: Option<Word>,
    /// `AS` as typed, and the stage's name.
    pub name: Option<(Word, Word)>,
    /// What a comment `# NAME text` above says of it.
    pub description: Option<String>,
    /// What a comment `# check=` right above says of build checks here.
    #[serde(skip)]
    pub check: Option<Control>,
    /// Its FROM is wrong: what it starts from is not known.
    #[serde(skip)]
    pub(crate) is_wrong: bool,
    /// Where the first line of it begins that is wrong and might have set variables.
    #[serde(skip)]
    pub(crate) torn_at: Option<u32>,
    /// Its instructions, in order.
    pub steps: Vec<Step>,
}

/// One instruction after a `FROM`, or an `ARG` before the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The instruction with its heredocs.
    pub span: Span,
    /// Its first word, as typed.
    pub keyword: Word,
    /// The instruction in one line: continuations joined, comments within dropped, bodies of heredocs left out.
    pub code: String,
    /// What a comment `# check=` right above says of build checks here.
    #[serde(skip)]
    pub check: Option<Control>,
    /// What it says.
    pub instruction: Instruction,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Instruction {
    /// `ADD`
    Add(Transfer),
    /// `ARG`
    Arg(Vec<ArgDefinition>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Transfer),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(Word),
    /// `ONBUILD`: an instruction for those who build on this image.
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    Stopsignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`
    Volume(Vec<Word>),
    /// `WORKDIR`
    Workdir(Word),
}

/// One name of an `ARG`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArgDefinition {
    /// Name.
    pub name: Word,
    /// Default, as written.
    pub default: Option<Word>,
    /// What a comment `# NAME text` above says of it.
    pub description: Option<String>,
}

/// One `KEY=value` of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Key, as written.
    pub key: Word,
    /// Value, as written, with its quotes.
    pub value: Word,
    /// Written `KEY value`, the old way: the value is the rest of the line.
    pub legacy: bool,
}

/// A command, in the one or the other form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum CommandLine {
    /// A JSON list: the program and its arguments; empty for `[]`.
    Exec(Vec<Word>),
    /// A line for the shell.
    Shell(Word),
}

/// `RUN`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What runs.
    pub command: CommandLine,
    /// Heredocs that the line names, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount=`, in order.
    pub mounts: Vec<RunMount>,
    /// `--network=`
    pub network: Option<Word>,
    /// `--security=`
    pub security: Option<Word>,
    /// `--device=`, in order: comma-separated options.
    pub devices: Vec<Word>,
}

/// One `--mount=`: its comma-separated options, keys known, values as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunMount {
    /// The whole value.
    pub span: Span,
    /// Options; one such as `ro` has no value. Keys are lower case.
    pub options: Vec<(Word, Option<Word>)>,
}

/// Text that stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The body.
    pub span: Span,
    /// The word that ends it: the file's name where it is copied.
    pub name: String,
    /// Number of a file descriptor before `<<`; 0 if none is written.
    pub descriptor: u32,
    /// The text, leading tabs already taken off where it is `<<-`.
    pub content: String,
    /// The text as it stands in the file, which a shell is given together with its `<<-`.
    pub raw: String,
    /// `<<-`: leading tabs are taken off each line.
    pub strips_tabs: bool,
    /// The word is not quoted: variables are expanded.
    pub expands: bool,
}

/// `COPY` or `ADD`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// What is copied, in order; never empty.
    pub sources: Vec<TransferSource>,
    /// Where to.
    pub destination: Word,
    /// `--from=` (COPY)
    pub from: Option<Word>,
    /// `--chown=`
    pub chown: Option<Word>,
    /// `--chmod=`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--parents` (COPY)
    pub parents: Option<Spanned<bool>>,
    /// `--exclude=`, in order
    pub excludes: Vec<Word>,
    /// `--checksum=` (ADD)
    pub checksum: Option<Word>,
    /// `--keep-git-dir` (ADD)
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack` (ADD)
    pub unpack: Option<Spanned<bool>>,
}

/// One source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TransferSource {
    /// A path, a pattern, an address.
    Path(Word),
    /// Text of the file.
    Heredoc(Heredoc),
}

/// `HEALTHCHECK`
#[expect(clippy::large_enum_variant, reason = "there is one in an image")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Healthcheck {
    /// `NONE`
    None,
    /// `CMD …`
    Command {
        /// What asks.
        command: CommandLine,
        /// `--interval=`
        interval: Option<Word>,
        /// `--timeout=`
        timeout: Option<Word>,
        /// `--start-period=`
        start_period: Option<Word>,
        /// `--start-interval=`
        start_interval: Option<Word>,
        /// `--retries=`
        retries: Option<Word>,
    },
}

/// `ONBUILD`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Onbuild {
    /// The instruction as written, which the image keeps.
    pub text: Word,
    /// The same, read: it has been checked, and nothing of it runs here.
    pub step: Box<Step>,
}

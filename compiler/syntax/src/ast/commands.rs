//! The commands, one type each.

use rb_diag::{Span, Spanned};
use serde::Serialize;

use super::{Call, CallArg, Stage, Word};

/// A flag that is on, off, or told by a value: `--no-cache`, `--no-cache=true`, `--no-cache=$FRESH`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum Toggle {
    /// Not given, or `=false`.
    #[default]
    Off,
    /// Given, or `=true`.
    On,
    /// A word with variables; `true` or `false` once they are filled in.
    Word(Word),
}

/// `FROM [--platform=…] [--allow-privileged] [--pass-args] …`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FromStmt<S: Stage> {
    /// What the recipe starts from.
    pub base: Base<S>,
    /// `--platform=…`
    pub platform: Option<Word>,
}

/// What a recipe starts from.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// `FROM +target [--ARG=value]…`; the call's `platforms` is empty, [`FromStmt::platform`] holds it.
    Target(Call<S>),
    /// `FROM DOCKERFILE [flags] context`
    Dockerfile(Box<FromDockerfile<S>>),
    /// `FROM BUILDPACKS [flags] folder`
    Buildpacks(Box<FromBuildpacks<S>>),
}

/// `FROM DOCKERFILE [-f FILE] [--build-arg NAME[=value]]… [--target=STAGE] [--allow-privileged] context [--NAME=value]…`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FromDockerfile<S: Stage> {
    /// Where its COPY and ADD take files from.
    pub context: FileSource<S>,
    /// `-f FILE`; in the context where not given.
    pub file: Option<FileSource<S>>,
    /// `--target=STAGE`; the last one where not given.
    pub target: Option<Word>,
    /// Build arguments, in order: `--build-arg NAME[=value]`, and `--NAME=value` behind the context.
    pub args: Vec<CallArg>,
    /// `--allow-privileged`
    pub allow_privileged: bool,
}

/// `FROM BUILDPACKS [--builder IMAGE] [--buildpack LOCATOR]… [--env NAME[=value]]… [--descriptor FILE] [--run-image IMAGE]
/// [--launcher builder|rb|FILE] folder`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FromBuildpacks<S: Stage> {
    /// The app.
    pub app: FileSource<S>,
    /// `--builder=IMAGE`; what the app's descriptor names where not given.
    pub builder: Option<Word>,
    /// `--buildpack=LOCATOR`, in order; a word may be a path, or any other locator.
    pub buildpacks: Vec<FileSource<S>>,
    /// Variables of the build, in order: `--env NAME[=value]`.
    pub environment: Vec<CallArg>,
    /// `--descriptor=FILE`; the app's `project.toml` where not given.
    pub descriptor: Option<FileSource<S>>,
    /// `--run-image=IMAGE`; the builder's where not given.
    pub run_image: Option<Word>,
    /// `--launcher=builder|rb|FILE`; the builder's where not given.
    pub launcher: Option<FileSource<S>>,
}

/// A file or a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum FileSource<S: Stage> {
    /// A path from the project's folder; `//path` from the workspace's root (`VERSION 1`).
    Path(Word),
    /// `+target/path` or `(+target/path --ARG=value)`
    Artifact {
        /// The target. Its `platforms` are those of the statement.
        call: Call<S>,
        /// Path among its artifacts, with the leading slash.
        path: Word,
    },
}

/// `LOCALLY`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Locally {}

/// Flags that RUN, IF and FOR share: how a command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StepFlags {
    /// `--privileged`
    pub privileged: Option<Span>,
    /// `--ssh`
    pub ssh: Option<Span>,
    /// `--no-cache`
    pub no_cache: Toggle,
    /// `--mount=…`, each as written.
    pub mounts: Vec<Word>,
    /// `--secret [VAR=]id`, each as written.
    pub secrets: Vec<Word>,
    /// `--env=NAME` of `VERSION 1`: further arguments the step sees.
    pub env: Vec<Spanned<String>>,
}

/// Whether a RUN opens a shell for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Interactive {
    /// `--interactive`: what was changed is forgotten.
    Forget(Span),
    /// `--interactive-keep`
    Keep(Span),
}

/// `RUN [flags] [--] command`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// How it runs.
    pub flags: StepFlags,
    /// `--push`: only when the build pushes, and never cached.
    pub push: bool,
    /// `--entrypoint`: the image's ENTRYPOINT before the words.
    pub entrypoint: bool,
    /// `--network=none|host`; the engine's default where not given.
    pub network: Option<Word>,
    /// `--device=NAME` of `VERSION 1`: devices of this machine, each as written.
    pub devices: Vec<Word>,
    /// `--timeout=30s` of `VERSION 1`: how long it may take.
    pub timeout: Option<Word>,
    /// `--retry=N` of `VERSION 1`: how often it is run again if it fails.
    pub retry: Option<Word>,
    /// `--interactive`, `--interactive-keep`
    pub interactive: Option<Interactive>,
    /// `--aws`, `--oidc`, `--raw-output` and others of later versions: name and place.
    pub later: Vec<Spanned<String>>,
    /// What to run; empty for `RUN --entrypoint` alone.
    pub command: CommandLine,
}

/// A command: for the shell as one text, or as words for exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum CommandLine {
    /// The text for the shell, as written but with continuation lines joined and comments between them dropped. Of a
    /// command with heredocs (`VERSION 1`) all lines, their ends included, as the shell reads them.
    Shell(Word),
    /// `["program", "argument"]`
    Exec(Vec<Spanned<String>>),
    /// `RUN <<EOF`: the heredoc alone is the script (`VERSION 1`).
    Script(Heredoc),
}

/// `<<NAME`, `<<-NAME`, `<<'NAME'` and the lines up to NAME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// NAME.
    pub name: Spanned<String>,
    /// The lines, each with its end; of `<<-` without the tabs they start with.
    pub body: Word,
    /// Whether variables in the body are filled in: NAME was not quoted.
    pub expand: bool,
}

/// `COPY [flags] source… destination`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CopyStmt<S: Stage> {
    /// What to copy. A call's `platforms`, `pass_args` and `allow_privileged` are those of the COPY.
    pub sources: Vec<CopySource<S>>,
    /// Where to.
    pub destination: Word,
    /// `--dir`: copy directories themselves, not their contents.
    pub dir: bool,
    /// `--parents`: keep the folders that lead to what is copied (`VERSION 1`).
    pub parents: bool,
    /// `--link`: a layer that does not depend on what it lies on (`VERSION 1`).
    pub link: bool,
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

/// `GIT CLONE [--branch=…] [--keep-ts] address directory`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitClone {
    /// `--branch=NAME`: a branch or tag; the one that is checked out there where not given.
    pub branch: Option<Word>,
    /// `--keep-ts`
    pub keep_times: bool,
    /// Where the repository is.
    pub url: Word,
    /// Where its files go.
    pub destination: Word,
}

/// One source of a COPY.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum CopySource<S: Stage> {
    /// A path or glob in the project's folder; `//path` from the workspace's root (`VERSION 1`).
    Path(Word),
    /// `+target/path` or `(+target/path --ARG=value)`
    Artifact {
        /// The target.
        call: Call<S>,
        /// Path among its artifacts, with the leading slash; may hold globs.
        path: Word,
    },
    /// `<<NAME` (`VERSION 1`): a file of that content, called NAME where the destination is a folder.
    Heredoc(Heredoc),
}

/// `ARG [--required] [--global] NAME[: type][=default]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arg {
    /// `--required`
    pub required: bool,
    /// `--global`
    pub global: bool,
    /// Name.
    pub name: Spanned<String>,
    /// Its type (`VERSION 1`); none is a string.
    pub kind: Option<Spanned<ArgType>>,
    /// Default, if any.
    pub default: Option<Word>,
}

/// What values an argument takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "values", rename_all = "lowercase")]
pub enum ArgType {
    /// Any text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// `enum(a, b)`: one of these.
    Enum(Vec<String>),
    /// A path in the project.
    Path,
    /// Words divided by commas or white space.
    List,
}

/// `NAME=value` of LET, SET and ENV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// Name, not expanded.
    pub name: Spanned<String>,
    /// Value, empty where none was written.
    pub value: Word,
}

/// `key=value` of LABEL; both are expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// `HEALTHCHECK …`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [flags] CMD command`
    Probe(Box<Probe>),
}

/// How an image's health is asked; durations as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// `--interval`
    pub interval: Option<Word>,
    /// `--timeout`
    pub timeout: Option<Word>,
    /// `--start-period`
    pub start_period: Option<Word>,
    /// `--start-interval`
    pub start_interval: Option<Word>,
    /// `--retries`
    pub retries: Option<Word>,
    /// The command.
    pub command: CommandLine,
}

/// `HOST name address`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostEntry {
    /// The name.
    pub name: Word,
    /// The address.
    pub address: Word,
}

/// `CACHE [--sharing=…] [--chmod=…] [--id=…] [--persist] directory`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStmt {
    /// The directory.
    pub path: Word,
    /// `--id`
    pub id: Option<Word>,
    /// `--sharing`
    pub sharing: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--persist`
    pub persist: bool,
}

/// `SAVE ARTIFACT [flags] source [destination] [AS LOCAL path]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaveArtifact {
    /// What, in the target's filesystem.
    pub source: Word,
    /// Name among the artifacts; `./` where none was written.
    pub destination: Option<Word>,
    /// `AS LOCAL path`
    pub local: Option<Word>,
    /// `--if-exists`
    pub if_exists: bool,
    /// `--always`: also if what stands above it fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// `--force`: the local path may lie outside the project.
    pub force: bool,
    /// `--keep-ts`
    pub keep_times: bool,
    /// `--keep-own`
    pub keep_owner: bool,
    /// `--symlink-no-follow`
    pub symlink_no_follow: bool,
}

/// `SAVE IMAGE [flags] name…`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaveImage {
    /// Names; none means the image is only defined for other targets.
    pub names: Vec<Word>,
    /// `--push`
    pub push: bool,
    /// `--insecure`: the registry may be spoken to without TLS.
    pub insecure: bool,
    /// `--no-manifest-list`
    pub no_manifest_list: bool,
    /// `--cache-hint`
    pub cache_hint: bool,
    /// `--cache-from=…`
    pub cache_from: Vec<Word>,
    /// `--without-earthly-labels`
    pub without_labels: bool,
}

//! What git knows of a project's folder.
//!
//! In: a folder, and the way out of the sandboxes' namespaces, where files belong to whom they belong and the user's own
//! git configuration counts. Out: [`GitFacts`], or why there are none. How: three processes of git at most, in an
//! environment in which a repository's own configuration makes none of them run or fetch anything.
//!
//! **Invariant:** nothing is written, not even git's index, and no credential is asked for.
//! Source: git(1), git-log(1), git-for-each-ref(1); what the facts are is Earthly's builtin arguments.

use std::ffi::OsString;
use std::path::Path;

use rb_diag::{ErrorKind, chain};
use rb_exec::{ExecError, ExitStatus, HostCommand, KillSwitch, Outside, Stream};
use rb_frontend::{GitFacts, WorldError, co_authors};

use super::origin;

/// Returns the facts of the repository that `dir`, an absolute path, lies in; `None` where there is no repository or no
/// git. Blocks for some ten milliseconds.
pub(crate) fn facts(outside: &Outside, dir: &Path) -> Result<Option<GitFacts>, WorldError> {
    match look(&|command| run(outside, command), dir)? {
        Found::Facts(facts) => Ok(Some(*facts)),
        Found::Nothing(absence) => {
            tracing::debug!(?dir, ?absence, "no facts of git");
            Ok(None)
        }
    }
}

/// What looking came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Facts(Box<GitFacts>),
    Nothing(Absence),
}

/// Why there are no facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Git is not installed.
    NoGit,
    /// The folder lies in no repository.
    NoRepository,
}

/// Git could not answer.
#[derive(Debug, thiserror::Error)]
enum GitError {
    /// The repository is another user's.
    #[error(
        "git does not read the repository `{repository}`, as it belongs to another user; if you trust it: git config \
         --global --add safe.directory {repository}"
    )]
    Distrusted { repository: String },
    /// Git failed.
    #[error("`git {command}` failed with exit code {code}: {said}")]
    Failed { command: &'static str, code: i32, said: String },
    /// Git could not be run.
    #[error("git cannot be run")]
    Run(#[from] ExecError),
}

impl From<GitError> for WorldError {
    fn from(error: GitError) -> Self {
        let kind = match &error {
            GitError::Distrusted { .. } | GitError::Failed { .. } => ErrorKind::Environment,
            GitError::Run(error) => error.kind(),
        };
        Self::Failed { kind, message: chain(&error) }
    }
}

/// What a process of git said.
#[derive(Debug)]
struct Said {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Runs a command; tests put another in its place, as they cannot leave a process outside.
type Run<'a> = &'a dyn Fn(&HostCommand) -> Result<Said, ExecError>;

fn run(outside: &Outside, command: &HostCommand) -> Result<Said, ExecError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut sink = |stream: Stream, bytes: &[u8]| match stream {
        Stream::Stdout => stdout.extend_from_slice(bytes),
        Stream::Stderr => stderr.extend_from_slice(bytes),
    };
    let status = outside.run(command, &KillSwitch::new(), &mut sink)?;
    Ok(Said { status, stdout, stderr })
}

/// Where git was called from (a hook, an alias) says nothing about the folder that is asked for.
const CALLERS_VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// Messages in English, no locks, no questions, and no fetching of what a partial clone lacks.
const VARIABLES: [(&str, &str); 5] = [
    ("LC_ALL", "C"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    // For versions that do not know the one above; no protocol has an empty name.
    ("GIT_ALLOW_PROTOCOL", ""),
];

/// Over the repository's configuration: whatever could name a program to run, or change what is printed.
const OPTIONS: [&str; 11] = [
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "log.showSignature=false",
    "-c",
    "i18n.logOutputEncoding=UTF-8",
    "-c",
    "core.warnAmbiguousRefs=true",
];

/// What env(1) exits with when it does not find the program.
const NO_PROGRAM: i32 = 127;

/// What git exits with when it cannot do what was asked.
const FATAL: i32 = 128;

fn git(run: Run<'_>, dir: &Path, words: &[&str]) -> Result<Said, GitError> {
    let mut args: Vec<OsString> = vec!["env".into()];
    for name in CALLERS_VARIABLES {
        args.extend(["-u".into(), name.into()]);
    }
    args.push("git".into());
    args.extend(OPTIONS.iter().chain(words).map(OsString::from));
    let env = VARIABLES.map(|(name, value)| (name.into(), value.into())).to_vec();
    Ok(run(&HostCommand { args, env, env_clear: false, cwd: dir.to_owned(), stdin: Vec::new() })?)
}

fn look(run: Run<'_>, dir: &Path) -> Result<Found, GitError> {
    let mut facts = GitFacts::default();
    let log = git(run, dir, &["log", "-1", "--no-notes", "--no-color", "--abbrev=8", LOG_FORMAT])?;
    let errors = String::from_utf8_lossy(&log.stderr);
    match log.status.code() {
        0 => {
            read_commit(&String::from_utf8_lossy(&log.stdout), &mut facts);
            let refs = git(run, dir, &["for-each-ref", "--points-at=HEAD", REF_FORMAT])?;
            succeeded("for-each-ref", &refs)?;
            read_refs(&String::from_utf8_lossy(&refs.stdout), &mut facts);
        }
        NO_PROGRAM => return Ok(Found::Nothing(Absence::NoGit)),
        FATAL if errors.contains("not a git repository") => {
            return Ok(Found::Nothing(Absence::NoRepository));
        }
        FATAL if errors.contains("does not have any commits yet") => {}
        _ => {
            succeeded("log", &log)?;
        }
    }
    let origin = git(run, dir, &["config", "--get", "remote.origin.url"])?;
    // 1: there is none.
    if origin.status.code() != 1 {
        succeeded("config", &origin)?;
    }
    facts.origin_url = String::from_utf8_lossy(&origin.stdout).lines().next().unwrap_or_default().to_owned();
    facts.origin_url_scrubbed = origin::scrub(&facts.origin_url);
    facts.project_name = origin::project_name(&facts.origin_url).to_owned();
    Ok(Found::Facts(Box::new(facts)))
}

fn succeeded(command: &'static str, said: &Said) -> Result<(), GitError> {
    let code = said.status.code();
    if code == 0 {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&said.stderr);
    let repository = errors
        .split_once("dubious ownership in repository at '")
        .and_then(|(_, rest)| rest.split_once("'\n"))
        .map(|(repository, _)| repository.to_owned());
    Err(match repository {
        Some(repository) => GitError::Distrusted { repository },
        None => GitError::Failed { command, code, said: errors.trim().to_owned() },
    })
}

/// The fields of [`read_commit`], each ended by a zero byte.
const LOG_FORMAT: &str = "--format=%H%x00%h%x00%ct%x00%at%x00%ae%x00%an%x00%b%x00";

fn read_commit(text: &str, facts: &mut GitFacts) {
    let mut fields = text.split('\0').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_default();
    facts.hash = next();
    facts.short_hash = next();
    facts.commit_timestamp = next();
    facts.author_timestamp = next();
    facts.author_email = next();
    facts.author_name = next();
    facts.author.clone_from(&facts.author_email);
    facts.co_authors = co_authors(&next());
}

/// The fields of [`read_refs`]; a line for each reference, sorted by name. None of them can hold a space.
const REF_FORMAT: &str =
    "--format=%(HEAD)%00%(refname)%00%(refname:short)%00%(objecttype)%00%(taggerdate:unix)";

/// Reads what points at the commit that is checked out.
fn read_refs(text: &str, facts: &mut GitFacts) {
    // What git says of a commit that is checked out without a branch.
    facts.branch = "HEAD".to_owned();
    let mut best: Option<(bool, i64)> = None;
    for line in text.lines() {
        let mut fields = line.split('\0');
        let mut next = || fields.next().unwrap_or_default();
        let (head, name, short, kind, date) = (next(), next(), next(), next(), next());
        if head == "*" {
            short.clone_into(&mut facts.branch);
        }
        let last = name.rsplit('/').next().unwrap_or(name);
        if last != "HEAD" && !facts.refs.iter().any(|known| known == last) {
            facts.refs.push(last.to_owned());
        }
        // As `git describe --tags`: an annotated tag before a light one, the newest of those, else the first.
        if let Some(tag) = name.strip_prefix("refs/tags/") {
            let rank = (kind == "tag", date.parse().unwrap_or_default());
            if best.is_none_or(|best| rank > best) {
                best = Some(rank);
                tag.clone_into(&mut facts.tag);
            }
        }
    }
}

#[cfg(test)]
mod tests;

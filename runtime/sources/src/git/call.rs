//! Running git: which program, in which environment, and what its answers mean.
//!
//! In: words for git, and a [`Connection`]. Out: what it said, or a [`GitError`] in the user's words. Git runs on the
//! user's own machine through [`Programs`], without any configuration but ours: no hooks, no credential helpers, no
//! questions, no protocols that name files or programs.
//! **Invariant:** what is shown to a host stands in no argument and no file; it is in the environment of git alone,
//! bound to the origin of the repository.
//! Source: git(1), git-config(1), "GIT_CONFIG_COUNT".

use std::cell::RefCell;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rb_session::Secret;

use super::{BundleFile, GitError, Remote, ssh};

/// Which of a program's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A program to run.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// Variables over those of the user. They may hold secrets and are never printed.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: PathBuf,
}

impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, env: _, cwd } = self;
        out.debug_struct("Call").field("args", args).field("cwd", cwd).finish_non_exhaustive()
    }
}

/// Why a program did not run to its end.
#[derive(Debug)]
pub enum ProgramError {
    /// It was ended: nobody wants it any more, or who took its output did not go on.
    Stopped,
    /// It could not be run.
    Failed(Box<dyn Error + Send + Sync>),
}

/// The user's own machine, where git is.
pub trait Programs: Send + Sync {
    /// Runs a program to its end and returns its exit code; `take` gets its output, and ends it where it breaks off.
    fn run(
        &self,
        call: &Call,
        take: &mut dyn FnMut(Stream, &[u8]) -> ControlFlow<()>,
    ) -> Result<i32, ProgramError>;
    /// Tells whether nobody wants it any more.
    fn is_stopped(&self) -> bool;
}

/// What is told meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// So many bytes came.
    Bytes(u64),
    /// Something takes longer than one would think.
    Line(String),
}

/// How repositories are reached.
pub struct Connection<'a> {
    /// Where git runs.
    pub programs: &'a dyn Programs,
    /// Folder of the repositories that are kept; it is there.
    pub folder: &'a Path,
    /// What `Authorization` says, and to which origin.
    pub authorization: Option<(String, Secret)>,
    /// Socket of the agent that ssh asks for keys.
    pub agent: Option<&'a Path>,
    /// The bundle that the commits of the repository come from, if not from its host; submodules come from theirs.
    pub bundle: Option<BundleFile<'a>>,
    /// File with the keys of known hosts; else the user's own.
    pub known_hosts: Option<&'a Path>,
    /// What is called instead of ssh, and for which origin.
    pub ssh_command: Option<(String, String)>,
    /// Proxies and authorities.
    pub env: &'a [(String, String)],
    /// Is told what goes on.
    pub tell: &'a (dyn Fn(Told) + Sync),
    /// Whether there is room on the disk for more.
    pub room: &'a (dyn Fn() -> Result<(), GitError> + Sync),
}

/// Git, for one repository elsewhere.
pub(super) struct Git<'a> {
    pub(super) connection: &'a Connection<'a>,
    pub(super) remote: &'a Remote,
    /// Whether the host is left alone, and what is kept of it here is read.
    pub(super) local: bool,
}

/// What git said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: Vec<u8>,
    /// The end of it.
    pub(super) err: String,
}

impl<'a> Connection<'a> {
    /// Returns the bundle for the repository itself; submodules in it are not in its bundle.
    pub(super) fn bundle_at(&self, depth: usize) -> Option<BundleFile<'a>> {
        self.bundle.filter(|_| depth == 0)
    }
}

/// Variables of the user's that would change what git does, or show what is asked.
const UNSET: [&str; 36] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_SYSTEM",
    "GIT_TEMPLATE_DIR",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "GIT_PROXY_COMMAND",
    "GIT_ATTR_SOURCE",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_QUARANTINE_PATH",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_PROTOCOL",
    "GIT_CURL_VERBOSE",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_TRACE_PACKET",
    "GIT_TRACE2",
    "GIT_TRACE2_EVENT",
    "GIT_SSL_NO_VERIFY",
    "SSH_AUTH_SOCK",
];
/// How often a host that cannot be reached is tried.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What of standard error is kept.
const ERR_BYTES: usize = 8 << 10;
/// The longest answer that is taken into memory.
const OUT_BYTES: usize = 256 << 20;
/// Exit code of env(1) for a program that is not there.
const NO_PROGRAM: i32 = 127;
/// How often the disk is asked whether there is room.
const ROOM_EVERY_BYTES: u64 = 16 << 20;

impl Git<'_> {
    /// Runs git once; any exit code is an answer.
    pub(super) fn run(&self, words: &[&OsStr]) -> Result<Said, GitError> {
        let out = RefCell::new(Vec::new());
        let mut said = self.stream(words, &mut |bytes| {
            let mut out = out.borrow_mut();
            if out.len() + bytes.len() > OUT_BYTES {
                return ControlFlow::Break(());
            }
            out.extend_from_slice(bytes);
            ControlFlow::Continue(())
        })?;
        said.out = out.into_inner();
        Ok(said)
    }

    /// Runs git once and returns what it prints; an exit code other than 0 is an error.
    pub(super) fn ask(&self, words: &[&OsStr]) -> Result<Vec<u8>, GitError> {
        let said = self.run(words)?;
        if said.code == 0 { Ok(said.out) } else { Err(self.failure(words, &said)) }
    }

    /// As [`Git::ask`], of the host: tried again where it cannot be reached.
    pub(super) fn ask_host(&self, words: &[&OsStr]) -> Result<Vec<u8>, GitError> {
        let mut pause = FIRST_PAUSE;
        for number in 2.. {
            match self.ask(words) {
                Err(error) if error.is_transient() && number <= TRIES => {
                    let (remote, seconds) = (self.remote, pause.as_secs_f64());
                    (self.connection.tell)(Told::Line(format!(
                        "{remote}: tries again in {seconds:.1} s (try {number} of {TRIES}): {error}"
                    )));
                    self.wait(pause)?;
                    pause *= 2;
                }
                done => return done,
            }
        }
        unreachable!("the numbers do not end")
    }

    fn wait(&self, pause: Duration) -> Result<(), GitError> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.connection.programs.is_stopped() {
                return Err(GitError::Stopped);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs git, handing what it prints to `take` as it comes.
    pub(super) fn stream(
        &self,
        words: &[&OsStr],
        take: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Said, GitError> {
        let env = self.environment();
        let mut args: Vec<OsString> = vec!["env".into()];
        // It would take away what is set here, too.
        let unset = UNSET.iter().filter(|name| !env.iter().any(|(set, _)| set == *name));
        args.extend(unset.flat_map(|name| ["-u".into(), OsString::from(name)]));
        args.push("git".into());
        args.extend(words.iter().map(OsString::from));
        let call = Call { args, env, cwd: self.connection.folder.to_owned() };
        let mut err = Vec::new();
        let (mut line, mut asked_bytes, mut full) = (Vec::new(), 0, None);
        let code = self.connection.programs.run(&call, &mut |stream, bytes| match stream {
            Stream::Stdout => take(bytes),
            Stream::Stderr => {
                err.extend_from_slice(bytes);
                let over = err.len().saturating_sub(ERR_BYTES);
                err.drain(..over);
                line.extend_from_slice(bytes);
                if let Some(at) = line.iter().rposition(|byte| matches!(byte, b'\r' | b'\n')) {
                    if let Some(count) =
                        line[..at].rsplit(|byte| matches!(byte, b'\r' | b'\n')).find_map(received)
                    {
                        (self.connection.tell)(Told::Bytes(count));
                        if count.saturating_sub(asked_bytes) >= ROOM_EVERY_BYTES {
                            asked_bytes = count;
                            full = (self.connection.room)().err();
                        }
                    }
                    line.drain(..=at);
                }
                line.truncate(ERR_BYTES);
                if full.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        });
        if let Some(full) = full {
            return Err(full);
        }
        match code {
            Ok(NO_PROGRAM) => Err(GitError::NoGit),
            Ok(code) => Ok(Said { code, out: Vec::new(), err: String::from_utf8_lossy(&err).into_owned() }),
            Err(ProgramError::Stopped) => Err(GitError::Stopped),
            Err(ProgramError::Failed(error)) => Err(GitError::Run(error)),
        }
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let connection = self.connection;
        let ssh = ssh::command(connection, self.remote);
        let mut env: Vec<(OsString, OsString)> = [
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_ADVICE", "0"),
            // Nobody's .netrc is read; ssh takes the home from the user's entry, for known_hosts.
            ("HOME", "/nonexistent"),
            ("GIT_ALLOW_PROTOCOL", if self.local { "file" } else { "http:https:ssh:git" }),
            ("GIT_SSH_COMMAND", &ssh),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        if let Some(agent) = connection.agent {
            env.push(("SSH_AUTH_SOCK".into(), agent.into()));
        }
        env.extend(connection.env.iter().map(|(name, value)| (name.into(), value.into())));
        let mut settings: Vec<(String, OsString)> = [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.autocrlf", "false"),
            ("core.symlinks", "true"),
            ("credential.helper", ""),
            ("core.askPass", ""),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("safe.directory", "*"),
            ("tar.umask", "0022"),
            ("init.defaultBranch", "main"),
            ("advice.detachedHead", "false"),
            ("submodule.recurse", "false"),
            ("fetch.recurseSubmodules", "false"),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .to_vec();
        if let Some(header) = self.authorization().filter(|_| !self.local) {
            use std::os::unix::ffi::OsStringExt as _;
            let mut value = b"Authorization: ".to_vec();
            value.extend_from_slice(header.as_ref());
            settings.push((format!("http.{}.extraHeader", self.remote.origin()), OsString::from_vec(value)));
            // Git would send the header on to wherever it is led.
            settings.push(("http.followRedirects".to_owned(), "false".into()));
        }
        env.push(("GIT_CONFIG_COUNT".into(), settings.len().to_string().into()));
        for (number, (name, value)) in settings.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{number}").into(), name.into()));
            env.push((format!("GIT_CONFIG_VALUE_{number}").into(), value));
        }
        env
    }

    /// What is shown to this host.
    fn authorization(&self) -> Option<&Secret> {
        let (origin, header) = self.connection.authorization.as_ref()?;
        (*origin == self.remote.origin()).then_some(header)
    }

    /// Says what a failure means.
    pub(super) fn failure(&self, words: &[&OsStr], said: &Said) -> GitError {
        let text = &said.err;
        let (remote, host, ssh) =
            (self.remote.to_string(), self.remote.host().to_owned(), self.remote.is_ssh());
        let known = if ssh { self.connection.agent.is_some() } else { self.authorization().is_some() };
        let any = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        let said_text = spoken(text);
        if let Some((_, rest)) = text.split_once("invalid path '") {
            let entry = rest.split('\'').next().unwrap_or_default().escape_debug().to_string();
            GitError::Entry { remote, entry, reason: "cannot be part of a tree".to_owned() }
        } else if any(UNTRUSTED) {
            GitError::Untrusted { remote, host, said: said_text, ssh }
        } else if any(UNAUTHORIZED) {
            // As secrets for one host are named.
            let host = self.remote.authority.clone();
            GitError::Unauthorized { remote, host, said: said_text, known, ssh }
        } else if any(NO_REFERENCE) {
            GitError::NoReference { remote, what: "such branch, tag or commit".to_owned(), near: Vec::new() }
        } else if any(NOT_FOUND) {
            GitError::NotFound { remote, said: said_text, known }
        } else if known && any(MOVED) {
            GitError::Moved { remote, said: said_text }
        } else if any(UNREACHABLE) {
            GitError::Unreachable { remote, said: said_text }
        } else {
            let command = words.iter().map(|word| word.to_string_lossy()).find(|word| !word.starts_with('-'));
            let command = command.unwrap_or_default().into_owned();
            GitError::Failed { remote, command, code: said.code, said: said_text }
        }
    }
}

const UNTRUSTED: &[&str] = &[
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "certificate problem",
    "certificate verify failed",
    "certificate verification failed",
];
const UNAUTHORIZED: &[&str] = &[
    "could not read Username",
    "could not read Password",
    "Authentication failed",
    "returned error: 401",
    "returned error: 403",
    "Permission denied (",
    "terminal prompts disabled",
];
const NO_REFERENCE: &[&str] =
    &["couldn't find remote ref", "not our ref", "unadvertised object", "does not allow request for"];
const NOT_FOUND: &[&str] = &[
    "not found",
    "returned error: 404",
    "returned error: 410",
    "does not appear to be a git repository",
    "not valid: is this a git repository",
    "not exported",
    "access denied or repository",
];
const MOVED: &[&str] =
    &["returned error: 301", "returned error: 302", "returned error: 307", "returned error: 308"];
const UNREACHABLE: &[&str] = &[
    "Could not resolve",
    "Couldn't resolve",
    "name resolution",
    "Failed to connect",
    "Couldn't connect",
    "unable to connect",
    "Connection refused",
    "onnection timed out",
    "Connection reset",
    "Connection closed",
    "early EOF",
    "unexpected disconnect",
    "hung up unexpectedly",
    "RPC failed",
    "Operation too slow",
    "returned error: 5",
    "returned error: 429",
    "transfer closed",
    "Empty reply",
    "Recv failure",
    "recv error",
    "SSL_ERROR_SYSCALL",
    "Network is unreachable",
    "No route to host",
];

/// Returns the lines of git that say something, cleaned and in one.
fn spoken(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(str::trim);
    let telling = |line: &&str| {
        ["fatal: ", "error: ", "remote: ", "ERROR: "].iter().any(|start| line.starts_with(start))
            || line.contains("Permission denied")
            || line.contains("verification failed")
    };
    let mut told: Vec<&str> = lines.clone().filter(telling).collect();
    if told.is_empty() {
        told = lines.filter(|line| !line.is_empty()).collect();
    }
    let told: Vec<&str> = told.into_iter().take(3).collect();
    let line: String = told
        .join("; ")
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(400)
        .collect();
    line
}

/// Reads how much came out of a line of progress: `Receiving objects:  50% (5/10), 1.20 MiB | 500 KiB/s`.
fn received(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("Receiving objects:")?;
    let amount = rest.split_once("), ")?.1.split(['|', ',']).next()?.trim();
    let (number, unit) = amount.split_once(' ')?;
    let scale = match unit {
        "bytes" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()?.clamp(0.0, 1e9) * scale) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read() {
        for (line, expected) in [
            ("Receiving objects:  50% (5/10), 1.50 MiB | 500.00 KiB/s", Some(1_572_864)),
            ("Receiving objects: 100% (10/10), 512 bytes | 512.00 KiB/s, done.", Some(512)),
            ("Receiving objects:  50% (5/10)", None),
            ("Resolving deltas: 100% (1/1), done.", None),
        ] {
            assert_eq!(received(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_git_says_is_one_clean_line() {
        let text = "Cloning\r\x1b[31mremote: nothing\nfatal: repository 'x' not found\n";
        assert_eq!(spoken(text), "fatal: repository 'x' not found");
        assert_eq!(spoken("remote: a\u{7}b\nfatal: c\n"), "remote: a b; fatal: c");
        assert_eq!(spoken("odd\n"), "odd");
    }
}

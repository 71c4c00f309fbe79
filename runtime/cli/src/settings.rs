//! What the command line means, beside the environment and the defaults.
//!
//! In: [`crate::args`] and the [`Environment`], which is read here and nowhere else, once. Out: [`Settings`], plain
//! values that the commands take. [`VARIABLES`] is the one list of variables; `rb --help` shows it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rb_oci::Platform;

use crate::args::{BuildOptions, ProgressChoice};

/// A variable of the environment that `rb` reads.
pub(crate) struct Variable {
    /// Name.
    pub(crate) name: &'static str,
    /// One line for `rb --help`.
    pub(crate) meaning: &'static str,
}

const fn variable(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning }
}

/// Every variable that `rb` reads, in the order shown.
pub(crate) const VARIABLES: &[Variable] = &[
    variable(
        "RB_ROOT",
        "state directory, an absolute path [default: /var/lib/rb for root, else $XDG_DATA_HOME/rb]",
    ),
    variable("RB_JOBS", "as --jobs"),
    variable("RB_PROGRESS", "as --progress"),
    variable("RB_LOG", "what rb itself logs to stderr, such as `debug` or `rb_engine=trace`"),
    variable("SOURCE_DATE_EPOCH", "as --epoch"),
    variable("NO_COLOR", "no colours, if set and not empty"),
    variable("TERM", "`dumb` means no live view and no colours"),
    variable("XDG_DATA_HOME", "where user data lies [default: $HOME/.local/share]"),
    variable("HOME", "home directory"),
];

/// Latest time that images show where neither `--epoch` nor SOURCE_DATE_EPOCH say: 2020-04-16T12:00:00Z, the time
/// Earthly gives to what it copies.
pub(crate) const DEFAULT_EPOCH_SECONDS: i64 = 1_587_038_400;

/// 9999-12-31T23:59:59Z: the formats that images are written in hold no later year.
const LATEST_EPOCH_SECONDS: i64 = 253_402_300_799;

const EPOCH_EXPECTED: &str =
    "a number of seconds since 1970, at most 253402300799 (the end of the year 9999)";

/// Reads the time of `--epoch` and SOURCE_DATE_EPOCH.
pub(crate) fn epoch_seconds(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0..=LATEST_EPOCH_SECONDS).contains(seconds));
    seconds.ok_or_else(|| format!("expected {EPOCH_EXPECTED}"))
}

/// The environment as far as `rb` reads it, and where this process stands.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<&'static str, OsString>,
    /// Working directory, absolute.
    pub(crate) cwd: PathBuf,
    /// This process runs as root (asked before any user namespace is entered).
    pub(crate) root: bool,
    /// stderr is a terminal.
    pub(crate) terminal: bool,
    /// Processors this process may use.
    pub(crate) processors: NonZeroUsize,
}

impl Environment {
    /// Reads it all, once.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub(crate) fn read() -> Result<Self, SettingsError> {
        let variables = VARIABLES
            .iter()
            .filter_map(|variable| std::env::var_os(variable.name).map(|value| (variable.name, value)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Ok(Self {
            variables,
            cwd: std::env::current_dir().map_err(|source| SettingsError::WorkingDirectory { source })?,
            root: rustix::process::geteuid().is_root(),
            terminal: std::io::stderr().is_terminal(),
            processors: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        })
    }

    /// Returns one more variable, for `rb run -e NAME`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub(crate) fn pass_on(name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn get(&self, name: &'static str) -> Option<&OsString> {
        self.variables.get(name)
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_str().and_then(parse) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(SettingsError::Variable { name, value: value.to_string_lossy().into_owned() }),
        }
    }

    /// Returns the filter for our own logs.
    pub(crate) fn log_filter(&self) -> Option<String> {
        self.get("RB_LOG").map(|value| value.to_string_lossy().into_owned())
    }

    /// Returns whether stderr takes colours.
    pub(crate) fn colours(&self) -> bool {
        self.terminal && !self.dumb() && self.get("NO_COLOR").is_none()
    }

    fn dumb(&self) -> bool {
        self.get("TERM").is_none_or(|term| term == "dumb")
    }

    /// Returns the state directory, absolute.
    pub(crate) fn state_directory(&self) -> Result<PathBuf, SettingsError> {
        let absolute = |value: &&OsString| Path::new(value).is_absolute();
        if let Some(root) = self.get("RB_ROOT") {
            let root = Path::new(root);
            return if root.is_absolute() { Ok(root.to_owned()) } else { Err(relative("RB_ROOT", root)) };
        }
        if self.root {
            return Ok(PathBuf::from("/var/lib/rb"));
        }
        // The XDG specification has relative paths ignored.
        if let Some(data) = self.get("XDG_DATA_HOME").filter(absolute) {
            return Ok(Path::new(data).join("rb"));
        }
        let home = Path::new(self.get("HOME").ok_or(SettingsError::NoHome)?);
        if home.is_absolute() { Ok(home.join(".local/share/rb")) } else { Err(relative("HOME", home)) }
    }
}

fn relative(name: &'static str, path: &Path) -> SettingsError {
    SettingsError::Relative { name, value: path.display().to_string() }
}

/// How to show progress, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// Lines.
    Plain,
    /// A view that redraws itself.
    Live,
    /// JSON lines.
    Json,
    /// Nothing.
    Quiet,
}

/// How to talk to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Display {
    /// Progress.
    pub(crate) mode: ProgressMode,
    /// Colours on stderr.
    pub(crate) colours: bool,
}

/// What a command that builds needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Working directory, absolute.
    pub(crate) cwd: PathBuf,
    /// State directory, absolute.
    pub(crate) state_directory: PathBuf,
    /// Steps at once.
    pub(crate) jobs: NonZeroUsize,
    /// Folders that `FROM @host --bind` may show, absolute.
    pub(crate) allowed_binds: Vec<PathBuf>,
    /// Look nothing up.
    pub(crate) no_cache: bool,
    /// Platform of the result.
    pub(crate) platform: Platform,
    /// Latest time that images show.
    pub(crate) epoch_seconds: i64,
    /// Progress and colours.
    pub(crate) display: Display,
}

/// What cannot be settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the working directory is gone")]
    WorkingDirectory { source: std::io::Error },
    #[error("no place for the state directory: neither RB_ROOT nor XDG_DATA_HOME nor HOME is set")]
    NoHome,
    #[error("the environment variable {name} has the value `{value}`")]
    Variable { name: &'static str, value: String },
    #[error("the environment variable {name} has the value `{value}`, which is not an absolute path")]
    Relative { name: &'static str, value: String },
    #[error("platform {platform} cannot be built here")]
    Platform { platform: Platform },
}

impl SettingsError {
    /// Returns what to do.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::WorkingDirectory { .. } => Some("change into a folder that exists".to_owned()),
            Self::NoHome => Some("set RB_ROOT=/some/dir".to_owned()),
            Self::Variable { name, .. } => Some(match *name {
                "RB_PROGRESS" => "one of auto, plain, tty, json, quiet".to_owned(),
                "RB_JOBS" => "a number, at least 1".to_owned(),
                _ => EPOCH_EXPECTED.to_owned(),
            }),
            Self::Relative { name: "RB_ROOT", value } => Some(format!(
                "a state directory that moves with the working directory is none: set RB_ROOT=\"$PWD/{value}\""
            )),
            Self::Relative { .. } => Some("set it to an absolute path, or set RB_ROOT=/some/dir".to_owned()),
            Self::Platform { .. } => {
                Some(format!("this machine is {}: leave --platform out", Platform::host()))
            }
        }
    }
}

/// Settles how to talk.
pub(crate) fn display(options: &BuildOptions, environment: &Environment) -> Result<Display, SettingsError> {
    let word = |text: &str| <ProgressChoice as clap::ValueEnum>::from_str(text, false).ok();
    let wanted = match (options.progress, options.quiet) {
        (_, true) => ProgressChoice::Quiet,
        (Some(choice), false) => choice,
        (None, false) => environment.parsed("RB_PROGRESS", word)?.unwrap_or(ProgressChoice::Auto),
    };
    let mode = match wanted {
        ProgressChoice::Auto if environment.terminal && !environment.dumb() => ProgressMode::Live,
        ProgressChoice::Auto | ProgressChoice::Plain => ProgressMode::Plain,
        ProgressChoice::Tty => ProgressMode::Live,
        ProgressChoice::Json => ProgressMode::Json,
        ProgressChoice::Quiet => ProgressMode::Quiet,
    };
    Ok(Display { mode, colours: environment.colours() })
}

/// Settles all that a build needs to know.
pub(crate) fn settle(options: &BuildOptions, environment: &Environment) -> Result<Settings, SettingsError> {
    let host = Platform::host();
    if let Some(platform) = options.platform.as_ref().filter(|platform| **platform != host) {
        return Err(SettingsError::Platform { platform: platform.clone() });
    }
    let jobs = match options.jobs {
        Some(jobs) => jobs,
        None => environment.parsed("RB_JOBS", |text| text.parse().ok())?.unwrap_or(environment.processors),
    };
    let epoch = match options.epoch {
        Some(epoch) => Some(epoch),
        None => environment.parsed("SOURCE_DATE_EPOCH", |text| epoch_seconds(text).ok())?,
    };
    Ok(Settings {
        cwd: environment.cwd.clone(),
        state_directory: environment.state_directory()?,
        jobs,
        allowed_binds: options.allow_bind.iter().map(|dir| environment.cwd.join(dir)).collect(),
        no_cache: options.no_cache,
        platform: host,
        epoch_seconds: epoch.unwrap_or(DEFAULT_EPOCH_SECONDS),
        display: display(options, environment)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect(),
            cwd: PathBuf::from("/work"),
            root: false,
            terminal: true,
            processors: NonZeroUsize::MIN,
        }
    }

    #[test]
    fn the_state_directory_follows_the_environment() {
        let at = |variables: &[(&'static str, &str)]| environment(variables).state_directory().ok();
        assert_eq!(at(&[("HOME", "/home/a")]), Some("/home/a/.local/share/rb".into()));
        assert_eq!(at(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/data")]), Some("/data/rb".into()));
        assert_eq!(
            at(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "data")]),
            Some("/home/a/.local/share/rb".into())
        );
        assert_eq!(at(&[("HOME", "/home/a"), ("RB_ROOT", "/state")]), Some("/state".into()));
        assert_eq!(at(&[]), None);
        for (name, value) in [("HOME", "rel"), ("RB_ROOT", "./state")] {
            let error = environment(&[(name, value)]).state_directory().expect_err("not absolute");
            assert!(error.to_string().contains(&format!("{name} has the value `{value}`")), "{error}");
        }
        let root = Environment { root: true, ..environment(&[("HOME", "/root")]) };
        assert_eq!(root.state_directory().ok(), Some("/var/lib/rb".into()));
    }

    #[test]
    fn options_win_over_the_environment() {
        let environment = environment(&[
            ("HOME", "/h"),
            ("RB_JOBS", "3"),
            ("SOURCE_DATE_EPOCH", "5"),
            ("RB_PROGRESS", "json"),
            ("TERM", "xterm"),
        ]);
        let settings = settle(&BuildOptions::default(), &environment).expect("settles");
        assert_eq!((settings.jobs.get(), settings.epoch_seconds), (3, 5));
        assert_eq!(settings.display, Display { mode: ProgressMode::Json, colours: true });
        let options = BuildOptions {
            jobs: NonZeroUsize::new(2),
            epoch: Some(7),
            progress: Some(ProgressChoice::Auto),
            ..BuildOptions::default()
        };
        let settings = settle(&options, &environment).expect("settles");
        assert_eq!((settings.jobs.get(), settings.epoch_seconds), (2, 7));
        assert_eq!(settings.display.mode, ProgressMode::Live);
    }

    #[test]
    fn a_dumb_or_absent_terminal_has_no_live_view() {
        let mode = |environment: &Environment| {
            display(&BuildOptions::default(), environment).map(|display| (display.mode, display.colours)).ok()
        };
        assert_eq!(mode(&environment(&[("TERM", "xterm")])), Some((ProgressMode::Live, true)));
        assert_eq!(mode(&environment(&[("TERM", "dumb")])), Some((ProgressMode::Plain, false)));
        assert_eq!(
            mode(&environment(&[("TERM", "xterm"), ("NO_COLOR", "1")])),
            Some((ProgressMode::Live, false))
        );
        let piped = Environment { terminal: false, ..environment(&[("TERM", "xterm")]) };
        assert_eq!(mode(&piped), Some((ProgressMode::Plain, false)));
    }

    #[test]
    fn nonsense_is_named() {
        let error = settle(&BuildOptions::default(), &environment(&[("HOME", "/h"), ("RB_JOBS", "0")]));
        let error = error.expect_err("0 jobs build nothing");
        assert_eq!(error.to_string(), "the environment variable RB_JOBS has the value `0`");
        for (text, good) in [("0", true), ("253402300799", true), ("253402300800", false), ("-1", false)] {
            assert_eq!(epoch_seconds(text).is_ok(), good, "{text}");
            let environment = environment(&[("HOME", "/h"), ("SOURCE_DATE_EPOCH", text)]);
            assert_eq!(settle(&BuildOptions::default(), &environment).is_ok(), good, "{text}");
        }
        let options = BuildOptions { platform: "linux/s390x".parse().ok(), ..BuildOptions::default() };
        let error = settle(&options, &environment(&[("HOME", "/h")])).expect_err("not this machine");
        assert!(error.to_string().contains("linux/s390x"), "{error}");
    }
}

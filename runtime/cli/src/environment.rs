//! The environment, as far as `rb` reads it: here and nowhere else, once.
//!
//! In: the variables of this process and the lines of `.env`. Out: [`Environment`]. [`VARIABLES`] is the one list of
//! what `rb` looks at; `rb help environment` and the reference are made of it. An option has two names, `RB_X` and Earthly's `EARTHLY_X`; of two the first
//! counts, and what this process has counts before what `.env` says.
//! **Invariant:** `.env` comes with a checkout, so it cannot say what only the user may: what a build is allowed to do, which
//! files and variables it is lent, and where `rb` keeps its state. Such lines are told and left out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::settings::SettingsError;

/// A variable of the environment that `rb` reads.
pub(crate) struct Variable {
    /// Name.
    pub(crate) name: &'static str,
    /// Another name for it, mostly Earthly's.
    pub(crate) twin: Option<&'static str>,
    /// What it is for, in a line.
    pub(crate) meaning: &'static str,
    /// Whether `.env` may set it.
    pub(crate) in_file: bool,
}

const fn plain(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, twin: None, meaning, in_file: false }
}

const fn option(name: &'static str, twin: &'static str, meaning: &'static str) -> Variable {
    Variable { name, twin: Some(twin), meaning, in_file: true }
}

/// A variable that many programs read, in capitals or not.
const fn common(name: &'static str, twin: &'static str, meaning: &'static str) -> Variable {
    Variable { name, twin: Some(twin), meaning, in_file: false }
}

/// An option that allows or lends something.
const fn consent(name: &'static str, twin: &'static str, meaning: &'static str) -> Variable {
    Variable { name, twin: Some(twin), meaning, in_file: false }
}

/// Every variable that `rb` reads, in the order shown.
pub(crate) const VARIABLES: &[Variable] = &[
    plain(
        "RB_ROOT",
        "state directory, an absolute path [default: /var/lib/rb for root, else $XDG_DATA_HOME/rb]",
    ),
    Variable { in_file: true, ..plain("RB_JOBS", "as --jobs") },
    plain("RB_ENGINE", "as --engine"),
    plain("RB_ENGINE_CERTS", "folder with ca.pem, cert.pem and key.pem for an engine at tcp://"),
    plain("RB_SNAPSHOTTER", "as `snapshotter` in config.toml: auto, overlayfs or native"),
    option("RB_PROGRESS", "BUILDKIT_PROGRESS", "as --progress"),
    plain("RB_CACHE_MAX_SIZE", "as cache.max_size in config.toml: what the state directory may occupy"),
    plain("RB_LOG", "what rb itself logs to stderr, such as `debug` or `rb_engine=trace`"),
    consent("RB_PUSH", "EARTHLY_PUSH", "as --push, if true"),
    option("RB_CI", "EARTHLY_CI", "as --ci, if true"),
    option("RB_STRICT", "EARTHLY_STRICT", "as --strict, if true"),
    option("RB_NO_CACHE", "EARTHLY_NO_CACHE", "as --no-cache, if true"),
    option("RB_NO_OUTPUT", "EARTHLY_NO_OUTPUT", "as --no-output, if true"),
    consent("RB_ALLOW_PRIVILEGED", "EARTHLY_ALLOW_PRIVILEGED", "as --allow-privileged, if true"),
    plain("RB_ALLOW_HOST_NETWORK", "as --allow-host-network, if true"),
    plain("RB_ALLOW_DEVICE", "as --allow-device: true, or names with commas"),
    plain("RB_STEP_NETWORK", "as --step-network"),
    plain("RB_RUNTIME", "as --runtime"),
    plain("RB_MEMORY_BUDGET", "as --memory-budget"),
    plain("RB_ISOLATION", "as --isolation"),
    plain("RB_ALLOW_BIND", "as --allow-bind: folders with colons in between"),
    option("RB_PLATFORMS", "EARTHLY_PLATFORMS", "as --platform"),
    option(
        "RB_BUILD_ARGS",
        "EARTHLY_BUILD_ARGS",
        "build arguments, weaker than all that is typed: NAME=value,…",
    ),
    consent("RB_SECRETS", "EARTHLY_SECRETS", "as --secret: NAME=value,…"),
    consent("RB_SECRET_FILES", "EARTHLY_SECRET_FILES", "as --secret-file: NAME=path,…"),
    consent("RB_ARG_FILE_PATH", "EARTHLY_ARG_FILE_PATH", "as --arg-file-path"),
    consent("RB_SECRET_FILE_PATH", "EARTHLY_SECRET_FILE_PATH", "as --secret-file-path"),
    consent("RB_ENV_FILE_PATH", "EARTHLY_ENV_FILE_PATH", "as --env-file-path"),
    common(
        "SSH_AUTH_SOCK",
        "EARTHLY_SSH_AUTH_SOCK",
        "socket of the ssh agent that steps are lent as `default`",
    ),
    plain("SOURCE_DATE_EPOCH", "as --epoch"),
    plain("RB_CONFIG", "your settings [default: rb/config.toml in $XDG_CONFIG_HOME or $HOME/.config]"),
    common("HTTP_PROXY", "http_proxy", "proxy for http://"),
    common("HTTPS_PROXY", "https_proxy", "proxy for https://"),
    common("ALL_PROXY", "all_proxy", "proxy for what has none of its own"),
    common("NO_PROXY", "no_proxy", "hosts that are reached without a proxy"),
    plain("DOCKER_DEFAULT_PLATFORM", "platform that `rb build` builds for, unless --platform says another"),
    plain("BUILDX_METADATA_PROVENANCE", "provenance in --metadata-file: min, max or disabled [default: min]"),
    plain("BUILDX_METADATA_WARNINGS", "what the build checks found in --metadata-file, too, if true"),
    plain(
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
        "a policy of buildx's, of which is told that it is not applied",
    ),
    plain("DOCKER_CONFIG", "folder of docker's config.json, for credentials [default: $HOME/.docker]"),
    plain("REGISTRY_AUTH_FILE", "podman's credentials [default: containers/auth.json in $XDG_RUNTIME_DIR]"),
    plain("ACTIONS_RESULTS_URL", "service of caches of type=gha; as url_v2="),
    plain("ACTIONS_RUNTIME_TOKEN", "token for caches of type=gha; as token="),
    plain("ACTIONS_CACHE_SERVICE_V2", "whether that service is of version 2; the older one is refused"),
    plain("AWS_BUCKET", "bucket of caches of type=s3; as bucket="),
    common("AWS_REGION", "AWS_DEFAULT_REGION", "its region; as region="),
    common("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "another S3 than Amazon's; as endpoint_url="),
    plain("AWS_ACCESS_KEY_ID", "who asks there; as access_key_id="),
    plain("AWS_SECRET_ACCESS_KEY", "what proves it; as secret_access_key="),
    plain("AWS_SESSION_TOKEN", "what comes with keys that end soon; as session_token="),
    plain("AWS_PROFILE", "profile of ~/.aws that keys and region are taken from, where no variable has them"),
    plain("AWS_SHARED_CREDENTIALS_FILE", "keys of profiles [default: ~/.aws/credentials]"),
    plain("AWS_CONFIG_FILE", "what else profiles have [default: ~/.aws/config]"),
    plain("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "account of caches of type=azblob; as account_url="),
    common("BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", "its name; as account_name="),
    plain("BUILDKIT_AZURE_STORAGE_CONTAINER", "its container; as container="),
    plain("BUILDKIT_AZURE_STORAGE_PREFIX", "what names of objects begin with there; as prefix="),
    plain("AZURE_STORAGE_KEY", "key of the account; as secret_access_key="),
    plain("AZURE_STORAGE_SAS_TOKEN", "signature in the place of a key; as the query of account_url="),
    plain(
        "GITHUB_ACTIONS",
        "groups, annotations and a summary for GitHub, if true and no --progress is given",
    ),
    plain("GITHUB_STEP_SUMMARY", "file of that summary"),
    plain("GITHUB_WORKSPACE", "folder that annotations are relative to"),
    plain("NO_COLOR", "no colours, if set and not empty"),
    plain("TERM", "`dumb` means no live view and no colours"),
    plain("XDG_DATA_HOME", "where user data lies [default: $HOME/.local/share]"),
    plain("XDG_CONFIG_HOME", "where settings lie [default: $HOME/.config]"),
    plain("XDG_RUNTIME_DIR", "where files of a session lie"),
    plain("HOME", "home directory"),
];

/// The environment, and where this process stands.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    variables: BTreeMap<&'static str, OsString>,
    /// What `.env` adds.
    file: BTreeMap<&'static str, OsString>,
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
        let names = VARIABLES.iter().flat_map(|variable| std::iter::once(variable.name).chain(variable.twin));
        let variables = names
            .filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Ok(Self {
            variables,
            file: BTreeMap::new(),
            cwd: std::env::current_dir().map_err(|source| SettingsError::WorkingDirectory { source })?,
            root: rustix::process::geteuid().is_root(),
            terminal: std::io::stderr().is_terminal(),
            processors: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        })
    }

    /// Returns one more variable, which the user has named: `rb run -e NAME`, `--secret NAME`, `--build-arg NAME`.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub(crate) fn pass_on(name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    /// Returns the folder for what is there as long as a command runs: TMPDIR, else the usual one.
    pub(crate) fn temporary() -> PathBuf {
        std::env::temp_dir()
    }

    /// Takes what `.env` says. `quietly`: names that are none of ours need no word. Returns what is to be told.
    pub(crate) fn add_file(
        &mut self,
        lines: Vec<(String, String)>,
        shown: &str,
        quietly: bool,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut unknown = Vec::new();
        for (name, value) in lines {
            let known = VARIABLES.iter().find_map(|variable| {
                let names = std::iter::once(variable.name).chain(variable.twin);
                names.into_iter().find(|known| *known == name).map(|name| (name, variable.in_file))
            });
            match known {
                Some((name, true)) => drop(self.file.insert(name, value.into())),
                Some((name, false)) if is_ours(name) => {
                    warnings.push(format!(
                        "`{shown}` does not set {name}: it comes with the files of a project, and only you may say this; \
                         type the option, or set the variable in your shell"
                    ));
                }
                Some(_) | None => unknown.push(name),
            }
        }
        unknown.retain(|name| !quietly || is_ours(name));
        if let Some((first, rest)) = unknown.split_first() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            warnings.push(format!(
                "`{shown}` sets {first}{more}, which rb does not take from there: arguments of builds stand in `.arg`, secrets in `.secret`"
            ));
        }
        warnings
    }

    /// Returns a variable with the name under which it was found.
    pub(crate) fn get(&self, name: &'static str) -> Option<(&'static str, &OsString)> {
        let twin = VARIABLES.iter().find(|variable| variable.name == name).and_then(|variable| variable.twin);
        let names = || std::iter::once(name).chain(twin);
        let find = |map: &'_ BTreeMap<&'static str, OsString>| names().find(|name| map.contains_key(name));
        let found = find(&self.variables).map(|name| (name, &self.variables));
        let (name, map) = found.or_else(|| find(&self.file).map(|name| (name, &self.file)))?;
        map.get(name).map(|value| (name, value))
    }

    /// Returns all that is set, in the order of [`VARIABLES`], each with the name under which it was found.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        VARIABLES.iter().filter_map(|variable| self.get(variable.name))
    }

    /// Returns whether `.env` alone sets a variable.
    pub(crate) fn only_in_file(&self, name: &'static str) -> bool {
        self.get(name).is_some_and(|(name, _)| !self.variables.contains_key(name))
    }

    /// Reads a variable's value.
    pub(crate) fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some((name, value)) = self.get(name) else { return Ok(None) };
        match value.to_str().and_then(parse) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(SettingsError::Variable { name, value: value.to_string_lossy().into_owned() }),
        }
    }

    /// Reads a variable that says yes or no; it says no where it is not set.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, SettingsError> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "yes" => Some(true),
            "0" | "f" | "false" | "no" => Some(false),
            _ => None,
        };
        Ok(self.parsed(name, parse)?.unwrap_or_default())
    }

    /// Returns the path that a variable names.
    pub(crate) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.get(name).map(|(_, value)| PathBuf::from(value))
    }

    /// Returns the folders that a variable lists, with colons in between.
    pub(crate) fn folders(&self, name: &'static str) -> Vec<PathBuf> {
        let listed = self.get(name).map(|(_, value)| std::env::split_paths(value).collect::<Vec<_>>());
        listed.unwrap_or_default().into_iter().filter(|folder| !folder.as_os_str().is_empty()).collect()
    }

    /// Returns the filter for our own logs.
    pub(crate) fn log_filter(&self) -> Option<String> {
        self.get("RB_LOG").map(|(_, value)| value.to_string_lossy().into_owned())
    }

    /// Returns whether stderr takes colours.
    pub(crate) fn colours(&self) -> bool {
        self.terminal && !self.dumb() && self.get("NO_COLOR").is_none()
    }

    /// Returns whether the terminal cannot redraw.
    pub(crate) fn dumb(&self) -> bool {
        self.get("TERM").is_none_or(|(_, term)| term == "dumb")
    }

    /// Returns the user's home.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(|(_, home)| Path::new(home))
    }

    /// Returns the state directory, absolute; `configured` is what the user's files say, which counts before the default.
    pub(crate) fn state_directory(&self, configured: Option<&Path>) -> Result<PathBuf, SettingsError> {
        if let Some(root) = self.path("RB_ROOT") {
            return if root.is_absolute() { Ok(root) } else { Err(relative("RB_ROOT", &root)) };
        }
        if let Some(configured) = configured {
            return Ok(configured.to_owned());
        }
        if self.root {
            return Ok(PathBuf::from("/var/lib/rb"));
        }
        // The XDG specification has relative paths ignored.
        if let Some(data) = self.path("XDG_DATA_HOME").filter(|data| data.is_absolute()) {
            return Ok(data.join("rb"));
        }
        let home = self.home().ok_or(SettingsError::NoHome)?;
        if home.is_absolute() { Ok(home.join(".local/share/rb")) } else { Err(relative("HOME", home)) }
    }
}

/// Whether a name is meant for us.
fn is_ours(name: &str) -> bool {
    name.starts_with("RB_") || name.starts_with("EARTHLY_")
}

fn relative(name: &'static str, path: &Path) -> SettingsError {
    SettingsError::Relative { name, value: path.display().to_string() }
}

/// What BuildKit tells a frontend that it has started.
pub(crate) struct Called {
    /// Options of the build.
    pub(crate) options: BTreeMap<String, String>,
    /// The session of the build's client.
    pub(crate) session: Option<String>,
}

impl Called {
    /// Reads it; none where BuildKit has started nothing.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub(crate) fn read() -> Option<Self> {
        let session = std::env::var("BUILDKIT_SESSION_ID").ok();
        let option = |(name, value): (OsString, OsString)| {
            name.to_str()?.strip_prefix("BUILDKIT_FRONTEND_OPT_")?;
            let (key, value) = value.to_str()?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        let options: BTreeMap<String, String> = std::env::vars_os().filter_map(option).collect();
        (session.is_some() || !options.is_empty())
            .then_some(Self { options, session: session.filter(|session| !session.is_empty()) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An environment of these variables, at `/ws`.
    pub(crate) fn environment(variables: &[(&'static str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect(),
            file: BTreeMap::new(),
            cwd: PathBuf::from("/ws"),
            root: false,
            terminal: true,
            processors: NonZeroUsize::MIN,
        }
    }

    fn lines(lines: &[(&str, &str)]) -> Vec<(String, String)> {
        lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_state_directory_follows_the_environment() {
        let at = |variables: &[(&'static str, &str)]| environment(variables).state_directory(None).ok();
        assert_eq!(at(&[("HOME", "/home/a")]), Some("/home/a/.local/share/rb".into()));
        assert_eq!(at(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/data")]), Some("/data/rb".into()));
        let relative = at(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "data")]);
        assert_eq!(relative, Some("/home/a/.local/share/rb".into()));
        assert_eq!(at(&[("HOME", "/home/a"), ("RB_ROOT", "/state")]), Some("/state".into()));
        assert_eq!(at(&[]), None);
        for (name, value) in [("HOME", "rel"), ("RB_ROOT", "./state")] {
            let error = environment(&[(name, value)]).state_directory(None).expect_err("not absolute");
            assert!(error.to_string().contains(&format!("{name} has the value `{value}`")), "{error}");
        }
        let root = Environment { root: true, ..environment(&[("HOME", "/root")]) };
        assert_eq!(root.state_directory(None).ok(), Some("/var/lib/rb".into()));
        let configured =
            |environment: &Environment| environment.state_directory(Some(Path::new("/mine"))).ok();
        assert_eq!(configured(&root), Some("/mine".into()));
        assert_eq!(configured(&environment(&[("RB_ROOT", "/state")])), Some("/state".into()));
    }

    #[test]
    fn earthlys_names_count_behind_ours_and_the_file_behind_both() {
        let mut both = environment(&[("EARTHLY_STRICT", "true"), ("RB_CI", "0"), ("EARTHLY_CI", "1")]);
        let warnings =
            both.add_file(lines(&[("RB_STRICT", "no"), ("EARTHLY_NO_CACHE", "yes")]), ".env", false);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(both.flag("RB_STRICT").ok(), Some(true));
        assert_eq!(both.flag("RB_CI").ok(), Some(false));
        assert_eq!(both.flag("RB_NO_CACHE").ok(), Some(true));
        assert!(both.only_in_file("RB_NO_CACHE") && !both.only_in_file("RB_STRICT"));
        let error = environment(&[("EARTHLY_PUSH", "maybe")]).flag("RB_PUSH").expect_err("neither");
        assert_eq!(error.to_string(), "the environment variable EARTHLY_PUSH has the value `maybe`");
    }

    #[test]
    fn a_file_of_the_project_allows_and_lends_nothing() {
        let mut environment = environment(&[]);
        for name in VARIABLES
            .iter()
            .filter(|variable| !variable.in_file)
            .flat_map(|variable| [Some(variable.name), variable.twin])
            .flatten()
        {
            let told = environment.add_file(lines(&[(name, "true")]), ".env", false);
            assert!(told.len() == 1 && told[0].contains(name), "{name}: {told:?}");
            assert_eq!(environment.get(name), None, "{name}");
        }
        let told = environment.add_file(lines(&[("PORT", "1"), ("URL", "2")]), ".env", false);
        assert!(
            told[0].starts_with("`.env` sets PORT and 1 more, which rb does not take from there"),
            "{told:?}"
        );
        assert!(environment.add_file(lines(&[("PORT", "1")]), ".env", true).is_empty());
        let told = environment.add_file(lines(&[("PORT", "1"), ("EARTHLY_STRCT", "1")]), ".env", true);
        assert!(told[0].starts_with("`.env` sets EARTHLY_STRCT, which"), "{told:?}");
    }
}

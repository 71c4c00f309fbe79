//! What the user gives a build beside its files: values of arguments, and secrets.
//!
//! In: options as typed, the environment, `.arg` and `.secret` of the working directory. Out: [`Given`].
//! Strongest first: what is typed, the environment, the files. A default file that is not there says nothing; one that the
//! user names has to be there. Source: earthly-language 3.7 and section 6.
//! **Invariant:** the value of a secret stands in no message.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rb_session::Secret;

use super::SettingsError;
use crate::args::BuildOptions;
use crate::env_file::{self, EnvFileError};
use crate::environment::Environment;
use crate::output_spec::split_csv;
use crate::world::{ReadError, read_regular};

/// Largest file of lines.
pub(super) const LINES_LIMIT_BYTES: u64 = 1 << 20;

/// Largest secret, as in BuildKit.
pub(super) const SECRET_LIMIT_BYTES: u64 = 500 << 10;

/// What is given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// Arguments for the target: `--build-arg`.
    pub(crate) args: BTreeMap<String, String>,
    /// Values for arguments that nobody has to declare: EARTHLY_BUILD_ARGS over `.arg`.
    pub(crate) defaults: BTreeMap<String, String>,
    /// Secrets by id.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Files that were read for this, and that a folder is lent without.
    pub(crate) files: Vec<OwnFile>,
    /// What is to be told.
    pub(crate) warnings: Vec<String>,
}

/// A file of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnFile {
    /// Absolute path; only its last part may be a link.
    pub(crate) path: PathBuf,
    /// It holds secrets.
    pub(crate) secret: bool,
}

/// One of the three files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Arg,
    Secret,
    Env,
}

impl Kind {
    /// Returns its name in the working directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Arg => ".arg",
            Self::Secret => ".secret",
            Self::Env => ".env",
        }
    }

    fn option_name(self) -> &'static str {
        match self {
            Self::Arg => "--arg-file-path",
            Self::Secret => "--secret-file-path",
            Self::Env => "--env-file-path",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Arg => "RB_ARG_FILE_PATH",
            Self::Secret => "RB_SECRET_FILE_PATH",
            Self::Env => "RB_ENV_FILE_PATH",
        }
    }

    fn option(self, options: &BuildOptions) -> Option<&PathBuf> {
        match self {
            Self::Arg => options.arg_file_path.as_ref(),
            Self::Secret => options.secret_file_path.as_ref(),
            Self::Env => options.env_file_path.as_ref(),
        }
    }
}

/// Lines of one of the three files.
pub(crate) struct Lines {
    /// Where they stand.
    pub(crate) path: PathBuf,
    /// The file as people know it.
    pub(crate) shown: String,
    /// Names and values.
    pub(crate) lines: Vec<(String, String)>,
}

/// Reads one of the three files; none where it is not there and nobody named it.
pub(crate) fn read_lines(
    kind: Kind,
    options: &BuildOptions,
    environment: &Environment,
) -> Result<Option<Lines>, SettingsError> {
    let named = kind.option(options).cloned().or_else(|| environment.path(kind.variable()));
    let shown = named.as_ref().map_or_else(|| kind.name().to_owned(), |path| path.display().to_string());
    let path = environment.cwd.join(named.as_deref().unwrap_or(Path::new(kind.name())));
    // A file that nobody named must not bring in what lies elsewhere: the folder may be a stranger's.
    if named.is_none() && leads_away(&path, &environment.cwd) {
        return Err(SettingsError::LeadsAway { file: shown, option: kind.option_name() });
    }
    let bytes = match read_regular(&path, LINES_LIMIT_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        // A folder `.env` (Python's virtual environments have that name) is none of ours.
        Err(ReadError::Folder) if named.is_none() => return Ok(None),
        Err(error) => return Err(SettingsError::unreadable(shown, error)),
    };
    match env_file::parse(&bytes) {
        Ok(lines) => Ok(Some(Lines { path, shown, lines })),
        Err(EnvFileError { line, trouble }) => Err(SettingsError::Line { file: shown, line, trouble }),
    }
}

/// Returns whether a path is a link to a place outside of a folder.
fn leads_away(path: &Path, folder: &Path) -> bool {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let real = |path: &Path| fs::canonicalize(path).ok();
    is_link && real(path).zip(real(folder)).is_some_and(|(path, folder)| !path.starts_with(folder))
}

/// Collects all that is given.
pub(crate) fn collect(options: &BuildOptions, environment: &Environment) -> Result<Given, SettingsError> {
    let mut given = Given::default();
    for word in &options.build_arg {
        let (name, value) = argument("--build-arg", word, true)?;
        given.args.insert(name, value);
    }
    if let Some(Lines { path, shown: _, lines }) = read_lines(Kind::Arg, options, environment)? {
        given.defaults.extend(lines);
        given.files.push(OwnFile { path, secret: false });
    }
    let from_shell = !environment.only_in_file("RB_BUILD_ARGS");
    for (variable, word) in list(environment, "RB_BUILD_ARGS")? {
        if from_shell || word.contains('=') {
            let (name, value) = argument(variable, &word, true)?;
            given.defaults.insert(name, value);
        } else {
            given.warnings.push(format!(
                "{variable} in `.env` names `{word}` without a value: a file of the project does not pass your shell's variables on"
            ));
        }
    }
    secrets(options, environment, &mut given)?;
    let env = Kind::Env.option(options).cloned().or_else(|| environment.path(Kind::Env.variable()));
    let env = environment.cwd.join(env.as_deref().unwrap_or(Path::new(Kind::Env.name())));
    given.files.push(OwnFile { path: env, secret: false });
    for file in &mut given.files {
        file.path = real(&file.path);
    }
    Ok(given)
}

/// Follows the links on the way to a file, and not one in its place.
fn real(path: &Path) -> PathBuf {
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Secrets with where each comes from.
#[derive(Default)]
struct Secrets(BTreeMap<String, (Secret, String)>);

impl Secrets {
    fn add(&mut self, name: String, secret: Secret, from: &str) -> Result<(), SettingsError> {
        match self.0.entry(name) {
            Entry::Vacant(place) => {
                place.insert((secret, from.to_owned()));
                Ok(())
            }
            Entry::Occupied(first) => Err(SettingsError::SecretTwice {
                name: first.key().clone(),
                first: first.get().1.clone(),
                second: from.to_owned(),
            }),
        }
    }
}

fn secrets(
    options: &BuildOptions,
    environment: &Environment,
    given: &mut Given,
) -> Result<(), SettingsError> {
    let mut found = Secrets::default();
    for word in &options.secret {
        let (name, value) = argument("--secret", word.reveal(), false)?;
        found.add(name, Secret::new(value), "--secret")?;
    }
    for word in &options.secret_file {
        let (name, secret, file) = secret_file("--secret-file", word, environment)?;
        given.files.push(file);
        found.add(name, secret, "--secret-file")?;
    }
    let typed: Vec<String> = found.0.keys().cloned().collect();
    for (variable, word) in list(environment, "RB_SECRETS")? {
        let (name, value) = argument(variable, &word, false)?;
        if !typed.contains(&name) {
            found.add(name, Secret::new(value), variable)?;
        }
    }
    for (variable, word) in list(environment, "RB_SECRET_FILES")? {
        let (name, secret, file) = secret_file(variable, &word, environment)?;
        given.files.push(file);
        if !typed.contains(&name) {
            found.add(name, secret, variable)?;
        }
    }
    if let Some(Lines { path, shown, lines }) = read_lines(Kind::Secret, options, environment)? {
        for (name, value) in lines {
            found.add(name, Secret::new(value), &shown)?;
        }
        given.files.push(OwnFile { path, secret: true });
    }
    given.secrets = found.0.into_iter().map(|(name, (secret, _))| (name, secret)).collect();
    Ok(())
}

/// Returns the words of a variable that is a list, with the name under which it was found.
fn list(environment: &Environment, name: &'static str) -> Result<Vec<(&'static str, String)>, SettingsError> {
    let Some((name, value)) = environment.get(name) else { return Ok(Vec::new()) };
    let text = value.to_str().ok_or(SettingsError::NotText { name: name.to_owned() })?;
    let words = split_csv(text).into_iter().map(|word| word.trim().to_owned());
    Ok(words.filter(|word| !word.is_empty()).map(|word| (name, word)).collect())
}

/// Reads `NAME=value`, or `NAME` with the value it has in the user's shell.
fn argument(option: &'static str, word: &str, identifier: bool) -> Result<(String, String), SettingsError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    // A secret may be for one host: GIT_AUTH_TOKEN.HOST:PORT.
    let fits =
        |next: char| next.is_ascii_alphanumeric() || next == '_' || (!identifier && "./-:".contains(next));
    if name.is_empty() || !name.chars().all(fits) {
        // What has no name may be a secret that was put in the wrong place.
        return Err(SettingsError::BadName { option });
    }
    let name = name.to_owned();
    let value = match value {
        Some(value) => value,
        None => match Environment::pass_on(&name).map(std::ffi::OsString::into_string) {
            Some(Ok(value)) => value,
            Some(Err(_)) => return Err(SettingsError::NotText { name }),
            None => return Err(SettingsError::NotInShell { option, name }),
        },
    };
    Ok((name, value))
}

fn secret_file(
    option: &'static str,
    word: &str,
    environment: &Environment,
) -> Result<(String, Secret, OwnFile), SettingsError> {
    let Some((name, file)) = word.split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty())
    else {
        return Err(SettingsError::NotAPair { option, word: word.to_owned() });
    };
    let path = match (file.strip_prefix("~/"), environment.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => environment.cwd.join(file),
    };
    let bytes = read_regular(&path, SECRET_LIMIT_BYTES)
        .map_err(|error| SettingsError::unreadable(file.to_owned(), error))?;
    Ok((name.to_owned(), Secret::new(bytes), OwnFile { path, secret: true }))
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    fn at(dir: &Path, variables: &[(&'static str, &str)]) -> Environment {
        let mut environment = environment(variables);
        environment.cwd = dir.to_owned();
        environment
    }

    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("writes");
        }
        dir
    }

    fn secret(given: &Given, name: &str) -> String {
        String::from_utf8_lossy(given.secrets.get(name).expect(name).as_ref()).into_owned()
    }

    #[test]
    fn what_is_typed_counts_before_the_environment_and_that_before_files() {
        let dir = files(&[(".arg", "A=file\nB=file\n"), (".secret", "S=file\n"), ("token", "from a file\n")]);
        let environment = at(
            dir.path(),
            &[("EARTHLY_BUILD_ARGS", "B=shell,\"C=a,b\""), ("EARTHLY_SECRETS", "T=shell,U=shell")],
        );
        let options = BuildOptions {
            build_arg: vec!["C=typed".to_owned(), "C=later".to_owned()],
            secret: vec!["T=typed=x".parse().expect("never fails")],
            secret_file: vec!["npm/token=token".to_owned()],
            ..BuildOptions::default()
        };
        let given = collect(&options, &environment).expect("is well formed");
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(given.args, map(&[("C", "later")]));
        assert_eq!(given.defaults, map(&[("A", "file"), ("B", "shell"), ("C", "a,b")]));
        let secrets = ["S", "T", "U", "npm/token"].map(|name| secret(&given, name));
        assert_eq!(secrets, ["file", "typed=x", "shell", "from a file\n"]);
        let hidden: Vec<_> =
            given.files.iter().map(|file| (file.path.file_name().expect("a name"), file.secret)).collect();
        assert_eq!(
            hidden,
            [
                (".arg".as_ref(), false),
                ("token".as_ref(), true),
                (".secret".as_ref(), true),
                (".env".as_ref(), false)
            ]
        );
        assert!(!format!("{given:?} {options:?}").contains("typed=x"));
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let dir = files(&[(".secret", "S=file\n")]);
        let options = BuildOptions {
            secret: vec!["S=hunter2".parse().expect("never fails")],
            ..BuildOptions::default()
        };
        let error = collect(&options, &at(dir.path(), &[])).expect_err("twice").to_string();
        assert_eq!(error, "the secret `S` is given twice, by --secret and by .secret");
    }

    #[test]
    fn a_named_file_has_to_be_there_and_a_default_one_need_not() {
        let dir = files(&[]);
        std::fs::create_dir(dir.path().join(".env")).expect("makes a folder");
        let environment = at(dir.path(), &[]);
        assert!(collect(&BuildOptions::default(), &environment).is_ok());
        assert!(
            read_lines(Kind::Env, &BuildOptions::default(), &environment).is_ok_and(|lines| lines.is_none())
        );
        let options = BuildOptions { arg_file_path: Some("my.arg".into()), ..BuildOptions::default() };
        let error = collect(&options, &environment).expect_err("is missing");
        assert!(error.to_string().starts_with("`my.arg` cannot be read"), "{error}");
        let named = at(dir.path(), &[("EARTHLY_SECRET_FILE_PATH", "/nowhere/x")]);
        assert!(collect(&BuildOptions::default(), &named).is_err());
    }

    #[test]
    fn mistakes_are_told_without_values() {
        let dir = files(&[(".secret", "A=1\nhunter2\n")]);
        let error = collect(&BuildOptions::default(), &at(dir.path(), &[])).expect_err("malformed");
        assert_eq!(error.to_string(), "`.secret`, line 2: expected NAME=value");
        let dir = files(&[]);
        for word in ["", "=hunter2", "hunter 2", "RB_NO_SUCH_VARIABLE"] {
            let options =
                BuildOptions { secret: vec![word.parse().expect("never fails")], ..BuildOptions::default() };
            let error = collect(&options, &at(dir.path(), &[])).expect_err(word).to_string();
            assert!(!error.contains("hunter"), "{error}");
        }
    }
}

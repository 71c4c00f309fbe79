//! Secrets and values of arguments as `docker build` is given them.
//!
//! In: `--secret id=NAME[,src=FILE|,env=VARIABLE]`, `--build-arg NAME[=VALUE]`, files of arguments. Out: secrets by id, values by
//! name. What is typed last counts. Unlike those of Buildfiles they come from what is typed alone: no file of the working
//! directory is read that nobody named.
//! **Invariant:** the value of a secret stands in no message.
//! Source: docker buildx build reference, "--secret", "--build-arg"; buildah-build(1), "--build-arg-file".

use std::collections::BTreeMap;
use std::path::Path;

use rb_session::Secret;

use super::SettingsError;
use super::given::{LINES_LIMIT_BYTES, SECRET_LIMIT_BYTES};
use crate::args::Hidden;
use crate::env_file::{self, EnvFileError};
use crate::environment::Environment;
use crate::output_spec::split_csv;
use crate::report::Failure;
use crate::world::read_regular;

/// What is wrong with what is given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LentError {
    #[error("--secret: {what}")]
    Secret { what: String },
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl From<LentError> for Failure {
    fn from(error: LentError) -> Self {
        let help = "write `--secret id=NAME,src=FILE`, or `--secret id=NAME,env=VARIABLE`";
        match error {
            LentError::Secret { .. } => Self::input(error.to_string(), Some(help.to_owned())),
            LentError::Settings(error) => error.into(),
        }
    }
}

/// Reads the secrets that are lent.
pub(crate) fn secrets(
    words: &[Hidden],
    environment: &Environment,
) -> Result<BTreeMap<String, Secret>, LentError> {
    words.iter().map(|word| secret(word.reveal(), environment)).collect()
}

/// Where a secret is.
#[derive(Default)]
struct Spec {
    id: String,
    file: Option<String>,
    variable: Option<String>,
    is_variable: bool,
}

fn secret(word: &str, environment: &Environment) -> Result<(String, Secret), LentError> {
    let malformed = |what: &str| LentError::Secret { what: what.to_owned() };
    let mut spec = Spec::default();
    for field in split_csv(word) {
        // What has no key may be the secret itself.
        let (key, value) = field.split_once('=').ok_or_else(|| malformed("a part of it has no `=`"))?;
        match (key.trim().to_lowercase().as_str(), value) {
            ("id", id) => spec.id = id.to_owned(),
            ("src" | "source", file) => spec.file = Some(file.to_owned()),
            ("env", variable) => spec.variable = Some(variable.to_owned()),
            ("type", "env") => spec.is_variable = true,
            ("type", "file") => {}
            ("type", _) => return Err(malformed("its type is neither `file` nor `env`")),
            (other, _) => return Err(malformed(&format!("it has no `{other}`"))),
        }
    }
    if spec.id.is_empty() {
        return Err(malformed("it has no id"));
    }
    let variable = match (spec.variable, &spec.file, spec.is_variable) {
        (Some(variable), ..) => Some(variable),
        (None, Some(file), true) => Some(file.clone()),
        (None, None, true) => Some(spec.id.clone()),
        (None, None, false) if Environment::pass_on(&spec.id).is_some() => Some(spec.id.clone()),
        (None, _, false) => None,
    };
    let secret = match variable {
        Some(name) => match Environment::pass_on(&name) {
            Some(value) => Secret::new(std::os::unix::ffi::OsStringExt::into_vec(value)),
            None => return Err(SettingsError::NotInShell { option: "--secret", name }.into()),
        },
        None => {
            let file = spec.file.unwrap_or_else(|| spec.id.clone());
            let path = match (file.strip_prefix("~/"), environment.home()) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => environment.cwd.join(&file),
            };
            let read = read_regular(&path, SECRET_LIMIT_BYTES);
            Secret::new(read.map_err(|error| SettingsError::unreadable(file, error))?)
        }
    };
    Ok((spec.id, secret))
}

/// Reads values of arguments: those of files, and over them those that are typed. A name that the user's shell has no value for is
/// left out, as docker does.
pub(crate) fn arguments<'a>(
    files: impl IntoIterator<Item = &'a Path>,
    words: &[String],
    environment: &Environment,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut given = BTreeMap::new();
    for file in files {
        let shown = file.display().to_string();
        let bytes = read_regular(&environment.cwd.join(file), LINES_LIMIT_BYTES)
            .map_err(|error| SettingsError::unreadable(shown.clone(), error))?;
        let lines = env_file::parse(&bytes)
            .map_err(|EnvFileError { line, trouble }| SettingsError::Line { file: shown, line, trouble })?;
        given.extend(lines);
    }
    for word in words {
        match word.split_once('=') {
            Some(("", _)) => return Err(SettingsError::BadName { option: "--build-arg" }),
            Some((name, value)) => drop(given.insert(name.to_owned(), value.to_owned())),
            None if word.is_empty() => return Err(SettingsError::BadName { option: "--build-arg" }),
            None => match Environment::pass_on(word).map(std::ffi::OsString::into_string) {
                Some(Ok(value)) => drop(given.insert(word.clone(), value)),
                Some(Err(_)) => return Err(SettingsError::NotText { name: word.clone() }),
                None => {}
            },
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use crate::environment::tests::environment;

    use super::*;

    fn at(dir: &Path) -> Environment {
        let mut environment = environment(&[]);
        environment.cwd = dir.to_owned();
        environment
    }

    fn words(texts: &[&str]) -> Vec<Hidden> {
        texts.iter().map(|text| text.parse().expect("never fails")).collect()
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("token"), "from a file").expect("writes");
        let environment = at(dir.path());
        let lent = |text: &str| {
            let lent = secrets(&words(&[text]), &environment).expect(text);
            let text = |secret: &Secret| String::from_utf8_lossy(secret.as_ref()).into_owned();
            lent.iter().map(|(id, secret)| (id.clone(), text(secret))).next().expect("one")
        };
        let one = |id: &str, value: &str| (id.to_owned(), value.to_owned());
        for text in ["id=a,src=token", "type=file,id=a,source=token"] {
            assert_eq!(lent(text), one("a", "from a file"), "{text}");
        }
        assert_eq!(lent("id=token"), one("token", "from a file"));
        let manifest = Environment::pass_on("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let manifest = manifest.to_string_lossy();
        for text in ["id=a,env=CARGO_MANIFEST_DIR", "type=env,id=a,src=CARGO_MANIFEST_DIR"] {
            assert_eq!(lent(text), one("a", &manifest), "{text}");
        }
        assert_eq!(lent("id=CARGO_MANIFEST_DIR"), one("CARGO_MANIFEST_DIR", &manifest));
    }

    #[test]
    fn mistakes_are_told_without_values() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for text in ["hunter2", "id=", "src=hunter2", "id=a,type=hunter2", "id=a,env=RB_NO_SUCH"] {
            let error = secrets(&words(&[text]), &at(dir.path())).expect_err(text).to_string();
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn what_is_typed_counts_before_files() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("args"), "A=file\nB=file\n").expect("writes");
        let typed = ["B=typed=x", "RB_NO_SUCH_VARIABLE", "C="].map(str::to_owned);
        let given = arguments([Path::new("args")], &typed, &at(dir.path())).expect("reads");
        let given: Vec<_> = given.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(given, ["A=file", "B=typed=x", "C="]);
        assert!(arguments([], &["=x".to_owned()], &at(dir.path())).is_err());
    }
}

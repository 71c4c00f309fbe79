//! Names of buildx's builders. All of them are rb; one that nobody made is refused, as buildx refuses it.
//!
//! In: words of `docker buildx`, BUILDX_BUILDER. A name is known that `docker buildx create` gave here, that buildx itself keeps, or
//! that is a context of docker's. What is kept of a name is an empty file in `rb/builders` of the folder of docker's settings.
//! Source: buildx, what names it takes, and where it keeps its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::place;
use crate::environment::Environment;
use crate::report::Failure;

/// Names that are always there: rb's own, and those of docker's own builder.
const ALWAYS: [&str; 2] = ["rb", "default"];

/// A settings file of docker's is at most this long.
const LIMIT_BYTES: u64 = 1 << 20;

/// Leaves out which builder is meant, and returns what was said last. What stands behind `--` is no option.
pub(super) fn named(words: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let (mut kept, mut name) = (Vec::with_capacity(words.len()), None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--builder") => name = words.next().map(|name| name.to_string_lossy().into_owned()),
            Some("-D" | "--debug") if kept.is_empty() => {}
            Some("--") => {
                kept.push(word);
                kept.extend(words.by_ref());
            }
            text => match text.and_then(|text| text.strip_prefix("--builder=")) {
                Some(text) => name = Some(text.to_owned()),
                None => kept.push(word),
            },
        }
    }
    (kept, name.filter(|name| !name.is_empty()))
}

/// Returns the name of the builder that the environment names.
pub(super) fn of_environment() -> Option<String> {
    Environment::pass_on("BUILDX_BUILDER")?.into_string().ok().filter(|name| !name.is_empty())
}

/// Names of builders on this machine.
pub(super) struct Builders {
    /// The folder of docker's settings, if there is a place for it.
    folder: Option<PathBuf>,
}

impl Builders {
    /// Those that docker's settings know.
    pub(super) fn here() -> Self {
        Self { folder: place::config_folder() }
    }

    #[cfg(test)]
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()) }
    }

    /// Refuses a builder that nobody made; without a name, the one that the environment names counts.
    pub(super) fn check(&self, typed: Option<&str>) -> Result<(), Failure> {
        let name = typed.map(ToOwned::to_owned).filter(|name| !name.is_empty()).or_else(of_environment);
        name.filter(|name| !self.knows(name)).map_or(Ok(()), |name| Err(none(&name)))
    }

    fn knows(&self, name: &str) -> bool {
        ALWAYS.contains(&name)
            || self.made().iter().any(|made| made == name)
            || self.folder.as_ref().is_some_and(|folder| of_buildx(folder, name) || is_context(folder, name))
    }

    /// Returns the names that were made here, in order.
    pub(super) fn made(&self) -> Vec<String> {
        // A folder that is not there has none.
        let entries = self.own().and_then(|folder| std::fs::read_dir(folder).ok());
        let names =
            entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort();
        names
    }

    /// Makes the name known that `create` was given; returns the name of the builder.
    pub(super) fn create(&self, words: &[OsString]) -> Result<String, Failure> {
        let Some(name) = value_of("--name", words) else { return Ok(ALWAYS[0].to_owned()) };
        if !is_name(&name) {
            let help = "letters first, then letters, digits, `.`, `_` and `-`, too".to_owned();
            return Err(Failure::input(format!("`{name}` is no name of a builder"), Some(help)));
        }
        if self.knows(&name) {
            return Ok(name);
        }
        let help = "set HOME, or DOCKER_CONFIG to the folder of docker's settings".to_owned();
        let Some(folder) = self.own() else {
            return Err(Failure::input(
                "the name has no place: neither DOCKER_CONFIG nor HOME is set",
                Some(help),
            ));
        };
        let made = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(&name), ""));
        made.map_err(|error| {
            Failure::environment(&format!("`{name}` cannot be kept in {}", folder.display()), &error)
        })?;
        Ok(name)
    }

    /// Forgets a name that was made here.
    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        self.check(Some(name))?;
        match self.own().map(|folder| folder.join(name)).filter(|path| is_name(name) && path.is_file()) {
            Some(path) => std::fs::remove_file(&path).map_err(|error| {
                Failure::environment(&format!("{} cannot be removed", path.display()), &error)
            }),
            // Docker's own, and buildx's.
            None => Ok(()),
        }
    }

    fn own(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("rb/builders"))
    }
}

fn none(name: &str) -> Failure {
    let help = format!(
        "`rb engine add {name} ADDRESS` makes one known that is a BuildKit daemon, `docker buildx create --name {name}` one that is rb"
    );
    Failure::input(format!("no builder `{name}` found"), Some(help))
}

/// Returns the value of an option among words.
fn value_of(option: &str, words: &[OsString]) -> Option<String> {
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if word == option {
            return words.next().map(|value| value.into_owned());
        }
        if let Some(value) = word.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

/// Tells whether a builder may be called so; no such name leads out of a folder.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'))
}

/// Tells whether buildx keeps a builder of that name.
fn of_buildx(folder: &Path, name: &str) -> bool {
    is_name(name) && folder.join("buildx/instances").join(name).is_file()
}

/// Tells whether docker has a context of that name: buildx has a builder for each.
fn is_context(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder.join("contexts/meta")) else { return false };
    let named = |entry: std::io::Result<std::fs::DirEntry>| {
        let bytes = crate::world::read_regular(&entry.ok()?.path().join("meta.json"), LIMIT_BYTES).ok()?;
        let meta: Value = serde_json::from_slice(&bytes).ok()?;
        Some(meta["Name"].as_str()? == name)
    };
    entries.into_iter().any(|entry| named(entry) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_name_of_a_builder_is_taken_out() {
        let taken = |line: &str| named(words(line));
        assert_eq!(taken("--builder mine build ."), (words("build ."), Some("mine".to_owned())));
        assert_eq!(taken("-D b --builder=a --builder b . "), (words("b ."), Some("b".to_owned())));
        assert_eq!(taken("b --builder= ."), (words("b ."), None));
        assert_eq!(taken("b -- --builder x"), (words("b -- --builder x"), None));
    }

    #[test]
    fn what_was_made_is_known_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let builders = Builders { folder: Some(dir.path().to_owned()) };
        let told = builders.check(Some("mine")).expect_err("nobody made it").message();
        assert_eq!(told, "no builder `mine` found");
        assert_eq!(builders.create(&words("--use")).expect("is rb"), "rb");
        assert_eq!(builders.create(&words("--use --name mine --driver x")).expect("is made"), "mine");
        assert_eq!(builders.create(&words("--name=other")).expect("is made"), "other");
        builders.create(&words("--name ../x")).expect_err("leads out");
        assert_eq!(builders.made(), ["mine", "other"]);
        builders.check(Some("mine")).expect("is known");
        builders.remove("mine").expect("goes");
        builders.remove("mine").expect_err("is gone");
        builders.remove("default").expect("stays");
        for name in ["rb", "default"] {
            builders.check(Some(name)).expect("is always there");
        }
    }

    #[test]
    fn contexts_and_builders_of_buildx_are_known() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let builders = Builders { folder: Some(dir.path().to_owned()) };
        let meta = dir.path().join("contexts/meta/0123");
        std::fs::create_dir_all(&meta).expect("makes");
        std::fs::write(meta.join("meta.json"), r#"{"Name":"remote"}"#).expect("writes");
        std::fs::create_dir_all(dir.path().join("buildx/instances")).expect("makes");
        std::fs::write(dir.path().join("buildx/instances/old"), "{}").expect("writes");
        for (name, is_known) in [("remote", true), ("old", true), ("../instances/old", false), ("new", false)]
        {
            assert_eq!(builders.check(Some(name)).is_ok(), is_known, "{name}");
        }
    }
}

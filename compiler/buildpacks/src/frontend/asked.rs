//! What users write of a build: words that name buildpacks, variables.
//!
//! In: words of a command line, a build file or a project. Out: [`BuildpackWord`], as far as the word alone tells: whether a bare
//! word is a path, who knows the folder has to look. Source: pack's locators.

use std::collections::BTreeMap;

use rb_llb::{CopyAction, NodeMeta, State, attr};

use super::modules::BuildpackChoice;
use crate::environment::EnvironmentFiles;

/// What an archive from elsewhere is called.
const ARCHIVE: &str = "buildpack.tgz";

/// Ends of names of files, which no id has.
const PACKED: [&str; 2] = [".cnb", ".tgz"];

/// What a word says of a buildpack.
#[derive(Clone, Debug)]
pub enum BuildpackWord {
    /// All of it.
    Choice(BuildpackChoice),
    /// An id in a registry of buildpacks.
    Registered {
        /// The id, `NAMESPACE/NAME`.
        id: String,
        /// The version; the newest if none is said.
        version: Option<String>,
    },
    /// A path, if something is there, or it can be nothing else; else an id.
    Path {
        /// The path.
        path: String,
        /// It can be nothing else.
        only: bool,
    },
}

/// A word names no buildpack that can be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("buildpack `{word}`: {why}")]
pub struct WordError {
    word: String,
    why: &'static str,
    /// What to do.
    pub help: &'static str,
}

impl WordError {
    /// Says that nothing is where a path leads.
    pub fn nowhere(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            why: "there is no such folder or archive",
            help: "a buildpack of the builder is named by its id: `ID@VERSION`",
        }
    }
}

impl WordError {
    /// Says that nothing is asked that way.
    fn scheme(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            why: "no buildpack can be had from an address of this kind",
            help: "http://, https://, file:// and docker:// are addresses of buildpacks",
        }
    }

    /// Says that there are no registries of buildpacks.
    pub fn no_registry(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            why: "no registry of buildpacks is known here",
            help: "`rb pack config registries add NAME URL --default`, for `rb pack build`; or name its image: `docker://IMAGE`",
        }
    }
}

impl BuildpackWord {
    /// Reads a word.
    pub fn read(word: &str) -> Result<Self, WordError> {
        if let Some(id) = word.strip_prefix("urn:cnb:registry:") {
            let (id, version) = id.split_once('@').map_or((id, None), |(id, version)| (id, Some(version)));
            return Ok(Self::Registered { id: id.to_owned(), version: version.map(ToOwned::to_owned) });
        }
        let of_builder = ["urn:cnb:builder:", "from=builder:"];
        Ok(Self::Choice(if word == "from=builder" {
            BuildpackChoice::FromBuilder
        } else if let Some(id) = of_builder.iter().find_map(|prefix| word.strip_prefix(prefix)) {
            BuildpackChoice::by_id(id)
        } else if let Some(image) = word.strip_prefix("docker:/") {
            BuildpackChoice::Package(image.trim_start_matches('/').to_owned())
        } else if word.starts_with("http://") || word.starts_with("https://") {
            let attrs = BTreeMap::from([(attr::HTTP_FILENAME.to_owned(), ARCHIVE.to_owned())]);
            let tar = State::source(word, attrs, None, NodeMeta::named(format!("load {word}")));
            BuildpackChoice::unpacked(&tar, &format!("/{ARCHIVE}"), word)
        } else {
            let path = word.strip_prefix("file:").map(|path| path.strip_prefix("//").unwrap_or(path));
            let path =
                path.map(|path| path.strip_prefix("localhost/").map_or(path, |_| &path["localhost".len()..]));
            if path.is_none() && word.contains(":/") {
                return Err(WordError::scheme(word));
            }
            let only = word.starts_with(['.', '/'])
                || path.is_some()
                || PACKED.iter().any(|end| word.ends_with(end));
            let path = path.unwrap_or(word);
            return Ok(Self::Path { path: path.to_owned(), only });
        }))
    }
}

impl BuildpackChoice {
    /// Reads `ID[@VERSION]`.
    pub fn by_id(word: &str) -> Self {
        let (id, version) =
            word.split_once('@').map_or((word, None), |(id, version)| (id, Some(version.to_owned())));
        Self::Id { id: id.to_owned(), version, registry: None }
    }

    /// Takes what is in an archive.
    pub fn unpacked(tar: &State, path: &str, shown: &str) -> Self {
        let copy = CopyAction {
            src: path.to_owned(),
            dest: "/".to_owned(),
            attempt_unpack: true,
            create_dest_path: true,
            ..CopyAction::default()
        };
        let state = State::scratch().copy(tar, copy, NodeMeta::named(format!("unpack {shown}")));
        Self::Folder { state, path: "/".to_owned(), shown: shown.to_owned() }
    }
}

/// Makes the platform's files of the user's variables. The error says why one cannot be.
pub fn user_variables(all: BTreeMap<String, String>) -> Result<EnvironmentFiles, String> {
    let mut files = EnvironmentFiles::default();
    for (name, value) in all {
        let bad = |why: &str| format!("the variable `{name}` of the build: {why}");
        if name.is_empty() || name.contains('/') || [".", ".."].contains(&name.as_str()) {
            return Err(bad("each is a file of this name for buildpacks, which cannot be"));
        }
        files.insert(&name, value.as_bytes()).map_err(|error| bad(&error.to_string()))?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_words_say_alone() {
        let read = |word: &str| BuildpackWord::read(word);
        let id = |word: &str| match read(word) {
            Ok(BuildpackWord::Choice(BuildpackChoice::Id { id, version, registry: None })) => (id, version),
            other => panic!("{other:?}"),
        };
        assert_eq!(id("urn:cnb:builder:a/b@1"), ("a/b".to_owned(), Some("1".to_owned())));
        assert_eq!(id("urn:cnb:builder:a/b"), ("a/b".to_owned(), None));
        assert!(matches!(read("from=builder"), Ok(BuildpackWord::Choice(BuildpackChoice::FromBuilder))));
        let image = read("docker:///example.com/bp:1");
        let Ok(BuildpackWord::Choice(BuildpackChoice::Package(image))) = image else { panic!("{image:?}") };
        assert_eq!(image, "example.com/bp:1");
        assert!(matches!(
            read("https://example.com/bp.tgz"),
            Ok(BuildpackWord::Choice(BuildpackChoice::Folder { .. }))
        ));
        for (word, expected, is_path) in [
            ("a/b@1", "a/b@1", false),
            ("a.cnb", "a.cnb", true),
            ("./a", "./a", true),
            ("/a", "/a", true),
            ("file:///a", "/a", true),
            ("file://localhost/a", "/a", true),
            ("file:a", "a", true),
        ] {
            let Ok(BuildpackWord::Path { path, only }) = read(word) else { panic!("{word}") };
            assert_eq!((path.as_str(), only), (expected, is_path));
        }
        assert!(matches!(read("./a.cnb"), Ok(BuildpackWord::Path { only: true, .. })));
        for word in ["s3://example.com/a.tgz", "git://example.com/a", "foo:/a"] {
            read(word).expect_err(word);
        }
        for word in ["docker:/example.com/bp:1", "docker://example.com/bp:1"] {
            let image = read(word);
            let Ok(BuildpackWord::Choice(BuildpackChoice::Package(image))) = image else {
                panic!("{image:?}")
            };
            assert_eq!(image, "example.com/bp:1");
        }
        assert_eq!(id("from=builder:a/b@1"), ("a/b".to_owned(), Some("1".to_owned())));
        let registered = |word: &str| match read(word) {
            Ok(BuildpackWord::Registered { id, version }) => (id, version),
            other => panic!("{other:?}"),
        };
        assert_eq!(registered("urn:cnb:registry:a/b@1"), ("a/b".to_owned(), Some("1".to_owned())));
        assert_eq!(registered("urn:cnb:registry:a/b"), ("a/b".to_owned(), None));
    }

    #[test]
    fn variables_are_files() {
        let of = |name: &str, value: &str| user_variables([(name.to_owned(), value.to_owned())].into());
        assert_eq!(of("A", "x=y").expect("a file").files()["A"], "x=y");
        for (name, value) in [("", "x"), ("../x", "x"), (".", "x"), ("A", "\0")] {
            assert!(of(name, value).is_err(), "{name}");
        }
    }
}

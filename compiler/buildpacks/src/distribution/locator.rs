//! Locators: the words that say where a module is.
//!
//! In: a text. Out: [`Locator`]: a place, or a name in a builder. Whether a bare word is a path that is there, its reader has to
//! look. Source: pack's locators.

use crate::ModuleKey;

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    /// A file or folder of this machine.
    Path(String),
    /// A file of the web.
    Web(String),
    /// An image that is a package.
    Image(String),
    /// A module of the builder.
    Builder {
        /// Its id.
        id: String,
        /// Its version, unless any will do.
        version: Option<String>,
    },
    /// All modules of the builder, by its own order.
    FromBuilder,
    /// A module of a registry of buildpacks.
    Registered {
        /// Its id, `NAMESPACE/NAME`.
        id: String,
        /// Its version; the newest if none is said.
        version: Option<String>,
    },
}

/// A text says of no place where a module is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocatorError {
    /// It is one of a registry of buildpacks, and none is known.
    #[error("`{0}`: no registry of buildpacks is known here")]
    NoRegistry(String),
    /// It is nothing that is known.
    #[error("`{0}` is no place of a module")]
    Unknown(String),
}

impl Locator {
    /// Reads a locator. `is_there` tells whether a path is there, `in_builder` whether the builder has a module of this id and
    /// version, `has_registry` whether a registry of buildpacks is known: without one a bare id is the name of an image.
    pub fn parse(
        text: &str,
        is_there: &dyn Fn(&str) -> bool,
        in_builder: &dyn Fn(&str, Option<&str>) -> bool,
        has_registry: bool,
    ) -> Result<Self, LocatorError> {
        let unknown = || LocatorError::Unknown(text.chars().take(200).collect());
        if text == "from=builder" {
            return Ok(Self::FromBuilder);
        }
        for prefix in ["urn:cnb:builder:", "from=builder:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                let (id, version) = id_of(rest);
                let found = !id.is_empty() && in_builder(id, version);
                return if found { Ok(Self::in_builder(id, version)) } else { Err(unknown()) };
            }
        }
        if let Some(rest) = text.strip_prefix("urn:cnb:registry:") {
            return match (id_of(rest), has_registry) {
                (("", _), _) => Err(unknown()),
                (_, false) => Err(LocatorError::NoRegistry(text.chars().take(200).collect())),
                ((id, version), true) => Ok(Self::registered(id, version)),
            };
        }
        match text.split_once("://") {
            Some(("docker", name)) => return image(name.trim_start_matches('/')).ok_or_else(unknown),
            Some(("http" | "https", _)) => return Ok(Self::Web(text.to_owned())),
            Some(("file", path)) => {
                let path = path.strip_prefix("localhost").unwrap_or(path);
                return if path.starts_with('/') { Ok(Self::Path(path.to_owned())) } else { Err(unknown()) };
            }
            Some(_) => return Err(unknown()),
            None => {}
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::Path(path.to_owned()));
        }
        if is_there(text) {
            return Ok(Self::Path(text.to_owned()));
        }
        let (id, version) = id_of(text);
        if in_builder(id, version) {
            return Ok(Self::in_builder(id, version));
        }
        // What looks like a path and is not there is no image.
        if text.starts_with(['.', '/']) || [".tgz", ".cnb", ".tar"].iter().any(|end| text.ends_with(end)) {
            return Ok(Self::Path(text.to_owned()));
        }
        if has_registry && is_of_registry(id, version) {
            return Ok(Self::registered(id, version));
        }
        image(text).ok_or_else(unknown)
    }

    /// Whether it names this module of a builder.
    pub fn names(&self, key: &ModuleKey) -> bool {
        match self {
            Self::Builder { id, version } => {
                *id == key.id && version.as_ref().is_none_or(|version| *version == key.version)
            }
            Self::Path(_) | Self::Web(_) | Self::Image(_) | Self::FromBuilder | Self::Registered { .. } => {
                false
            }
        }
    }

    fn in_builder(id: &str, version: Option<&str>) -> Self {
        Self::Builder { id: id.to_owned(), version: version.map(ToOwned::to_owned) }
    }

    fn registered(id: &str, version: Option<&str>) -> Self {
        Self::Registered { id: id.to_owned(), version: version.map(ToOwned::to_owned) }
    }
}

/// Tells whether a bare word has the form of an id in a registry: two names, and a version of three numbers, if any. What begins with
/// the name of a host is an image.
fn is_of_registry(id: &str, version: Option<&str>) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(fits);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = |version: &str| {
        let numbers = version.split(['-', '+']).next().unwrap_or_default();
        numbers.split('.').count() == 3 && numbers.split('.').all(is_number)
    };
    let is_id = id.split_once('/').is_some_and(|(namespace, name)| is_name(namespace) && is_name(name));
    is_id && !rb_oci::names_host(id) && version.is_none_or(is_version)
}

fn image(name: &str) -> Option<Locator> {
    name.parse::<rb_oci::Reference>().is_ok().then(|| Locator::Image(name.to_owned()))
}

/// Reads `ID[@VERSION]`.
fn id_of(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((id, version)) => (id, Some(version).filter(|version| !version.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_places() {
        let parse_with = |has_registry: bool, text: &str| {
            let in_builder =
                |id: &str, version: Option<&str>| id == "a/b" && version.is_none_or(|version| version == "1");
            Locator::parse(text, &|path| path == "here", &in_builder, has_registry)
        };
        let parse = |text: &str| parse_with(false, text);
        let version = |version: &str| Locator::in_builder("a/b", Some(version));
        for (text, expected) in [
            ("here", Locator::Path("here".into())),
            ("./gone", Locator::Path("./gone".into())),
            ("gone.tgz", Locator::Path("gone.tgz".into())),
            ("file:///x/y.cnb", Locator::Path("/x/y.cnb".into())),
            ("https://example.com/x.tgz", Locator::Web("https://example.com/x.tgz".into())),
            ("docker://example.com/x:1", Locator::Image("example.com/x:1".into())),
            ("docker:///x", Locator::Image("x".into())),
            ("example.com/x", Locator::Image("example.com/x".into())),
            ("from=builder", Locator::FromBuilder),
            ("from=builder:a/b", Locator::in_builder("a/b", None)),
            ("urn:cnb:builder:a/b@1", version("1")),
            ("a/b@1", version("1")),
            ("a/b", Locator::in_builder("a/b", None)),
            ("a/c", Locator::Image("a/c".into())),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert!(matches!(parse("urn:cnb:registry:a/b"), Err(LocatorError::NoRegistry(_))));
        let registered = |version: Option<&str>| Ok(Locator::registered("a/c", version));
        let digest = format!("a/c@sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("urn:cnb:registry:a/c", registered(None)),
            ("urn:cnb:registry:a/c@7", registered(Some("7"))),
            ("a/c", registered(None)),
            ("a/c@1.2.3-rc.1+x", registered(Some("1.2.3-rc.1+x"))),
            ("a/b@1", Ok(version("1"))),
            ("example.com/x", Ok(Locator::Image("example.com/x".into()))),
            ("a/c:1", Ok(Locator::Image("a/c:1".into()))),
            (&digest, Ok(Locator::Image(digest.clone()))),
        ] {
            assert_eq!(parse_with(true, text), expected, "{text}");
        }
        assert!(matches!(parse_with(true, "urn:cnb:registry:"), Err(LocatorError::Unknown(_))));
        for text in ["urn:cnb:builder:a/c", "urn:cnb:builder:a/b@2", "ftp://x", "A b", "file://host/x", ""] {
            assert!(matches!(parse(text), Err(LocatorError::Unknown(_))), "{text}");
        }
    }
}

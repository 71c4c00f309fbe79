//! `--output type=…,dest=…`, in docker's syntax.
//!
//! In: the value of `-o`. Out: an [`OutputSpec`]. Fields are comma-separated `key=value`; a field in double quotes
//! may hold commas (`""` is a quote), as CSV has it. A value without `=` is a folder for `type=local`.
//! Source: docker buildx build reference, "--output".

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::world::normalise;

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputSpec {
    /// `type=oci`: an image as an OCI layout, a tar file unless `tar=false`.
    Oci { dest: PathBuf, tar: bool, name: Option<String> },
    /// `type=tar`: the filesystem as a tar file.
    Tar { dest: PathBuf },
    /// `type=local`: the filesystem's files.
    Local { dest: PathBuf },
    /// `type=image`: an image into the store.
    Image { name: String },
}

/// What is wrong with a value of `-o`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputSpecError {
    #[error("`{field}` is not key=value")]
    Field { field: String },
    #[error("no type: expected type=oci, type=tar, type=local or type=image")]
    NoType,
    #[error("type `{kind}` is unknown: expected oci, tar, local or image")]
    Type { kind: String },
    #[error("type={kind} needs {key}=…")]
    Missing { kind: String, key: &'static str },
    #[error("type={kind} has no `{key}`")]
    Unknown { kind: String, key: String },
    #[error("`{key}={value}`: expected true or false")]
    Flag { key: &'static str, value: String },
    #[error("dest=- (standard output) is not supported: name a file")]
    Stdout,
    #[error("dest= is empty: name a file or folder")]
    Empty,
    #[error("dest={dest} is the root of the disk: name a folder of its own")]
    Root { dest: String },
    #[error("`{key}` is given twice")]
    Twice { key: String },
    #[error("two outputs go to `{dest}`: give each its own")]
    SameDest { dest: String },
    #[error("`{word}` is a target: this option takes type=TYPE,dest=PATH, and the target stands behind it")]
    Target { word: String },
}

impl FromStr for OutputSpec {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        let fields = split_csv(text);
        if let [only] = fields.as_slice()
            && !only.contains('=')
        {
            // Others have an `--output` without a value.
            let target = only.rsplit_once('+').is_some_and(|(dir, name)| {
                !name.is_empty() && !name.contains('/') && (dir.is_empty() || dir.starts_with('.'))
            });
            if target {
                return Err(OutputSpecError::Target { word: only.clone() });
            }
            return dest(only.clone()).map(|dest| Self::Local { dest });
        }
        let mut map = BTreeMap::new();
        for field in fields {
            let (key, value) =
                field.split_once('=').ok_or_else(|| OutputSpecError::Field { field: field.clone() })?;
            let key = key.trim().to_lowercase();
            if map.insert(key.clone(), value.to_owned()).is_some() {
                return Err(OutputSpecError::Twice { key });
            }
        }
        let kind = map.remove("type").ok_or(OutputSpecError::NoType)?;
        let missing = |key| OutputSpecError::Missing { kind: kind.clone(), key };
        let spec = match kind.as_str() {
            "oci" => {
                let tar = map.remove("tar").map_or(Ok(true), |value| flag("tar", value))?;
                let to = map.remove("dest").ok_or_else(|| missing("dest"))?;
                Self::Oci { dest: dest(to)?, tar, name: map.remove("name") }
            }
            "tar" => Self::Tar { dest: dest(map.remove("dest").ok_or_else(|| missing("dest"))?)? },
            "local" => Self::Local { dest: dest(map.remove("dest").ok_or_else(|| missing("dest"))?)? },
            "image" => Self::Image { name: map.remove("name").ok_or_else(|| missing("name"))? },
            _ => return Err(OutputSpecError::Type { kind }),
        };
        match map.into_keys().next() {
            Some(key) => Err(OutputSpecError::Unknown { kind, key }),
            None => Ok(spec),
        }
    }
}

fn dest(text: String) -> Result<PathBuf, OutputSpecError> {
    match text.as_str() {
        "-" => Err(OutputSpecError::Stdout),
        "" => Err(OutputSpecError::Empty),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Checks what only several outputs, or the working directory, can show: all before anything is built.
pub(crate) fn check(specs: &[OutputSpec], cwd: &Path) -> Result<(), OutputSpecError> {
    let mut seen = BTreeSet::new();
    for dest in specs.iter().filter_map(OutputSpec::dest) {
        let shown = || dest.display().to_string();
        let place = resolve(&cwd.join(dest));
        if place.parent().is_none() {
            return Err(OutputSpecError::Root { dest: shown() });
        }
        if !seen.insert(place) {
            return Err(OutputSpecError::SameDest { dest: shown() });
        }
    }
    Ok(())
}

/// Follows the symlinks of what is there of an absolute path.
fn resolve(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(there) = std::fs::canonicalize(above) {
            let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
            return normalise(&there.join(rest));
        }
    }
    normalise(path)
}

impl OutputSpec {
    /// Returns where on the disk it goes.
    fn dest(&self) -> Option<&Path> {
        match self {
            Self::Oci { dest, .. } | Self::Tar { dest } | Self::Local { dest } => Some(dest),
            Self::Image { .. } => None,
        }
    }
}

fn flag(key: &'static str, value: String) -> Result<bool, OutputSpecError> {
    match value.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(OutputSpecError::Flag { key, value }),
    }
}

/// Splits at commas; a field in double quotes may hold them.
pub(crate) fn split_csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let last = fields.last_mut().expect("one field is there from the start");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                last.push('"');
            }
            '"' if quoted || last.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => last.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        let oci = |dest: &str, tar| OutputSpec::Oci { dest: dest.into(), tar, name: None };
        for (text, expected) in [
            ("type=oci,dest=x.tar", oci("x.tar", true)),
            ("type=oci,tar=false,dest=dir", oci("dir", false)),
            ("\"dest=a,b\"\"c\",type=oci", oci("a,b\"c", true)),
            ("type=tar,dest=x=y.tar", OutputSpec::Tar { dest: "x=y.tar".into() }),
            ("type=local,dest=out", OutputSpec::Local { dest: "out".into() }),
            ("out", OutputSpec::Local { dest: "out".into() }),
            ("type=image,name=a:b", OutputSpec::Image { name: "a:b".to_owned() }),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn outputs_have_places_of_their_own() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("a")).expect("makes a folder");
        std::os::unix::fs::symlink("/", dir.path().join("top")).expect("links");
        std::os::unix::fs::symlink("a", dir.path().join("b")).expect("links");
        let checked = |texts: &[&str]| {
            let specs: Vec<OutputSpec> = texts.iter().map(|text| text.parse().expect("an output")).collect();
            check(&specs, dir.path()).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&["a/x", "a/y", "type=image,name=a", "type=image,name=b"]), Ok(()));
        for root in ["/", "//", "/.", "/tmp/..", "top", "nowhere/../../../../../../../../../.."] {
            let error = checked(&[root]).expect_err(root);
            assert_eq!(error, format!("dest={root} is the root of the disk: name a folder of its own"));
        }
        for (one, two) in [("a/x", "./a/x"), ("a/x", "b/x"), ("a", "b/"), ("type=tar,dest=n/x", "n/../n/x")] {
            assert!(checked(&[one, two]).is_err_and(|error| error.starts_with("two outputs")), "{one} {two}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, message) in [
            ("type=zip,dest=x", "type `zip` is unknown: expected oci, tar, local or image"),
            ("type=oci", "type=oci needs dest=…"),
            ("dest=x", "no type: expected type=oci, type=tar, type=local or type=image"),
            ("type=tar,dest=x,push=true", "type=tar has no `push`"),
            ("type=oci,tar=maybe,dest=x", "`tar=maybe`: expected true or false"),
            ("type=tar,dest=-", "dest=- (standard output) is not supported: name a file"),
            ("-", "dest=- (standard output) is not supported: name a file"),
            ("type=tar,x", "`x` is not key=value"),
            ("type=oci,dest=", "dest= is empty: name a file or folder"),
            ("", "dest= is empty: name a file or folder"),
            ("type=tar,dest=a,dest=b", "`dest` is given twice"),
            (
                "+app",
                "`+app` is a target: this option takes type=TYPE,dest=PATH, and the target stands behind it",
            ),
        ] {
            let error = text.parse::<OutputSpec>().map_err(|error| error.to_string());
            assert_eq!(error, Err(message.to_owned()), "{text}");
        }
    }
}

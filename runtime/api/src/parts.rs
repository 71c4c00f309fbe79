//! What a key is made of, as values that people can compare.
//!
//! In: what an op is and what a source was found to be, told by the engine where it makes the key. Out: [`KeyParts`], for the
//! record of a build. Two vertices whose inputs have equal keys have equal keys just where their [`KeyParts::own`] are equal.
//! **Invariant:** no value of a secret is in a part, nor that of a variable whose name says that it holds one. A text that is
//! too long to be kept stands with its digest, so that another one differs from it.

use std::fmt;
use std::sync::Arc;

use rb_llb::{STRUCK, is_secret, struck_digits};
use rb_oci::Digest;
use serde::{Deserialize, Serialize};

/// So many bytes of a value are kept.
const LONGEST_VALUE: usize = 2_000;

/// What the key of a vertex is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyParts {
    /// Vertex and output of each input, in order; their keys enter too.
    pub inputs: Vec<(Digest, u32)>,
    /// What enters the key beside the inputs, in order.
    pub own: Vec<KeyPart>,
    /// What enters no key and explains one: what chose the files of a folder, the name of an image.
    pub about: Vec<KeyPart>,
    /// The files behind a digest of [`Self::own`].
    pub files: Option<FileList>,
    /// Where it was written: file and line.
    pub place: Option<(String, u32)>,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyPart {
    /// What kind of thing it is.
    pub kind: PartKind,
    /// Which one of its kind; empty where there is one only.
    pub name: String,
    /// What it is.
    pub value: String,
}

/// What kind of thing enters a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Program and arguments.
    Command,
    /// A variable that ENV or an image sets, by name.
    Env,
    /// A variable that is an argument, by name.
    Arg,
    /// A variable of LET or FOR, by name.
    Variable,
    /// Working directory.
    Directory,
    /// Who runs it.
    User,
    /// Which network it sees.
    Network,
    /// What it may do.
    Security,
    /// How an input is mounted, by the place where.
    Mount,
    /// A cache mount, by the place where.
    Cache,
    /// A secret's id, by the variable or place that it is given in.
    Secret,
    /// An ssh agent's id, by the place.
    Agent,
    /// A name in `/etc/hosts`.
    Host,
    /// Another setting of a step, by name.
    Setting,
    /// What it is made for.
    Platform,
    /// What is done to files, by number and field.
    Action,
    /// The files of a folder, as one digest.
    Files,
    /// A pattern by which files of a folder are taken.
    Include,
    /// A pattern by which files of a folder are left out: a line of an ignore file.
    Exclude,
    /// The layers of an image.
    Layers,
    /// An image by its name, and what that stands for.
    Image,
    /// The tools of this machine.
    Toolchain,
    /// What a command of `--fingerprint` says.
    Fingerprint,
    /// What of a repository is taken.
    Repository,
    /// A file of the web.
    Download,
    /// An operation of which nothing closer is known.
    Definition,
}

impl KeyPart {
    /// Makes a part.
    pub fn new(kind: PartKind, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind, name: name.into(), value: bounded(value.into()) }
    }

    /// Makes the part of a variable, without its value where its name says that it is secret.
    pub fn variable(kind: PartKind, name: &str, value: &str) -> Self {
        if is_secret(name) {
            return Self::new(kind, name, format!("{STRUCK} ({})", struck_digits(value)));
        }
        Self::new(kind, name, value)
    }
}

fn bounded(value: String) -> String {
    if value.len() <= LONGEST_VALUE {
        return value;
    }
    let mut end = LONGEST_VALUE;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({})", &value[..end], Digest::of(&value))
}

/// The files of a folder, made when they are asked for: most builds have seen the same list before.
#[derive(Clone)]
pub struct FileList {
    /// Stands for the list: equal digests mean equal lists.
    pub digest: Digest,
    list: Arc<dyn Fn() -> Vec<FileEntry> + Send + Sync>,
}

impl FileList {
    /// A list that `list` makes.
    pub fn new(digest: Digest, list: impl Fn() -> Vec<FileEntry> + Send + Sync + 'static) -> Self {
        Self { digest, list: Arc::new(list) }
    }

    /// Makes the list, sorted by path.
    pub fn entries(&self) -> Vec<FileEntry> {
        (self.list)()
    }
}

impl fmt::Debug for FileList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FileList").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl PartialEq for FileList {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for FileList {}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Path in the folder, `/` between its parts.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
}

/// What a file is, as far as it enters a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A folder.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Size.
        size_bytes: u64,
        /// Digest of its bytes.
        digest: [u8; 32],
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_differ_though_they_are_cut() {
        let long = |end: &str| KeyPart::new(PartKind::Command, "", format!("{}{end}", "ö".repeat(2_000)));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
        assert!(long("a").value.len() < LONGEST_VALUE + 100);
    }

    #[test]
    fn values_of_secret_variables_are_not_kept_and_differ() {
        for name in ["NPM_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "API_KEY", "REGISTRY_AUTH"] {
            let (one, two) = (
                KeyPart::variable(PartKind::Env, name, "s3cret-1"),
                KeyPart::variable(PartKind::Env, name, "s3cret-2"),
            );
            assert!(!one.value.contains("s3cret") && one != two, "{one:?}");
        }
        assert_eq!(KeyPart::variable(PartKind::Env, "KEYBOARD", "us").value, "us");
    }
}

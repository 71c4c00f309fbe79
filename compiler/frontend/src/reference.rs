//! Names of projects and targets once they are settled: equal on every machine.

use std::collections::BTreeMap;
use std::fmt;

use rb_oci::Platform;

use crate::Repository;

/// A folder with a build file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProjectRef {
    /// A folder of the user's tree: `/`-separated path relative to the workspace's root, "" for the root itself,
    /// without `.` and with `..` only at its start.
    Local {
        /// The relative path.
        dir: String,
    },
    /// A folder of a repository elsewhere. One whose path begins with `..` leads out of it, and nothing is there.
    Remote {
        /// Which repository.
        repository: Repository,
        /// Path relative to its root, as of a local one.
        dir: String,
    },
    /// A Dockerfile in the place of a build file: its stages are the targets, and its folder is their context.
    Dockerfile {
        /// The folder, itself no Dockerfile.
        folder: Box<Self>,
        /// The file's path in it.
        file: String,
    },
}

impl ProjectRef {
    /// Joins a relative path to this project's folder and normalises it by its text.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        if let Self::Dockerfile { folder, file } = self {
            return folder.join(path).with_dockerfile(file);
        }
        let dir = self.dir();
        let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        self.at(parts.join("/"))
    }

    /// Returns the folder relative to the root of the workspace or repository; "" for the root.
    pub fn dir(&self) -> &str {
        match self {
            Self::Local { dir } | Self::Remote { repository: _, dir } => dir,
            Self::Dockerfile { folder, file: _ } => folder.dir(),
        }
    }

    /// Returns the root of the workspace or repository that it lies in.
    #[must_use]
    pub fn root(&self) -> Self {
        self.folder().at(String::new())
    }

    /// Returns the folder alone, whichever file of it is meant.
    pub fn folder(&self) -> &Self {
        match self {
            Self::Local { .. } | Self::Remote { .. } => self,
            Self::Dockerfile { folder, file: _ } => folder.folder(),
        }
    }

    /// Returns the path in its folder of the Dockerfile that stands in the place of a build file, if one does.
    pub fn dockerfile(&self) -> Option<&str> {
        match self {
            Self::Local { .. } | Self::Remote { .. } => None,
            Self::Dockerfile { folder: _, file } => Some(file),
        }
    }

    /// Returns a Dockerfile of this folder.
    #[must_use]
    pub fn with_dockerfile(&self, file: &str) -> Self {
        Self::Dockerfile { folder: Box::new(self.folder().clone()), file: file.to_owned() }
    }

    /// Returns another folder of the same workspace or repository.
    fn at(&self, dir: String) -> Self {
        match self {
            Self::Local { dir: _ } => Self::Local { dir },
            Self::Remote { repository, dir: _ } => Self::Remote { repository: repository.clone(), dir },
            Self::Dockerfile { folder, file } => folder.at(dir).with_dockerfile(file),
        }
    }

    /// Returns what a file of it is called, from the root of the workspace or behind the repository: `dir/file`,
    /// `host/path/project:reference/dir/file`.
    pub fn file(&self, path: &str) -> String {
        let full = self.join(path);
        match full.repository() {
            None => full.dir().to_owned(),
            Some(repository) if full.dir().is_empty() => repository.to_string(),
            Some(repository) => format!("{repository}/{}", full.dir()),
        }
    }

    /// Returns the repository elsewhere that it lies in.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Local { dir: _ } => None,
            Self::Remote { repository, dir: _ } => Some(repository),
            Self::Dockerfile { folder, file: _ } => folder.repository(),
        }
    }
}

/// As it stands in a reference, before the `+`: `./dir`, nothing in the workspace's root, `host/path/project/dir:reference`,
/// `./dir:Dockerfile`.
impl fmt::Display for ProjectRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote { repository, dir } => out.write_str(&repository.with_folder(dir)),
            Self::Local { dir } if dir.is_empty() || dir.starts_with("..") => out.write_str(dir),
            Self::Local { dir } => write!(out, "./{dir}"),
            Self::Dockerfile { folder, file } if folder.repository().is_none() && folder.dir().is_empty() => {
                write!(out, ".:{file}")
            }
            Self::Dockerfile { folder, file } => write!(out, "{folder}:{file}"),
        }
    }
}

/// A target of a project. Shown as `./dir+name`, or `+name` in the workspace's root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetRef {
    /// Where.
    pub project: ProjectRef,
    /// Name without `+`.
    pub name: String,
}

impl fmt::Display for TargetRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}+{}", self.project, self.name)
    }
}

/// A function of a project. Shown as a target is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionRef {
    /// Where.
    pub project: ProjectRef,
    /// Name without `+`.
    pub name: String,
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        TargetRef { project: self.project.clone(), name: self.name.clone() }.fmt(out)
    }
}

/// Identity of one evaluation; the evaluator runs each key at most once per build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetKey {
    /// The target.
    pub target: TargetRef,
    /// Overrides that reach it.
    pub args: BTreeMap<String, String>,
    /// What its steps run on.
    pub platform: Platform,
    /// It may ask for what a stranger's target may not. Always so of the user's own; of one of a repository elsewhere where
    /// every call on the way to it says `--allow-privileged`.
    pub trusted: bool,
}

/// As people would type it: `+app --MODE=debug`, without the platform.
impl fmt::Display for TargetKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.target)?;
        self.args.iter().try_for_each(|(name, value)| {
            // Two calls with two values stay two.
            if rb_llb::is_secret(name) {
                return write!(out, " --{name}={}{}", rb_llb::STRUCK, rb_llb::struck_digits(value));
            }
            let plain = |next: char| next.is_ascii_alphanumeric() || "-_./:=+,@%".contains(next);
            if value.chars().all(plain) {
                write!(out, " --{name}={value}")
            } else {
                write!(out, " --{name}='{}'", value.replace('\'', r"'\''"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_normalises_by_text() {
        let root = ProjectRef::Local { dir: String::new() };
        assert_eq!(root.join("./a/../b").dir(), "b");
        assert_eq!(root.join("../x").dir(), "../x");
        assert_eq!(root.join("../x").join("../../y").dir(), "../../y");
        assert_eq!(root.join("a/b").join("../c/").dir(), "a/c");
        let (repository, _) = Repository::parse("a.com/b/c:v1").expect("parses");
        let far = ProjectRef::Remote { repository, dir: "x".to_owned() };
        assert_eq!(far.join("../y").to_string(), "a.com/b/c/y:v1");
        assert_eq!(far.root().to_string(), "a.com/b/c:v1");
        assert_eq!(
            (far.file("f"), far.file("..")),
            ("a.com/b/c:v1/x/f".to_owned(), "a.com/b/c:v1".to_owned())
        );
    }

    #[test]
    fn a_dockerfile_stands_in_its_folder() {
        let root = ProjectRef::Local { dir: String::new() };
        let file = root.join("a/b").with_dockerfile("Dockerfile");
        assert_eq!(file.to_string(), "./a/b:Dockerfile");
        assert_eq!(root.with_dockerfile("x.Dockerfile").to_string(), ".:x.Dockerfile");
        assert_eq!((file.dir(), file.dockerfile()), ("a/b", Some("Dockerfile")));
        assert_eq!(
            (file.file("c"), file.root(), file.folder().dockerfile()),
            ("a/b/c".to_owned(), root, None)
        );
        assert_eq!(file.join("../c").to_string(), "./a/c:Dockerfile");
        let (repository, _) = Repository::parse("a.com/b/c:v1").expect("parses");
        let far = ProjectRef::Remote { repository, dir: "x".to_owned() }.with_dockerfile("Dockerfile");
        assert_eq!(far.to_string(), "a.com/b/c/x:v1:Dockerfile");
        assert!(far.repository().is_some());
    }

    #[test]
    fn targets_are_shown_as_people_type_them() {
        let target = |dir: &str| TargetRef {
            project: ProjectRef::Local { dir: dir.to_owned() },
            name: "t".to_owned(),
        };
        assert_eq!(target("").to_string(), "+t");
        assert_eq!(target("a/b").to_string(), "./a/b+t");
        assert_eq!(target("../b").to_string(), "../b+t");
        let args = [("A", "1"), ("B", "x y's"), ("C", "")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let key = TargetKey { target: target(""), args, platform: Platform::host(), trusted: true };
        assert_eq!(key.to_string(), r"+t --A=1 --B='x y'\''s' --C=");
    }
}

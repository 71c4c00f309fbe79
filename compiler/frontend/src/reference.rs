//! Names of projects and targets once they are settled: equal on every machine.

use std::collections::BTreeMap;
use std::fmt;

use rb_oci::Platform;

/// A folder with a build file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProjectRef {
    /// A folder of the user's tree: `/`-separated path relative to the workspace's root, "" for the root itself,
    /// without `.` and with `..` only at its start.
    Local {
        /// The relative path.
        dir: String,
    },
}

impl ProjectRef {
    /// Joins a relative path to this project's folder and normalises it by its text.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let Self::Local { dir } = self;
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
        Self::Local { dir: parts.join("/") }
    }

    /// Returns the folder relative to the workspace's root; "" for the root.
    pub fn dir(&self) -> &str {
        let Self::Local { dir } = self;
        dir
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
        match self.project.dir() {
            "" => write!(out, "+{}", self.name),
            dir if dir.starts_with("..") => write!(out, "{dir}+{}", self.name),
            dir => write!(out, "./{dir}+{}", self.name),
        }
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
}

/// As people would type it: `+app --MODE=debug`, without the platform.
impl fmt::Display for TargetKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.target)?;
        self.args.iter().try_for_each(|(name, value)| {
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
        let key = TargetKey { target: target(""), args, platform: Platform::host() };
        assert_eq!(key.to_string(), r"+t --A=1 --B='x y'\''s' --C=");
    }
}

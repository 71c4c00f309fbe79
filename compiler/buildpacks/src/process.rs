//! Processes: what an image can start.
//!
//! In: the processes of each buildpack, in order. Out: one for each type, by type, and the default one.
//! Source: buildpack spec, "launch.toml"; platform spec, "metadata.toml".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PlatformApi;
use crate::module::includes;

/// Something that an image can start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Process {
    /// What it is called, such as `web`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The program, and arguments that always stand.
    #[serde(deserialize_with = "command")]
    pub command: Vec<String>,
    /// Arguments that a user's take the place of; `None` where none were said.
    pub args: Option<Vec<String>>,
    /// Whether it is started without a shell.
    pub direct: bool,
    /// The buildpack that it comes from.
    #[serde(rename = "buildpackID", alias = "buildpack-id")]
    pub buildpack: String,
    /// Where it is started; empty for the app's folder.
    #[serde(rename = "working-dir", skip_serializing_if = "String::is_empty")]
    pub working_directory: String,
    /// Execution environments that it is for; empty for all.
    #[serde(rename = "exec-env", skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

/// Old files have a command of one text.
fn command<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Command {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Command::deserialize(deserializer)? {
        Command::Text(text) => vec![text],
        Command::List(list) => list,
    })
}

impl Process {
    /// Whether it can be started in an execution environment.
    pub fn is_for(&self, environment: &str, platform: PlatformApi) -> bool {
        !platform.execution_environments() || includes(&self.exec_env, environment)
    }

    /// Whether its type can be the name of a link.
    pub fn has_good_name(&self) -> bool {
        !self.kind.is_empty() && !self.kind.contains(['/', '>', '<', ':', '|', '&', '\\', '\0'])
    }
}

/// The processes of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    by_type: BTreeMap<String, Process>,
    default: Option<String>,
}

impl Processes {
    /// Adds those of the next buildpack, each with whether it is the default. Of one type the last counts, and so does the
    /// last default. Returns the default's type if it lost its place to a process that is not one.
    pub fn add(&mut self, processes: &[(Process, bool)]) -> Option<String> {
        let mut lost = None;
        for (process, default) in processes {
            if *default {
                self.default = Some(process.kind.clone());
                lost = None;
            } else if self.default.as_ref() == Some(&process.kind) {
                lost = self.default.take();
            }
            self.by_type.insert(process.kind.clone(), process.clone());
        }
        lost
    }

    /// Returns them by type.
    pub fn list(&self) -> Vec<Process> {
        self.by_type.values().cloned().collect()
    }

    /// Returns the type of the default one.
    pub fn default_type(&self) -> Option<&str> {
        self.default.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn process(kind: &str, buildpack: &str) -> Process {
        Process { kind: kind.into(), buildpack: buildpack.into(), ..Process::default() }
    }

    #[test]
    fn the_last_of_a_type_and_the_last_default_count() {
        let mut all = Processes::default();
        assert_eq!(all.add(&[(process("web", "a"), true), (process("task", "a"), false)]), None);
        assert_eq!(all.add(&[(process("task", "b"), true)]), None);
        assert_eq!(all.default_type(), Some("task"));
        assert_eq!(all.add(&[(process("task", "c"), false)]), Some("task".into()));
        assert_eq!(all.default_type(), None);
        let list: Vec<_> = all.list().into_iter().map(|one| one.kind + &one.buildpack).collect();
        assert_eq!(list, ["taskc", "weba"]);
        assert_eq!(
            all.add(&[(process("web", "d"), true), (process("web", "d"), false), (process("x", "d"), true)]),
            None
        );
    }

    #[test]
    fn some_are_for_some_environments() {
        let test = Process { exec_env: vec!["test".into()], ..process("web", "a") };
        assert!(test.is_for("test", PlatformApi::LATEST) && !test.is_for("production", PlatformApi::LATEST));
        assert!(
            test.is_for("production", PlatformApi::OLDEST)
                && process("web", "a").is_for("x", PlatformApi::LATEST)
        );
        assert!(
            test.has_good_name() && !process("a/b", "a").has_good_name() && !process("", "a").has_good_name()
        );
    }

    proptest! {
        /// There is one of each type, sorted, and the default is one of them.
        #[test]
        fn one_of_each(added in prop::collection::vec(("[ab]{1,2}", any::<bool>()), 0..12)) {
            let mut all = Processes::default();
            for (kind, default) in &added {
                all.add(&[(process(kind, "x"), *default)]);
            }
            let kinds: Vec<_> = all.list().into_iter().map(|one| one.kind).collect();
            prop_assert!(kinds.is_sorted_by(|left, right| left < right));
            prop_assert!(added.iter().all(|(kind, _)| kinds.contains(kind)));
            prop_assert!(all.default_type().is_none_or(|kind| kinds.iter().any(|have| have == kind)));
        }
    }
}

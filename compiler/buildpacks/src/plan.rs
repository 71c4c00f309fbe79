//! Plans: what modules require and provide.
//!
//! In: the build plan that a `bin/detect` writes. Out: [`BuildPlan`], a list of alternatives; [`Plan`], what detection decided
//! (`plan.toml`); [`BuildpackPlan`], the part of it that one module is given; and how it shrinks as modules meet it.
//! Source: buildpack spec, "Build Plan" and "Buildpack Plan".

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::{GroupElement, ModuleKind};

/// A dependency that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Require {
    /// Its name.
    pub name: String,
    /// From an old API; an error in build plans.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What is said to its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<toml::Table>,
}

/// A dependency that is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Provide {
    /// Its name.
    pub name: String,
}

/// One alternative of a build plan.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct PlanSections {
    /// What is asked for.
    pub requires: Vec<Require>,
    /// What is offered.
    pub provides: Vec<Provide>,
}

/// What a module asks for and offers.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildPlan {
    /// In the order in which they are tried; never empty.
    alternatives: Vec<PlanSections>,
}

/// A build plan cannot be used. The module counts as one that ended with an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildPlanError {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It says `version` beside `name`.
    #[error("the build plan requires `{0}` with a `version`: it belongs in `metadata.version`")]
    Version(String),
    /// Extensions only offer.
    #[error("the build plan of an extension requires `{0}`: extensions may only provide")]
    ExtensionRequires(String),
}

impl Default for BuildPlan {
    fn default() -> Self {
        Self { alternatives: vec![PlanSections::default()] }
    }
}

impl BuildPlan {
    /// Reads the plan of a module; an empty text is a plan that says nothing.
    pub fn parse(text: &[u8], kind: ModuleKind) -> Result<Self, BuildPlanError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            requires: Vec<Require>,
            provides: Vec<Provide>,
            or: Vec<PlanSections>,
        }
        let file: File = decode::toml("plan.toml", text)?;
        let mut alternatives = vec![PlanSections { requires: file.requires, provides: file.provides }];
        alternatives.extend(file.or);
        let mut requires = alternatives.iter().flat_map(|sections| &sections.requires);
        if kind == ModuleKind::Extension
            && let Some(require) = requires.clone().next()
        {
            return Err(BuildPlanError::ExtensionRequires(require.name.clone()));
        }
        match requires.find(|require| !require.version.is_empty()) {
            Some(require) => Err(BuildPlanError::Version(require.name.clone())),
            None => Ok(Self { alternatives }),
        }
    }

    /// Returns the top level, then each `or`.
    pub fn alternatives(&self) -> &[PlanSections] {
        &self.alternatives
    }
}

/// What detection decided: `plan.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Plan {
    /// One for each name that is required, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PlanEntry>,
}

/// A dependency that some ask for and others offer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct PlanEntry {
    /// Those that offer it, in order.
    pub providers: Vec<GroupElement>,
    /// What is asked for: all of one name.
    pub requires: Vec<Require>,
}

/// What one module is asked for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct BuildpackPlan {
    /// In the order of the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Require>,
}

impl Plan {
    /// Reads `plan.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("plan.toml", text)
    }

    /// Returns what a module is asked for: every entry that it offers.
    pub fn of(&self, kind: ModuleKind, id: &str) -> BuildpackPlan {
        let offers = |entry: &&PlanEntry| {
            entry.providers.iter().any(|one| one.id == id && one.extension == (kind == ModuleKind::Extension))
        };
        let entries = self.entries.iter().filter(offers).flat_map(|entry| entry.requires.clone()).collect();
        BuildpackPlan { entries }
    }

    /// Returns what is left for later modules once these names are met.
    #[must_use]
    pub fn without(&self, met: &[String]) -> Self {
        let unmet = |entry: &&PlanEntry| !entry.requires.iter().any(|require| met.contains(&require.name));
        Self { entries: self.entries.iter().filter(unmet).cloned().collect() }
    }
}

impl BuildpackPlan {
    /// Returns the text that a module reads.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BuildPlan, BuildPlanError> {
        BuildPlan::parse(text.as_bytes(), ModuleKind::Buildpack)
    }

    #[test]
    fn alternatives_follow_the_top_level() {
        let plan =
            parse("[[provides]]\nname='a'\n[[or]]\n[[or.requires]]\nname='b'\nmetadata={x=1}\n[[or]]\n")
                .expect("reads");
        let [top, or, empty] = plan.alternatives() else { panic!("three alternatives") };
        assert_eq!((top.provides.len(), or.requires.len(), empty), (1, 1, &PlanSections::default()));
        assert_eq!(parse(""), Ok(BuildPlan::default()));
    }

    #[test]
    fn what_the_lifecycle_takes_for_an_error() {
        for text in [
            "[[requires]]\nname='a'\nversion='1'\n",
            "[[or]]\n[[or.requires]]\nname='a'\nversion='1'\nmetadata={version='1'}",
        ] {
            assert_eq!(parse(text), Err(BuildPlanError::Version("a".into())));
        }
        assert!(matches!(parse("requires=1"), Err(BuildPlanError::Decode(_))));
        let extension = |text: &str| BuildPlan::parse(text.as_bytes(), ModuleKind::Extension);
        assert!(extension("[[provides]]\nname='a'").is_ok());
        assert_eq!(extension("[[requires]]\nname='a'"), Err(BuildPlanError::ExtensionRequires("a".into())));
    }

    #[test]
    fn a_plan_shrinks_as_it_is_met() {
        let text = "[[entries]]\n[[entries.providers]]\nid='a'\nversion='1'\n[[entries.requires]]\nname='x'\n\
                    [[entries.requires]]\nname='x'\n[entries.requires.metadata]\nv=1\n\
                    [[entries]]\n[[entries.providers]]\nid='a'\nversion='1'\nextension=true\n[[entries.requires]]\nname='y'\n";
        let plan = Plan::parse(text.as_bytes()).expect("reads");
        let of_a = plan.of(ModuleKind::Buildpack, "a");
        assert_eq!(of_a.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["x", "x"]);
        assert_eq!(plan.of(ModuleKind::Extension, "a").entries[0].name, "y");
        assert_eq!(plan.without(&["x".into()]).of(ModuleKind::Buildpack, "a"), BuildpackPlan::default());
        assert_eq!(BuildpackPlan::default().text().as_deref(), Ok(""));
        let again: BuildpackPlan = toml::from_str(&of_a.text().expect("writes")).expect("reads");
        assert_eq!(again, of_a);
    }
}

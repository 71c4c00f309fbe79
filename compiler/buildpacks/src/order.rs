//! Orders: `order.toml`, `system.toml`, and the groups that composites stand for.
//!
//! In: their text, or the same as JSON in labels. Out: groups to try one after the other. The system's buildpacks are laid
//! around each group here. Source: platform spec, "order.toml" and "system.toml".

use serde::{Deserialize, Serialize};

use crate::PlatformApi;
use crate::decode::{self, DecodeError};

/// Groups, to be tried in order.
pub type Order = Vec<OrderGroup>;

/// Modules that are detected together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct OrderGroup {
    /// In the order in which they build.
    pub group: Vec<OrderElement>,
}

/// A module of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OrderElement {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whether the group may do without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Execution environments in which it stands in the group; empty for all. The lifecycle does not look at it yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec_env: Vec<String>,
}

/// What a builder tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct OrderFile {
    /// Groups of buildpacks.
    pub order: Order,
    /// Groups of extensions, tried before each group of buildpacks, and without.
    pub order_extensions: Order,
}

/// Buildpacks that a builder adds to every group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct System {
    /// Before all others.
    pub pre: SystemBuildpacks,
    /// After all others.
    pub post: SystemBuildpacks,
}

/// One side of [`System`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SystemBuildpacks {
    /// In order.
    pub buildpacks: Vec<OrderElement>,
}

impl OrderFile {
    /// Reads `order.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("order.toml", text)
    }

    /// Returns the groups with the system's buildpacks around each, if this platform has any; one whose id is in the group
    /// already is left out. All of the system's are required, as in the lifecycle.
    pub fn with_system(&self, system: &System, platform: PlatformApi) -> Order {
        if !platform.system_buildpacks() {
            return self.order.clone();
        }
        let around = |group: &OrderGroup| {
            let missing = |side: &SystemBuildpacks| {
                let new = |one: &&OrderElement| group.group.iter().all(|have| have.id != one.id);
                let required = |one: &OrderElement| OrderElement {
                    optional: false,
                    exec_env: Vec::new(),
                    ..one.clone()
                };
                side.buildpacks.iter().filter(new).map(required).collect::<Vec<_>>()
            };
            OrderGroup { group: [missing(&system.pre), group.group.clone(), missing(&system.post)].concat() }
        };
        self.order.iter().map(around).collect()
    }
}

impl System {
    /// Reads `system.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            system: System,
        }
        decode::toml::<File>("system.toml", text).map(|file| file.system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "[[system.pre.buildpacks]]\nid='a'\nversion='1'\noptional=true\n[[system.pre.buildpacks]]\nid='b'\n\
                          version='1'\n[[system.post.buildpacks]]\nid='z'\nversion='1'\n";

    #[test]
    fn the_system_lies_around_each_group() {
        let order = "[[order]]\n[[order.group]]\nid='b'\nversion='2'\noptional=true\n[[order]]\n[[order.group]]\nid='c'\n\
                     version='1'\n[[order-extensions]]\n[[order-extensions.group]]\nid='e'\nversion='1'\n";
        let file = OrderFile::parse(order.as_bytes()).expect("reads");
        let system = System::parse(SYSTEM.as_bytes()).expect("reads");
        let merged = file.with_system(&system, PlatformApi::LATEST);
        let ids =
            |group: &OrderGroup| group.group.iter().map(|one| one.id.clone()).collect::<Vec<_>>().join("");
        assert_eq!(merged.iter().map(ids).collect::<Vec<_>>(), ["abz", "abcz"]);
        assert!(
            !merged[0].group[0].optional && merged[0].group[1].optional && merged[0].group[1].version == "2"
        );
        assert_eq!(file.with_system(&system, PlatformApi::OLDEST), file.order);
        assert_eq!(file.order_extensions[0].group[0].id, "e");
    }
}

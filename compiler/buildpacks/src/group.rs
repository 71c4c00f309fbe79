//! Groups: `group.toml`, the modules that detection chose.
//!
//! Source: platform spec, "group.toml".

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::{ModuleKey, ModuleKind};

/// A module that takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct GroupElement {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The API that it speaks; empty in plans.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api: String,
    /// Where to read of it; empty in plans.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// Whether it is an extension; not said in [`Group::extensions`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

impl GroupElement {
    /// Returns what names it, as one of this kind.
    pub fn key(&self, kind: ModuleKind) -> ModuleKey {
        ModuleKey { kind, id: self.id.clone(), version: self.version.clone() }
    }
}

/// The modules that take part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Group {
    /// Buildpacks, in order.
    #[serde(rename = "group", skip_serializing_if = "Vec::is_empty")]
    pub buildpacks: Vec<GroupElement>,
    /// Extensions, in order.
    #[serde(rename = "group-extensions", skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<GroupElement>,
}

impl Group {
    /// Reads `group.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("group.toml", text)
    }

    /// Returns the text of `group.toml`.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_survives_its_file() {
        let one = |id: &str| GroupElement {
            id: id.into(),
            version: "1".into(),
            api: "0.10".into(),
            ..Default::default()
        };
        let group = Group { buildpacks: vec![one("a"), one("b/c")], extensions: vec![one("e")] };
        assert_eq!(Group::parse(group.text().expect("writes").as_bytes()), Ok(group));
    }
}

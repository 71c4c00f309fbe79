//! Modules: `buildpack.toml` and `extension.toml`.
//!
//! In: their text, and the names in the module's `bin`. Out: [`Module`], of a supported API, with an id and a version that
//! are safe as names of folders and with the targets that the lifecycle would infer.
//! Source: buildpack spec, "buildpack.toml" and "extension.toml".

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::{ApiError, BuildpackApi, Distro, Exit, Order, Target};

/// The two kinds of module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModuleKind {
    /// Has `bin/detect` and `bin/build`, or stands for an order of others.
    #[default]
    Buildpack,
    /// Has `bin/detect` and `bin/generate`; makes Dockerfiles that extend base images.
    Extension,
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Buildpack => "buildpack",
            Self::Extension => "extension",
        })
    }
}

/// What names a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleKey {
    /// Which kind it is of.
    pub kind: ModuleKind,
    /// Its id, such as `example/node`.
    pub id: String,
    /// Its version.
    pub version: String,
}

impl ModuleKey {
    /// Names a buildpack.
    pub fn buildpack(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self { kind: ModuleKind::Buildpack, id: id.into(), version: version.into() }
    }

    /// Names an extension.
    pub fn extension(id: impl Into<String>, version: impl Into<String>) -> Self {
        Self { kind: ModuleKind::Extension, id: id.into(), version: version.into() }
    }
}

impl fmt::Display for ModuleKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.id, self.version)
    }
}

/// Returns the name of an id's folder.
pub fn escape_id(id: &str) -> String {
    id.replace('/', "_")
}

/// A module as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Which kind it is of.
    pub kind: ModuleKind,
    /// The API that its programs speak.
    pub api: BuildpackApi,
    /// What it says of itself.
    pub info: ModuleInfo,
    /// What it is for; empty for a composite and where nothing is known, which fits all.
    pub targets: Vec<Target>,
    /// Stacks, from before there were targets.
    pub stacks: Vec<Stack>,
    /// The groups that a composite stands for; empty for a module with programs.
    pub order: Order,
}

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ModuleInfo {
    /// Its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// One sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where to read of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Execution environments that it is for; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "execution_environments")]
    pub exec_env: Vec<String>,
    /// Its licenses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<License>,
    /// Whether its programs are kept from the user's variables.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clear_env: bool,
    /// Media types of the bills of materials that it writes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sbom_formats: Vec<String>,
}

/// A license.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct License {
    /// SPDX expression.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it can be read.
    pub uri: String,
}

/// A stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Stack {
    /// Its id; `*` for any.
    pub id: String,
    /// What it must have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mixins: Vec<String>,
}

/// A module cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Its file cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It speaks an API that is not supported.
    #[error("{name}: {source}")]
    Api {
        /// The file.
        name: String,
        /// Why.
        source: ApiError,
    },
    /// Its id or version cannot be the name of a folder.
    #[error("{name}: `{value}` cannot be the {what} of a module")]
    Name {
        /// The file.
        name: String,
        /// `id` or `version`.
        what: &'static str,
        /// What it says.
        value: String,
    },
}

impl ModuleError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api { source, .. } => source.exit(),
            Self::Decode(_) | Self::Name { .. } => Exit::Failed,
        }
    }
}

/// Either file, as it is written.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    api: String,
    buildpack: ModuleInfo,
    extension: ModuleInfo,
    targets: Vec<Target>,
    stacks: Vec<Stack>,
    order: Order,
}

impl Default for Raw {
    fn default() -> Self {
        let (buildpack, extension) = (ModuleInfo::default(), ModuleInfo::default());
        Self {
            api: String::new(),
            buildpack,
            extension,
            targets: Vec::new(),
            stacks: Vec::new(),
            order: Vec::new(),
        }
    }
}

impl Module {
    /// Reads `buildpack.toml`; `programs` are the names in its `bin`.
    pub fn buildpack(text: &[u8], programs: &BTreeSet<String>) -> Result<Self, ModuleError> {
        let raw: Raw = decode::toml("buildpack.toml", text)?;
        let mut module = Self {
            kind: ModuleKind::Buildpack,
            api: api("buildpack.toml", &raw.api)?,
            info: checked("buildpack.toml", raw.buildpack)?,
            targets: raw.targets,
            stacks: raw.stacks,
            order: raw.order,
        };
        if module.targets.is_empty() {
            module.targets = module.targets_of_stacks();
        }
        if module.targets.is_empty() && programs.contains("build") {
            module.targets.push(Target { os: "linux".to_owned(), ..Target::default() });
        }
        Ok(module)
    }

    /// Reads `extension.toml`; `programs` are the names in its `bin`, of which it needs none.
    pub fn extension(text: &[u8], programs: &BTreeSet<String>) -> Result<Self, ModuleError> {
        let raw: Raw = decode::toml("extension.toml", text)?;
        let mut targets = raw.targets;
        if targets.is_empty() && ["detect", "generate"].iter().any(|name| programs.contains(*name)) {
            targets.push(Target { os: "linux".to_owned(), ..Target::default() });
        }
        Ok(Self {
            kind: ModuleKind::Extension,
            api: api("extension.toml", &raw.api)?,
            info: checked("extension.toml", raw.extension)?,
            targets,
            stacks: Vec::new(),
            order: Vec::new(),
        })
    }

    /// Returns what names it.
    pub fn key(&self) -> ModuleKey {
        ModuleKey { kind: self.kind, id: self.info.id.clone(), version: self.info.version.clone() }
    }

    /// Whether it stands for an order of others.
    pub fn is_composite(&self) -> bool {
        !self.order.is_empty()
    }

    fn targets_of_stacks(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for stack in &self.stacks {
            if stack.id == "*" {
                targets.push(Target::default());
            } else if stack.id == "io.buildpacks.stacks.bionic"
                && (self.api.stacks_mean_targets() || self.stacks.len() == 1)
            {
                targets.push(Target {
                    os: "linux".to_owned(),
                    arch: "amd64".to_owned(),
                    variant: String::new(),
                    distros: vec![Distro { name: "ubuntu".to_owned(), version: "18.04".to_owned() }],
                });
            }
        }
        targets
    }
}

/// Whether a list of execution environments includes one; an empty list includes all.
pub fn includes(list: &[String], environment: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == "*" || one == environment)
}

fn api(name: &str, text: &str) -> Result<BuildpackApi, ModuleError> {
    text.parse().map_err(|source| ModuleError::Api { name: name.to_owned(), source })
}

/// The lifecycle makes paths of both without a look; here what would lead elsewhere is refused.
fn checked(name: &str, info: ModuleInfo) -> Result<ModuleInfo, ModuleError> {
    let error = |what, value: &str| ModuleError::Name {
        name: name.to_owned(),
        what,
        value: value.chars().take(80).collect(),
    };
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text.len() <= 200
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte) || more.contains(&byte))
    };
    let folder = escape_id(&info.id);
    if !plain(&info.id, b"/") || [".", "..", "app", "config", "generated", "sbom"].contains(&folder.as_str())
    {
        return Err(error("id", &info.id));
    }
    if !plain(&info.version, b"+~") || [".", ".."].contains(&info.version.as_str()) {
        return Err(error("version", &info.version));
    }
    Ok(info)
}

/// The spec has an array of tables with `name`, the lifecycle a list of strings; both are read.
fn execution_environments<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Text(String),
        Table { name: String },
    }
    let entries = Vec::<Entry>::deserialize(deserializer)?;
    Ok(entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Text(name) | Entry::Table { name } => name,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn buildpack(text: &str) -> Result<Module, ModuleError> {
        Module::buildpack(text.as_bytes(), &programs(&["build", "detect"]))
    }

    const HEAD: &str = "api='0.10'\n[buildpack]\nid='a/b'\nversion='1'\n";

    #[test]
    fn a_whole_file() {
        let text = format!(
            "{HEAD}name='N'\nhomepage='h'\nclear-env=true\nsbom-formats=['application/spdx+json']\nunknown=1\n\
             [[buildpack.licenses]]\ntype='MIT'\n[[targets]]\nos='linux'\nvariant='v8'\n[[targets.distros]]\nname='debian'\n"
        );
        let module = buildpack(&text).expect("reads");
        assert_eq!(module.key().to_string(), "a/b@1");
        assert!(module.info.clear_env && module.info.licenses[0].kind == "MIT" && !module.is_composite());
        assert_eq!(module.targets[0].variant, "v8");
    }

    #[test]
    fn targets_are_inferred() {
        let of = |text: &str| buildpack(&format!("{HEAD}{text}")).expect("reads").targets;
        assert_eq!(of("")[0].os, "linux");
        assert_eq!(of("[[stacks]]\nid='*'\n"), [Target::default()]);
        assert_eq!(
            of("[[stacks]]\nid='io.buildpacks.stacks.bionic'\n[[stacks]]\nid='x'")[0].distros[0].version,
            "18.04"
        );
        let old =
            HEAD.replace("0.10", "0.9") + "[[stacks]]\nid='io.buildpacks.stacks.bionic'\n[[stacks]]\nid='x'";
        assert!(buildpack(&old).expect("reads").targets[0].distros.is_empty());
        let extension = "api='0.10'\n[extension]\nid='e'\nversion='1'\n";
        let of = |names| Module::extension(extension.as_bytes(), &programs(names)).expect("reads").targets;
        assert_eq!(of(&[]), []);
        assert_eq!(of(&["generate"])[0].os, "linux");
    }

    #[test]
    fn execution_environments_in_both_forms() {
        for text in [
            "exec-env=['test','*']\n",
            "[[buildpack.exec-env]]\nname='test'\n[[buildpack.exec-env]]\nname='*'\n",
        ] {
            assert_eq!(buildpack(&format!("{HEAD}{text}")).expect("reads").info.exec_env, ["test", "*"]);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (id, version) in
            [("..", "1"), ("", "1"), ("a b", "1"), ("config", "1"), ("a", "../x"), ("a", ".."), ("a", "")]
        {
            let text = format!("api='0.10'\n[buildpack]\nid='{id}'\nversion='{version}'\n");
            assert!(matches!(buildpack(&text), Err(ModuleError::Name { .. })), "{id} {version}");
        }
        assert_eq!(buildpack("api='0.6'\n").map_err(|error| error.exit().code()), Err(12));
        assert_eq!(buildpack("api=1\n").map_err(|error| error.exit().code()), Err(1));
    }
}

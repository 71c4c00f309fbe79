//! `buildpack.toml` and `extension.toml` as packages and builders tell of them: what stands there, with nothing inferred.
//!
//! In: their text. Out: [`Descriptor`], of a supported API, whose id and version are safe as names of folders.
//! Source: distribution spec, "Labels"; what pack takes over into them.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::builder::ModuleLayer;
use crate::decode;
use crate::{BaseTarget, Module, ModuleError, ModuleInfo, ModuleKey, ModuleKind, Order, Stack, Target};

/// A module, for a label.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// Which kind it is of.
    pub kind: ModuleKind,
    /// The API that its programs speak.
    pub api: crate::BuildpackApi,
    /// What it says of itself.
    pub info: ModuleInfo,
    /// Stacks that it names.
    pub stacks: Vec<Stack>,
    /// Systems that it names.
    pub targets: Vec<Target>,
    /// Groups that it stands for.
    pub order: Order,
    /// Whether it has `bin/build`; of a module of a package that is not known, and never asked.
    pub builds: bool,
}

/// A module cannot be packaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Its file cannot be used.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// It stands for others and says what it is for itself.
    #[error("buildpack {0} has an order beside targets or stacks")]
    Composite(ModuleKey),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    stacks: Vec<Stack>,
    targets: Vec<Target>,
}

impl Descriptor {
    /// Reads a module's file; `programs` are the names in its `bin`.
    pub fn read(kind: ModuleKind, text: &[u8], programs: &BTreeSet<String>) -> Result<Self, DescriptorError> {
        let (name, module) = match kind {
            ModuleKind::Buildpack => ("buildpack.toml", Module::buildpack(text, programs)?),
            ModuleKind::Extension => ("extension.toml", Module::extension(text, programs)?),
        };
        // As it is written: the other reader adds what the lifecycle would infer.
        let raw: Raw = decode::toml(name, text).map_err(ModuleError::from)?;
        let own = Self {
            kind,
            api: module.api,
            info: ModuleInfo { sbom_formats: Vec::new(), ..module.info },
            stacks: if kind == ModuleKind::Buildpack { raw.stacks } else { Vec::new() },
            targets: raw.targets,
            order: module.order,
            builds: programs.contains("build"),
        };
        let says_what_for = !own.stacks.is_empty() || !own.targets.is_empty();
        if !own.order.is_empty() && says_what_for {
            return Err(DescriptorError::Composite(own.key()));
        }
        Ok(own)
    }

    /// Takes what a package's label says of a module.
    pub fn of_layer(key: &ModuleKey, layer: &ModuleLayer) -> Self {
        let ModuleLayer { api, layer: _, targets, stacks, order, name, homepage } = layer.clone();
        let info = ModuleInfo {
            id: key.id.clone(),
            version: key.version.clone(),
            name,
            homepage,
            ..ModuleInfo::default()
        };
        Self { kind: key.kind, api, info, stacks, targets, order, builds: false }
    }

    /// Returns what names it.
    pub fn key(&self) -> ModuleKey {
        ModuleKey { kind: self.kind, id: self.info.id.clone(), version: self.info.version.clone() }
    }

    /// Returns the folder that it lies in, in images.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.id_folder(), self.info.version)
    }

    /// Returns the folder of all its versions.
    pub fn id_folder(&self) -> String {
        let all = match self.kind {
            ModuleKind::Buildpack => "/cnb/buildpacks",
            ModuleKind::Extension => "/cnb/extensions",
        };
        format!("{all}/{}", crate::escape_id(&self.info.id))
    }

    /// Whether builds in an image of this kind can use it, as far as it says.
    pub(super) fn supports(&self, base: &BaseTarget) -> bool {
        if self.targets.is_empty() {
            return !self.builds || !self.stacks.is_empty() || base.os == "linux";
        }
        self.targets.iter().any(|target| target.fits(base))
            || base.distro.is_none()
                && self
                    .targets
                    .iter()
                    .any(|target| Target { distros: Vec::new(), ..target.clone() }.fits(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Descriptor, DescriptorError> {
        let programs = ["build", "detect"].map(str::to_owned).into();
        Descriptor::read(ModuleKind::Buildpack, text.as_bytes(), &programs)
    }

    const HEAD: &str = "api='0.10'\n[buildpack]\nid='a/b'\nversion='1'\nsbom-formats=['x']\n";

    #[test]
    fn nothing_is_inferred() {
        let plain = read(HEAD).expect("reads");
        assert!(plain.targets.is_empty() && plain.info.sbom_formats.is_empty() && plain.builds);
        assert_eq!(plain.folder(), "/cnb/buildpacks/a_b/1");
        let stacks = read(&format!("{HEAD}[[stacks]]\nid='*'\n")).expect("reads");
        assert!(stacks.targets.is_empty() && stacks.stacks[0].id == "*");
        let both = format!("{HEAD}[[stacks]]\nid='*'\n[[order]]\n[[order.group]]\nid='c'\nversion='1'\n");
        assert!(matches!(read(&both), Err(DescriptorError::Composite(_))));
        assert!(matches!(read("api='0.10'\n"), Err(DescriptorError::Module(ModuleError::Name { .. }))));
    }

    #[test]
    fn systems() {
        let base = |arch: &str, distro: Option<&str>| BaseTarget {
            os: "linux".into(),
            arch: arch.into(),
            distro: distro.map(|name| crate::Distro { name: name.into(), version: "12".into() }),
            ..BaseTarget::default()
        };
        let arm = read(&format!("{HEAD}[[targets]]\nos='linux'\narch='arm64'\n")).expect("reads");
        assert!(arm.supports(&base("arm64", None)) && !arm.supports(&base("amd64", None)));
        let debian = read(&format!(
            "{HEAD}[[targets]]\nos='linux'\n[[targets.distros]]\nname='debian'\nversion='12'\n"
        ));
        let debian = debian.expect("reads");
        assert!(debian.supports(&base("arm64", None)) && debian.supports(&base("amd64", Some("debian"))));
        assert!(!debian.supports(&base("amd64", Some("ubuntu"))));
        assert!(read(HEAD).expect("reads").supports(&base("s390x", None)));
    }
}

//! Targets: which systems a module is for, and what a base image is.
//!
//! In: `[[targets]]` of modules; config, labels and `/etc/os-release` of a base image. Out: whether they fit, for building
//! and for rebasing, and the variables that tell a program. Source: buildpack spec, "Targets"; the lifecycle's matching.

use std::collections::BTreeMap;
use std::fmt;

use rb_oci::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::labels;

/// A system that a module is for. What is empty fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, from = "RawTarget")]
pub struct Target {
    /// As Go's GOOS names it.
    pub os: String,
    /// As Go's GOARCH names it.
    pub arch: String,
    /// Variant of the processor.
    #[serde(rename = "variant", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Distributions: if there are any, the base must be one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distros: Vec<Distro>,
}

/// The spec calls the variant `variant`, the lifecycle `arch-variant`; both are read.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RawTarget {
    os: String,
    arch: String,
    arch_variant: String,
    variant: String,
    distros: Vec<Distro>,
}

impl From<RawTarget> for Target {
    fn from(raw: RawTarget) -> Self {
        let variant = if raw.arch_variant.is_empty() { raw.variant } else { raw.arch_variant };
        Self { os: raw.os, arch: raw.arch, variant, distros: raw.distros }
    }
}

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Distro {
    /// `ID` of os-release.
    pub name: String,
    /// `VERSION_ID` of os-release.
    pub version: String,
}

/// What a base image is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct BaseTarget {
    /// Identifier that the image's maker gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// As Go's GOOS names it.
    pub os: String,
    /// As Go's GOARCH names it.
    pub arch: String,
    /// Variant of the processor.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch_variant: String,
    /// Its distribution, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
}

impl fmt::Display for BaseTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.arch)?;
        if !self.arch_variant.is_empty() {
            write!(out, "/{}", self.arch_variant)?;
        }
        match &self.distro {
            Some(distro) => write!(out, " ({})", format!("{} {}", distro.name, distro.version).trim()),
            None => Ok(()),
        }
    }
}

impl Target {
    /// Whether a module with this target can be built for `base`.
    pub fn fits(&self, base: &BaseTarget) -> bool {
        let system = [(&self.os, &base.os), (&self.arch, &base.arch), (&self.variant, &base.arch_variant)];
        let distro = |have: &Distro| {
            let fits =
                |distro: &Distro| wild(&distro.name, &have.name) && wild(&distro.version, &have.version);
            self.distros.iter().any(fits)
        };
        system.iter().all(|(ours, theirs)| wild(ours, theirs))
            && (self.distros.is_empty() || base.distro.as_ref().is_some_and(distro))
    }
}

/// Equal, or one of them says nothing.
fn wild(left: &str, right: &str) -> bool {
    left.is_empty() || right.is_empty() || left == right
}

impl BaseTarget {
    /// Reads it from an image's config and labels.
    pub fn of_image(config: &ImageConfig) -> Self {
        let label = |name: &str| config.config.labels.get(name).cloned();
        let (name, version) = (label(labels::DISTRO_NAME), label(labels::DISTRO_VERSION));
        let distro = (name.is_some() || version.is_some())
            .then(|| Distro { name: name.unwrap_or_default(), version: version.unwrap_or_default() });
        Self {
            id: label(labels::BASE_ID),
            os: config.os.clone(),
            arch: config.architecture.clone(),
            arch_variant: config.variant.clone().unwrap_or_default(),
            distro,
        }
    }

    /// Adds the distribution from the text of `/etc/os-release`, where labels say nothing of it.
    #[must_use]
    pub fn with_os_release(mut self, text: &str) -> Self {
        if self.distro.is_some() {
            return self;
        }
        let mut distro = Distro::default();
        for line in text.lines() {
            let value = |value: &str| value.trim_matches(['"', ' ']).to_owned();
            match line.split_once('=') {
                Some((_, rest)) if rest.contains('=') => {}
                Some(("ID", name)) => distro.name = value(name),
                Some(("VERSION_ID", version)) => distro.version = value(version),
                _ => {}
            }
            if !distro.name.is_empty() && !distro.version.is_empty() {
                break;
            }
        }
        self.distro = (distro != Distro::default()).then_some(distro);
        self
    }

    /// Returns the variables that tell it to programs of modules: `CNB_TARGET_*`.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let distro = self.distro.clone().unwrap_or_default();
        let mut all = BTreeMap::from([
            ("CNB_TARGET_OS".to_owned(), self.os.clone()),
            ("CNB_TARGET_ARCH".to_owned(), self.arch.clone()),
        ]);
        for (name, value) in [
            ("CNB_TARGET_ARCH_VARIANT", &self.arch_variant),
            ("CNB_TARGET_DISTRO_NAME", &distro.name),
            ("CNB_TARGET_DISTRO_VERSION", &distro.version),
        ] {
            if !value.is_empty() {
                all.insert(name.to_owned(), value.clone());
            }
        }
        all
    }

    /// Whether an app built on `old` can be put on this base.
    pub fn replaces(&self, old: &Self) -> bool {
        let distro = |ours: &Distro| {
            let same = |ours: &str, theirs: &str| ours.is_empty() || ours == theirs;
            let fits =
                |theirs: &Distro| same(&ours.name, &theirs.name) && same(&ours.version, &theirs.version);
            old.distro.as_ref().is_some_and(fits)
        };
        self.os == old.os
            && self.arch == old.arch
            && wild(&self.arch_variant, &old.arch_variant)
            && self.distro.as_ref().is_none_or(distro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BaseTarget {
        BaseTarget { os: "linux".into(), arch: "amd64".into(), ..BaseTarget::default() }
            .with_os_release("NAME=\"x\"\nID=debian\nX=a=b\nVERSION_ID=\"12\"\nID=other\n")
    }

    fn target(text: &str) -> Target {
        toml::from_str(text).expect("a target")
    }

    #[test]
    fn what_is_empty_fits_all() {
        assert!(target("").fits(&base()));
        assert!(target("os='linux'\narch='amd64'").fits(&base()));
        assert!(!target("os='windows'").fits(&base()));
        assert!(target("os='linux'\narch='arm64'").fits(&BaseTarget { arch: String::new(), ..base() }));
        assert!(target("variant='v2'").fits(&base()));
        assert!(!target("arch-variant='v2'").fits(&BaseTarget { arch_variant: "v3".into(), ..base() }));
        assert!(!target("variant='v2'").fits(&BaseTarget { arch_variant: "v3".into(), ..base() }));
    }

    #[test]
    fn a_named_distribution_must_be_known_and_equal() {
        assert!(target("distros=[{name='debian'}]").fits(&base()));
        assert!(target("distros=[{name='ubuntu',version='1'},{name='debian',version='12'}]").fits(&base()));
        assert!(!target("distros=[{name='debian',version='11'}]").fits(&base()));
        assert!(!target("distros=[{}]").fits(&BaseTarget { distro: None, ..base() }));
    }

    #[test]
    fn a_rebase_asks_for_the_same_system() {
        assert!(base().replaces(&base()));
        let unknown = BaseTarget { distro: None, ..base() };
        assert!(unknown.replaces(&base()) && !base().replaces(&unknown));
        assert!(!BaseTarget { arch: String::new(), ..base() }.replaces(&base()));
    }

    #[test]
    fn variables_leave_out_what_is_unknown() {
        let names: Vec<String> = BaseTarget { distro: None, ..base() }.variables().into_keys().collect();
        assert_eq!(names, ["CNB_TARGET_ARCH", "CNB_TARGET_OS"]);
        assert_eq!(base().variables().len(), 4);
    }
}

//! `pack.toml`: what `rb pack config` keeps, beside the user's `config.toml`.
//!
//! In: the [`Environment`]. Out: [`PackSettings`]; without a file all defaults. The keys are those of pack's own `config.toml`, so that
//! one can be copied here; those that say nothing to `rb` stay as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::config;
use super::edit::{EditError, edit_file};
use crate::args::PackPull;
use crate::environment::Environment;
use crate::world::{ReadError, read_regular};

/// The file's name.
const FILE: &str = "pack.toml";

/// Keys of the file.
pub(crate) const DEFAULT_BUILDER: &str = "default-builder-image";
pub(crate) const PULL_POLICY: &str = "pull-policy";
pub(crate) const RUN_IMAGES: &str = "run-images";
pub(crate) const TRUSTED_BUILDERS: &str = "trusted-builders";
pub(crate) const REGISTRIES: &str = "registries";
pub(crate) const DEFAULT_REGISTRY: &str = "default-registry";
pub(crate) const EXPERIMENTAL: &str = "experimental";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct PackSettings {
    /// The builder of builds that name none.
    #[serde(rename = "default-builder-image")]
    pub(crate) default_builder: Option<String>,
    /// When registries are asked for images.
    pub(crate) pull_policy: Option<PackPull>,
    run_images: Vec<RunImage>,
    trusted_builders: Vec<TrustedBuilder>,
    /// Registries of buildpacks.
    pub(crate) registries: Vec<Registry>,
    /// The one that is asked where none is named.
    pub(crate) default_registry: Option<String>,
    /// Whether pack is to do what may change.
    pub(crate) experimental: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RunImage {
    image: String,
    mirrors: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct TrustedBuilder {
    name: String,
}

/// A registry of buildpacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Registry {
    /// Its name.
    pub(crate) name: String,
    /// How pack writes to it.
    pub(crate) r#type: String,
    /// Its repository.
    pub(crate) url: String,
}

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackSettingsError {
    #[error("`{file}` cannot be read", file = .file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: ReadError,
    },
    #[error("`{file}` is not what `rb pack config` writes", file = .file.display())]
    Toml {
        file: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl PackSettings {
    /// Reads the file.
    pub(crate) fn read(environment: &Environment) -> Result<Self, PackSettingsError> {
        let Some(file) = place(environment) else { return Ok(Self::default()) };
        let bytes = match read_regular(&file, config::LIMIT_BYTES) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(PackSettingsError::Read { file, source }),
        };
        Self::parse(&bytes).map_err(|source| PackSettingsError::Toml { file, source: Box::new(source) })
    }

    fn parse(bytes: &[u8]) -> Result<Self, toml::de::Error> {
        toml::from_slice(bytes)
    }

    /// Returns the names that are tried before those of a builder, by the run image.
    pub(crate) fn mirrors(&self) -> BTreeMap<String, Vec<String>> {
        let all = self.run_images.iter().filter(|one| !one.mirrors.is_empty());
        all.map(|one| (one.image.clone(), one.mirrors.clone())).collect()
    }

    /// Returns the builders that are trusted.
    pub(crate) fn trusted(&self) -> Vec<&str> {
        self.trusted_builders.iter().map(|one| one.name.as_str()).collect()
    }

    /// Returns the registry of a name; the default one if none is said.
    pub(crate) fn registry(&self, name: Option<&str>) -> Option<&Registry> {
        let name = name.or(self.default_registry.as_deref())?;
        self.registries.iter().find(|registry| registry.name == name)
    }
}

/// Returns where the file is.
fn place(environment: &Environment) -> Option<PathBuf> {
    Some(config::own_file(environment).0?.with_file_name(FILE))
}

/// Changes the file, which comes to be if there is none.
pub(crate) fn change<T>(
    environment: &Environment,
    change: impl FnOnce(&mut DocumentMut) -> T,
) -> Result<T, EditError> {
    let file = place(environment).ok_or(EditError::NoPlace)?;
    let check = |text: &str| {
        let read = PackSettings::parse(text.as_bytes());
        read.map(drop)
            .map_err(|source| PackSettingsError::Toml { file: file.clone(), source: Box::new(source) })
    };
    edit_file(&file, |text| Ok(check(text)?), change)
}

/// Sets a key at the top, or takes it away.
pub(crate) fn set(document: &mut DocumentMut, key: &str, text: Option<&str>) {
    match text {
        Some(text) => document[key] = value(text),
        None => drop(document.remove(key)),
    }
}

/// Takes the tables of a list away of which `field` is this, and adds one if there is one to add.
pub(crate) fn replace(
    document: &mut DocumentMut,
    list: &str,
    (field, is): (&str, &str),
    with: Option<Table>,
) {
    let mut all = match document.remove(list) {
        Some(Item::ArrayOfTables(tables)) => tables,
        // As pack may write it: a list in one line.
        Some(other) => other.into_array_of_tables().unwrap_or_default(),
        None => ArrayOfTables::new(),
    };
    all.retain(|table| table.get(field).and_then(Item::as_str) != Some(is));
    all.extend(with);
    if !all.is_empty() {
        document.insert(list, Item::ArrayOfTables(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn what_pack_writes_is_read_and_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        let file: &'static str =
            Box::leak(dir.path().join("config.toml").display().to_string().into_boxed_str());
        let environment = environment(&[("RB_CONFIG", file)]);
        assert_eq!(PackSettings::read(&environment).expect("is none"), PackSettings::default());
        let text = "# mine\ndefault-builder-image = 'b:1'\npull-policy = 'if-not-present'\nlayout-repo-dir = '/x'\n\
                    trusted-builders = [{ name = 'b:1' }]\n\n[[run-images]]\nimage = 'run'\nmirrors = ['a/run']\n\n\
                    [[registries]]\nname = 'own'\ntype = 'git'\nurl = 'https://example.com/r'\n";
        std::fs::write(dir.path().join(FILE), text).expect("writes");
        let read = PackSettings::read(&environment).expect("reads");
        assert_eq!(read.default_builder.as_deref(), Some("b:1"));
        assert_eq!(read.pull_policy, Some(PackPull::IfNotPresent));
        assert_eq!(read.mirrors()["run"], ["a/run"]);
        assert_eq!(read.trusted(), ["b:1"]);
        assert_eq!(read.registry(None), None);
        assert_eq!(read.registry(Some("own")).map(|one| one.url.as_str()), Some("https://example.com/r"));
        change(&environment, |document| {
            set(document, DEFAULT_BUILDER, None);
            set(document, DEFAULT_REGISTRY, Some("own"));
            replace(document, TRUSTED_BUILDERS, ("name", "b:1"), None);
            replace(document, RUN_IMAGES, ("image", "run"), None);
        })
        .expect("is changed");
        let read = PackSettings::read(&environment).expect("reads");
        assert_eq!((read.default_builder.as_deref(), read.trusted().len()), (None, 0));
        assert!(read.mirrors().is_empty() && read.registry(None).is_some());
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("reads");
        assert!(text.starts_with("# mine\n") || !text.contains("default-builder-image"), "{text}");
        assert!(text.contains("layout-repo-dir = '/x'"), "{text}");
        std::fs::write(dir.path().join(FILE), "pull-policy = 'sometimes'\n").expect("writes");
        PackSettings::read(&environment).expect_err("is no policy");
        change(&environment, |document| set(document, DEFAULT_BUILDER, Some("x"))).expect_err("is wrong");
    }
}

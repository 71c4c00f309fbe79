//! Bills of materials: which files of a buildpack become which files of the build.
//!
//! In: the names of files beside layers, the layers' types, and the formats that the buildpack declares. Out: copies from
//! `<layer>.sbom.<ext>` to `sbom/{launch,build,cache}/<buildpack>/[<layer>/]sbom.<ext>`, and back before the next build.
//! Source: buildpack spec, "Software-Bill-of-Materials"; the lifecycle's rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};
use crate::{LayerFile, ModuleKey, Require, escape_id};

/// Suffixes of files, and the media types that they stand for.
pub const FORMATS: [(&str, &str); 3] = [
    ("sbom.cdx.json", "application/vnd.cyclonedx+json"),
    ("sbom.spdx.json", "application/spdx+json"),
    ("sbom.syft.json", "application/vnd.syft+json"),
];

/// What a bill of materials is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SbomKind {
    /// Of what is in the image.
    Launch,
    /// Of what was there during the build only.
    Build,
    /// Of what is cached.
    Cache,
}

impl SbomKind {
    /// Returns the name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Build => "build",
            Self::Cache => "cache",
        }
    }
}

/// A file that is copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SbomCopy {
    /// Its name in the folder of the buildpack's layers.
    pub from: String,
    /// Where it goes, relative to the folder of all layers.
    pub to: String,
}

/// A bill of materials cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// Its name has no known suffix.
    #[error("{0} is a bill of materials of no known format")]
    Format(String),
    /// The buildpack does not declare its media type.
    #[error("{file} is {media_type}, which is not among the buildpack's `sbom-formats`")]
    Undeclared {
        /// The file.
        file: String,
        /// What it is.
        media_type: &'static str,
    },
    /// What the buildpack declares is no media type.
    #[error("`{0}` among the buildpack's `sbom-formats` is no media type")]
    MediaType(String),
}

/// Returns what is copied after a buildpack has built.
///
/// `files` are the names beside its layers, `layers` what is said of them; a file of no layer is passed over.
pub fn sbom_copies<'f>(
    module: &ModuleKey,
    declared: &[String],
    files: impl Iterator<Item = &'f str>,
    layers: &BTreeMap<String, LayerFile>,
) -> Result<Vec<SbomCopy>, SbomError> {
    let mut copies = Vec::new();
    for file in files.filter(|file| is_sbom(file)) {
        let layer = file.split('.').next().unwrap_or_default();
        let kinds: &[SbomKind] = match (layer, layers.get(layer)) {
            ("launch", _) => &[SbomKind::Launch],
            ("build", _) => &[SbomKind::Build],
            (_, None) => continue,
            (_, Some(LayerFile { launch: true, cache: false, .. })) => &[SbomKind::Launch],
            (_, Some(LayerFile { launch: true, cache: true, .. })) => &[SbomKind::Launch, SbomKind::Cache],
            (_, Some(LayerFile { launch: false, cache: false, .. })) => &[SbomKind::Build],
            (_, Some(LayerFile { launch: false, cache: true, .. })) => &[SbomKind::Build, SbomKind::Cache],
        };
        let (suffix, media_type) = *FORMATS
            .iter()
            .find(|(suffix, _)| file.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')))
            .ok_or_else(|| SbomError::Format(file.to_owned()))?;
        check_declared(file, media_type, declared)?;
        let folder = match layer {
            "launch" | "build" => String::new(),
            layer => format!("{layer}/"),
        };
        for kind in kinds {
            let to = format!("sbom/{}/{}/{folder}{suffix}", kind.name(), escape_id(&module.id));
            copies.push(SbomCopy { from: file.to_owned(), to });
        }
    }
    Ok(copies)
}

/// Whether a name is `*.sbom.*.json`.
fn is_sbom(file: &str) -> bool {
    file.strip_suffix(".json").is_some_and(|rest| rest.contains(".sbom."))
}

/// Parameters of declared types say nothing; what stands behind the one that is found is not looked at.
fn check_declared(file: &str, media_type: &'static str, declared: &[String]) -> Result<(), SbomError> {
    for one in declared {
        let plain = one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if plain.is_empty() || plain.contains(char::is_whitespace) {
            return Err(SbomError::MediaType(one.clone()));
        }
        if plain == media_type {
            return Ok(());
        }
    }
    Err(SbomError::Undeclared { file: file.to_owned(), media_type })
}

/// Says where a file of `sbom/{cache,launch}` goes before the next build: the buildpack's folder, and its name there.
///
/// `path` is relative to the folder of all layers. Files that are of no layer are not restored.
pub fn sbom_restored(path: &str) -> Option<(String, String)> {
    let mut parts = path.split('/');
    let (top, kind, buildpack, layer, file) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && top == "sbom" && ["cache", "launch"].contains(&kind);
    let known = FORMATS.iter().any(|(suffix, _)| file == *suffix);
    (whole && known).then(|| (buildpack.to_owned(), format!("{layer}.{file}")))
}

/// An entry of the old bill of materials, in `launch.toml` and `build.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct BomEntry(pub Require);

/// Returns the text of `sbom/{launch,build}/sbom.legacy.json`: the old entries of all buildpacks, in order.
pub fn legacy_sbom(entries: &[(ModuleKey, BomEntry)]) -> Result<String, JsonError> {
    #[derive(Serialize)]
    struct Entry<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        version: &'a str,
        metadata: Option<serde_json::Map<String, serde_json::Value>>,
        buildpack: Module<'a>,
    }
    #[derive(Serialize)]
    struct Module<'a> {
        id: &'a str,
        version: &'a str,
    }
    let mut all = Vec::new();
    for (module, BomEntry(entry)) in entries {
        all.push(Entry {
            name: &entry.name,
            version: &entry.version,
            metadata: entry.metadata.as_ref().map(json::of_table).transpose()?,
            buildpack: Module { id: &module.id, version: &module.version },
        });
    }
    let all = (!all.is_empty()).then_some(all);
    Ok(json::text(&all)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CDX: &str = "Application/vnd.cyclonedx+json; version=1.4";

    fn copies(files: &[&str], declared: &[&str]) -> Result<Vec<String>, SbomError> {
        let layer = |launch, cache| LayerFile { launch, cache, build: true, metadata: None };
        let layers = [
            ("l", layer(true, false)),
            ("lc", layer(true, true)),
            ("b", layer(false, false)),
            ("c", layer(false, true)),
        ];
        let layers = layers.into_iter().map(|(name, layer)| (name.to_owned(), layer)).collect();
        let declared: Vec<String> = declared.iter().map(|one| (*one).to_owned()).collect();
        let all = sbom_copies(&ModuleKey::buildpack("a/b", "1"), &declared, files.iter().copied(), &layers)?;
        Ok(all.into_iter().map(|copy| copy.to).collect())
    }

    #[test]
    fn each_goes_where_its_layer_does() {
        let of = |file: &str| copies(&[file], &[CDX]).expect("declared").join(" ");
        assert_eq!(of("launch.sbom.cdx.json"), "sbom/launch/a_b/sbom.cdx.json");
        assert_eq!(of("build.sbom.cdx.json"), "sbom/build/a_b/sbom.cdx.json");
        assert_eq!(of("l.sbom.cdx.json"), "sbom/launch/a_b/l/sbom.cdx.json");
        assert_eq!(
            of("lc.sbom.cdx.json"),
            "sbom/launch/a_b/lc/sbom.cdx.json sbom/cache/a_b/lc/sbom.cdx.json"
        );
        assert_eq!(of("b.sbom.cdx.json"), "sbom/build/a_b/b/sbom.cdx.json");
        assert_eq!(of("c.sbom.cdx.json"), "sbom/build/a_b/c/sbom.cdx.json sbom/cache/a_b/c/sbom.cdx.json");
        for file in ["unknown.sbom.what.json", "l.json", "l.sbom.json", "l.toml"] {
            assert_eq!(of(file), "");
        }
    }

    #[test]
    fn what_is_not_declared_is_refused() {
        assert!(matches!(copies(&["l.sbom.spdx.json"], &[CDX]), Err(SbomError::Undeclared { .. })));
        assert!(matches!(copies(&["l.sbom.what.json"], &[CDX]), Err(SbomError::Format(_))));
        assert!(matches!(copies(&["l.sbom.spdx.json"], &[""]), Err(SbomError::MediaType(_))));
        assert!(copies(&["l.sbom.cdx.json"], &[CDX, ""]).is_ok());
    }

    #[test]
    fn restored_beside_the_layer() {
        assert_eq!(
            sbom_restored("sbom/cache/a_b/c/sbom.cdx.json"),
            Some(("a_b".into(), "c.sbom.cdx.json".into()))
        );
        for path in [
            "sbom/build/a_b/c/sbom.cdx.json",
            "sbom/launch/a_b/sbom.cdx.json",
            "sbom/launch/a/b/other.json",
            "x",
        ] {
            assert_eq!(sbom_restored(path), None);
        }
    }

    #[test]
    fn the_old_one() {
        assert_eq!(legacy_sbom(&[]).expect("writes"), "null\n");
        let entry = BomEntry(toml::from_str("name='x'\nmetadata={b=1}").expect("reads"));
        let text = legacy_sbom(&[(ModuleKey::buildpack("a", "1"), entry)]).expect("writes");
        assert_eq!(
            text,
            "[{\"name\":\"x\",\"metadata\":{\"b\":1},\"buildpack\":{\"id\":\"a\",\"version\":\"1\"}}]\n"
        );
    }
}

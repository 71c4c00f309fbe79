//! What a metadata file says of a build beside its images, by the names that buildx has for it.
//!
//! In: what was written, what the build checks found, the environment. Out: fields: `buildx.build.ref` names the record of the build for
//! `rb history show`; `buildx.build.provenance` is what is said of an image, where `--provenance` asked for it, short unless
//! `BUILDX_METADATA_PROVENANCE` is `max`; `buildx.build.warnings` are there where `BUILDX_METADATA_WARNINGS` asks.
//! Source: docker buildx build reference, "--metadata-file"; buildx, how it makes these fields.

use std::collections::BTreeMap;

use rb_api::ExportResult;
use rb_exporters::{REFERENCE_DIGEST, REFERENCE_TYPE};
use rb_oci::index::{JSON_LIMIT_BYTES, digest_of, is_index, named_platform};
use rb_oci::{Descriptor, ImageIndex, ImageManifest};
use rb_store::Store;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::attest::Wishes;
use crate::commands::past;
use crate::commands::workbench::Workbench;
use crate::environment::Environment;
use crate::report::Failure;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metadata {
    provenance: Extent,
    warnings: bool,
}

/// How much is said of where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Nothing,
    /// Without steps and times.
    Short,
    Whole,
}

impl Metadata {
    /// Reads what the environment says of it. As buildx has it, what it does not know is the short form, and no warnings.
    pub(super) fn read(environment: &Environment) -> Self {
        let text = |name| environment.get(name).and_then(|(_, value)| value.to_str()).unwrap_or_default();
        Self::of(text("BUILDX_METADATA_PROVENANCE"), text("BUILDX_METADATA_WARNINGS"))
    }

    fn of(provenance: &str, warnings: &str) -> Self {
        let provenance = match provenance {
            "max" => Extent::Whole,
            "disabled" => Extent::Nothing,
            text if rb_bake::truth(text) == Some(false) => Extent::Nothing,
            _ => Extent::Short,
        };
        Self { provenance, warnings: rb_bake::truth(warnings) == Some(true) }
    }

    /// Returns what the build checks found, if it is asked for.
    pub(super) fn warnings(self, found: Vec<Value>) -> Map<String, Value> {
        let wanted =
            (self.warnings && !found.is_empty()).then(|| ("buildx.build.warnings".to_owned(), found.into()));
        wanted.into_iter().collect()
    }

    /// Returns what is said of one build whose record is written; `wishes` is what was asked to be said of its image.
    pub(super) fn of_build(
        self,
        bench: &Workbench,
        wishes: &Wishes,
        exports: &[ExportResult],
    ) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        if let Some(id) = bench.record_id() {
            fields.insert("buildx.build.ref".to_owned(), format!("{}{id}", past::REFERENCE).into());
        }
        let image = exports.iter().rev().find_map(|export| match export {
            ExportResult::Image { descriptor, .. } => Some(descriptor),
            ExportResult::Local { .. } | ExportResult::Tar { .. } => None,
        });
        let is_said = self.provenance != Extent::Nothing && wishes.has_provenance();
        if let Some(image) = image.filter(|image| is_said && is_index(image)) {
            let said = provenance(bench.engine.store(), image)?;
            let is_one = said.len() == 1;
            for (platform, mut predicate) in said {
                if self.provenance == Extent::Short {
                    shorten(&mut predicate);
                }
                let name = "buildx.build.provenance";
                let name = if is_one { name.to_owned() } else { format!("{name}/{platform}") };
                fields.insert(name, predicate);
            }
        }
        Ok(fields)
    }
}

/// Returns what an index says of where its images come from, by platform.
fn provenance(store: &Store, index: &Descriptor) -> Result<BTreeMap<String, Value>, Failure> {
    let entries: ImageIndex = read(store, index)?;
    let mut said = BTreeMap::new();
    for image in entries.manifests() {
        let Some(platform) = named_platform(image) else { continue };
        for about in entries.manifests().iter().filter(|entry| is_about(entry, image)) {
            let about: ImageManifest = read(store, about)?;
            for layer in about.layers().iter().filter(|layer| is_provenance(layer)) {
                let mut statement: Value = read(store, layer)?;
                said.insert(platform.to_string(), statement["predicate"].take());
            }
        }
    }
    Ok(said)
}

/// Tells whether an entry of an index holds what is said of an image of it.
fn is_about(entry: &Descriptor, image: &Descriptor) -> bool {
    let Some(annotations) = entry.annotations() else { return false };
    let says = |key: &str, value: &str| annotations.get(key).is_some_and(|said| said == value);
    says(REFERENCE_TYPE.0, REFERENCE_TYPE.1) && says(REFERENCE_DIGEST, image.digest().as_ref())
}

fn is_provenance(layer: &Descriptor) -> bool {
    let kind = layer.annotations().as_ref().and_then(|all| all.get("in-toto.io/predicate-type"));
    kind.is_some_and(|kind| kind.starts_with("https://slsa.dev/provenance/"))
}

/// Leaves out the steps of a build, and when it was.
fn shorten(predicate: &mut Value) {
    let mut drop_of = |path: &str, key: &str| {
        if let Some(Value::Object(part)) = predicate.pointer_mut(path) {
            part.remove(key);
        }
    };
    drop_of("", "buildConfig");
    drop_of("", "metadata");
    drop_of("/buildDefinition/internalParameters", "buildConfig");
    drop_of("/runDetails", "metadata");
}

fn read<T: DeserializeOwned>(store: &Store, blob: &Descriptor) -> Result<T, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::environment("--metadata-file: what is said of the image cannot be read", error)
    };
    let digest = digest_of(blob).map_err(|error| failed(&error))?;
    let bytes = store.read_blob(&digest, JSON_LIMIT_BYTES).map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_environment_says_how_much() {
        let of = |provenance, warnings| {
            let Metadata { provenance, warnings } = Metadata::of(provenance, warnings);
            (provenance, warnings)
        };
        assert_eq!(of("", ""), (Extent::Short, false));
        assert_eq!(of("max", "1"), (Extent::Whole, true));
        assert_eq!(of("disabled", "true"), (Extent::Nothing, true));
        assert_eq!(of("0", "0"), (Extent::Nothing, false));
        assert_eq!(of("min", "perhaps"), (Extent::Short, false));
        let found = vec![json!({ "level": 1 })];
        assert_eq!(Metadata::of("", "").warnings(found.clone()), Map::new());
        assert_eq!(Metadata::of("", "1").warnings(found)["buildx.build.warnings"][0]["level"], 1);
    }

    #[test]
    fn the_short_form_has_neither_steps_nor_times() {
        let mut new = json!({
            "buildDefinition": { "buildType": "t", "internalParameters": { "buildConfig": 1, "os": 2 } },
            "runDetails": { "builder": {}, "metadata": 3 },
        });
        shorten(&mut new);
        assert_eq!(
            new,
            json!({
                "buildDefinition": { "buildType": "t", "internalParameters": { "os": 2 } },
                "runDetails": { "builder": {} },
            })
        );
        let mut old = json!({ "buildType": "t", "buildConfig": {}, "metadata": {}, "materials": [] });
        shorten(&mut old);
        assert_eq!(old, json!({ "buildType": "t", "materials": [] }));
    }
}

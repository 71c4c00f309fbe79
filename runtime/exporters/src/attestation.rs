//! Attestations: statements about an image in its index, and beside files.
//!
//! In: predicates, each with its type, and whom they are about. Out: a manifest among the blobs whose layers are in-toto
//! statements, with the descriptor by which an index names it; or the files of a tree with their digests, and a file beside them.
//! **Invariant:** the platform of such a manifest is `unknown/unknown`, so that nobody runs it; the same statements give the same bytes.
//! Source: in-toto attestation, "Statement v1"; BuildKit's `docs/attestations/attestation-storage.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rb_oci::{Descriptor, Digest, Hasher, MediaType};
use rb_snapshot::{FileType, View};
use rb_store::{Store, descriptor_digest};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Context as _;
use crate::image::describe;
use crate::place::{Beside, follow};
use crate::{ExportError, Result};

/// Type of every statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Annotation of a layer that says what its statement is.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Artifact type of a manifest that is no image.
const ARTIFACT: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// What the config of an artifact holds.
const EMPTY: &[u8] = b"{}";

/// Annotation of an attestation's descriptor that says what it is, and its value.
pub const REFERENCE_TYPE: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
/// Annotation of an attestation's descriptor that names the manifest it is about.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Its digests, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// Something whose sha256 is known.
    pub fn new(name: impl Into<String>, digest: &Digest) -> Self {
        Self { name: name.into(), digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]) }
    }
}

/// What is said of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// What kind of statement it is.
    pub predicate_type: String,
    /// Whom it is about.
    pub subjects: Vec<Subject>,
    /// What it says.
    pub predicate: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    predicate_type: &'a str,
    subject: &'a [Subject],
    predicate: &'a Value,
}

impl Statement {
    fn document(&self) -> Document<'_> {
        Document {
            kind: STATEMENT,
            predicate_type: &self.predicate_type,
            subject: &self.subjects,
            predicate: &self.predicate,
        }
    }
}

/// Writes statements about the manifest `target` as a manifest of their own, `as_artifact` or as an image that no platform runs.
/// Returns the descriptor for the index of the target; all blobs are in the store.
pub fn attach(
    store: &Store,
    target: &Descriptor,
    statements: &[Statement],
    as_artifact: bool,
) -> Result<Descriptor> {
    let mut layers = Vec::with_capacity(statements.len());
    let mut diff_ids = Vec::with_capacity(statements.len());
    for statement in statements {
        let bytes = serde_json::to_vec(&statement.document()).map_err(ExportError::Spec)?;
        let digest = store.put_blob(&bytes)?;
        diff_ids.push(digest);
        layers.push(json!({
            "mediaType": IN_TOTO, "digest": digest, "size": bytes.len(),
            "annotations": { PREDICATE_TYPE: statement.predicate_type },
        }));
    }
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "layers": layers });
    if as_artifact {
        let size = EMPTY.len();
        manifest["artifactType"] = ARTIFACT.into();
        manifest["config"] = json!({
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": store.put_blob(EMPTY)?, "size": size, "data": "e30=",
        });
        manifest["subject"] =
            json!({ "mediaType": target.media_type(), "digest": target.digest(), "size": target.size() });
    } else {
        // For those who look into every config of an index; it says of nothing what it is.
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let bytes = serde_json::to_vec(&config).map_err(ExportError::Spec)?;
        manifest["config"] = json!({
            "mediaType": MediaType::ImageConfig, "digest": store.put_blob(&bytes)?, "size": bytes.len(),
        });
    }
    let bytes = serde_json::to_vec(&manifest).map_err(ExportError::Spec)?;
    let mut descriptor = describe(&MediaType::ImageManifest, &store.put_blob(&bytes)?, bytes.len() as u64)?;
    let (key, value) = REFERENCE_TYPE;
    let of = (REFERENCE_DIGEST.to_owned(), descriptor_digest(target)?.to_string());
    descriptor.set_annotations(Some([(key.to_owned(), value.to_owned()), of].into()));
    Ok(descriptor)
}

/// Returns every file of a tree, by its path, with its digest. Reads all of them.
pub fn files_of(view: &View) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    for entry in view.walk("/")? {
        let entry = entry?;
        if entry.metadata.file_type != FileType::File {
            continue;
        }
        let mut file = view.open(&entry)?;
        let mut hasher = Hasher::default();
        loop {
            let count = file.read(&mut buffer).context("read", &entry.path)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        let name = entry.path.strip_prefix("/").unwrap_or(&entry.path).to_string_lossy().into_owned();
        subjects.push(Subject::new(name, &hasher.finish().0));
    }
    subjects.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(subjects)
}

/// Returns a statement as the text of a file.
pub fn statement_text(statement: &Statement) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(&statement.document()).map_err(ExportError::Spec)
}

/// Puts a small file into a folder that was written, in place of a file of that name.
pub fn write_beside(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let beside = Beside::new(&follow(folder)?.join(name))?;
    fs::write(beside.path(), bytes).context("write", beside.path())?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(beside.path(), mode).context("change the mode of", beside.path())?;
    beside.put()
}

#[cfg(test)]
mod tests {
    use rb_oci::{ImageConfig, Platform};
    use rb_snapshot::DriverKind;

    use super::*;
    use crate::testing::{Fixture, file};
    use crate::{Epoch, ImageOptions, IndexOptions, export_image, export_index};

    fn read(store: &Store, digest: &str) -> Value {
        let digest = digest.parse().expect("a digest");
        serde_json::from_slice(&store.read_blob(&digest, 1 << 20).expect("is there")).expect("parses")
    }

    fn statement(kind: &str) -> Statement {
        let subjects = vec![Subject::new("pkg:docker/app@1", &Digest::of("app"))];
        Statement { predicate_type: kind.to_owned(), subjects, predicate: json!({ "b": 1, "a": [] }) }
    }

    #[test]
    fn statements_stand_behind_the_images_of_an_index() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let store = &fixture.store;
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let config = ImageConfig::scratch(&platform);
        let image =
            export_image(store, &fixture.snapshots, None, &config, Epoch(5), &ImageOptions::default());
        let image = image.expect("exports");
        let attached = attach(store, &image, &[statement("one"), statement("two")], false).expect("attaches");
        let options = IndexOptions { attached: vec![attached], ..IndexOptions::default() };
        let index = export_index(store, [(platform, image.clone())], &options).expect("exports");
        let index = read(store, index.digest().as_ref());
        let entry = &index["manifests"][1];
        assert_eq!(entry["platform"], json!({ "os": "unknown", "architecture": "unknown" }));
        assert_eq!(
            entry["annotations"],
            json!({
                "vnd.docker.reference.digest": image.digest().to_string(),
                "vnd.docker.reference.type": "attestation-manifest",
            })
        );
        let manifest = read(store, entry["digest"].as_str().expect("text"));
        let types: Vec<_> = manifest["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|layer| (&layer["mediaType"], &layer["annotations"]["in-toto.io/predicate-type"]))
            .collect();
        let media_type = &json!("application/vnd.in-toto+json");
        assert_eq!(types, [(media_type, &json!("one")), (media_type, &json!("two"))]);
        let told = read(store, manifest["layers"][0]["digest"].as_str().expect("text"));
        assert_eq!(
            told,
            json!({
                "_type": "https://in-toto.io/Statement/v1", "predicateType": "one",
                "subject": [{ "name": "pkg:docker/app@1", "digest": { "sha256": Digest::of("app").hex() } }],
                "predicate": { "a": [], "b": 1 },
            })
        );
        let config = read(store, manifest["config"]["digest"].as_str().expect("text"));
        assert_eq!(config["rootfs"]["diff_ids"][1], manifest["layers"][1]["digest"]);
    }

    #[test]
    fn an_artifact_names_its_subject() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let config = ImageConfig::scratch(&Platform::host());
        let options = ImageOptions::default();
        let image = export_image(&fixture.store, &fixture.snapshots, None, &config, Epoch(5), &options);
        let image = image.expect("exports");
        let attached = attach(&fixture.store, &image, &[statement("one")], true).expect("attaches");
        let manifest = read(&fixture.store, attached.digest().as_ref());
        assert_eq!(manifest["artifactType"], ARTIFACT);
        assert_eq!(manifest["subject"]["digest"], image.digest().to_string());
        let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(manifest["config"]["digest"], empty);
    }

    #[test]
    fn files_have_their_digests() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let root = fixture.commit(None, |root| {
            std::fs::create_dir(root.join("a")).expect("makes");
            file(root, "a/b", "1", 0o644);
            file(root, "a.b", "2", 0o644);
        });
        let view = fixture.snapshots.view(Some(root)).expect("reads");
        let expected = [Subject::new("a.b", &Digest::of("2")), Subject::new("a/b", &Digest::of("1"))];
        assert_eq!(files_of(&view).expect("reads"), expected);
    }
}

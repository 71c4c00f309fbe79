//! Caches elsewhere, as a daemon reads and writes them itself.
//!
//! In: places and what is written to them, as any engine has them. Out: BuildKit's cache options. Registries and buckets the daemon speaks
//! to, with the keys that this client gives it; a folder of this machine is lent as a store ([`Folders`]), under a name that tells
//! nothing of where it is. What BuildKit calls a cache is no cache of rb's: each finds its own.
//! **Invariants:** a blob that comes is kept by its digest only; a layout gets a name for a cache once all of it is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rb_api::{CacheExport, CacheExtent, CachePlace, CacheTarget, CacheWritten};
use rb_oci::{Compression, Descriptor, Digest};
use rb_session::{AzureKey, Bucket, ObjectNames, Secret};
use rb_sources::layout;
use rb_wire::control::CacheOptionsEntry;
use tempfile::TempDir;

use crate::error::RemoteError;

/// What the daemon puts before the name of a store of a cache.
const STORE: &str = "local:";
/// Where the daemon says which manifest a cache is.
pub(crate) const MANIFEST: &str = "cache.manifest";
/// What a cache of rb's in a bucket is called where nobody says; BuildKit's own has another name, and takes no other's place.
const UNNAMED: &str = "rb";

/// Folders of this machine that are lent for caches, by name.
#[derive(Clone, Default)]
pub(crate) struct Folders(Arc<Mutex<BTreeMap<String, Folder>>>);

/// One of them.
#[derive(Clone)]
struct Folder {
    /// The layout.
    layout: PathBuf,
    /// Where blobs come to that it does not have; none of one that is only read.
    incoming: Option<Arc<TempDir>>,
}

impl Folders {
    /// Lends a layout; one that is written gets a folder for what comes.
    fn lend(&self, layout: &Path, incoming: Option<Arc<TempDir>>) -> String {
        let kind = if incoming.is_some() { "to" } else { "from" };
        let mut folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{kind}-{}", folders.len());
        folders.insert(name.clone(), Folder { layout: layout.to_owned(), incoming });
        name
    }

    fn folder(&self, store: &str) -> Option<Folder> {
        let name = store.strip_prefix(STORE)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Returns where a blob of a store lies, or would; none of a store that is not lent.
    pub(crate) fn blob(&self, store: &str, digest: &Digest) -> Option<PathBuf> {
        let folder = self.folder(store)?;
        let new = folder.incoming.map(|incoming| incoming.path().join(digest.hex()));
        new.filter(|path| path.exists()).or_else(|| Some(layout::blob_path(&folder.layout, digest)))
    }

    /// Returns where blobs of a store come to; none of one that is not written.
    pub(crate) fn incoming(&self, store: &str) -> Option<PathBuf> {
        Some(self.folder(store)?.incoming?.path().to_owned())
    }
}

fn entry<K: Into<String>>(kind: &str, attrs: impl IntoIterator<Item = (K, String)>) -> CacheOptionsEntry {
    let attrs = attrs.into_iter().map(|(key, value)| (key.into(), value)).collect();
    CacheOptionsEntry { r#type: kind.to_owned(), attrs }
}

/// Says to the daemon where a cache may be; nothing of a folder that holds none (yet).
pub(crate) fn import(
    place: &CachePlace,
    folders: &Folders,
) -> Result<Option<CacheOptionsEntry>, RemoteError> {
    Ok(match place {
        CachePlace::Registry(reference) => Some(entry("registry", [("ref", reference.to_string())])),
        CachePlace::Bucket(bucket) => Some(of_bucket(bucket)?),
        CachePlace::Folder { path, tag, digest } => {
            let digest = match digest {
                Some(digest) => Some(*digest),
                None if !path.join("index.json").exists() => None,
                None => layout::entry(path, Some(tag)).and_then(|found| layout::digest_of(&found)).ok(),
            };
            let digest = digest.filter(|digest| layout::blob_path(path, digest).is_file());
            digest.map(|digest| {
                let store = folders.lend(path, None);
                entry("local", [("src", store), ("digest", digest.to_string())])
            })
        }
    })
}

/// A cache that is to be written, as the daemon is told of it.
pub(crate) struct Writing {
    pub(crate) entry: CacheOptionsEntry,
    /// Blobs of one that comes to a folder here.
    incoming: Option<Arc<TempDir>>,
}

/// Says to the daemon what is to be written.
pub(crate) fn export(cache: &CacheExport, folders: &Folders, scratch: &Path) -> Result<Writing, RemoteError> {
    let CacheExport { roots: _, target, extent, compression, force_compression, ignore_error: _, reset: _ } =
        cache;
    let mut incoming = None;
    let mut entry = match target {
        CacheTarget::Inline => entry::<&str>("inline", []),
        CacheTarget::Place(CachePlace::Registry(reference)) => {
            entry("registry", [("ref", reference.to_string())])
        }
        CacheTarget::Place(CachePlace::Bucket(bucket)) => of_bucket(bucket)?,
        CacheTarget::Place(CachePlace::Folder { path, .. }) => {
            let disk = |source| RemoteError::Disk { what: "a folder for a cache".to_owned(), source };
            fs::create_dir_all(path)
                .map_err(|source| RemoteError::Disk { what: format!("`{}`", path.display()), source })?;
            let folder =
                Arc::new(tempfile::Builder::new().prefix("cache-").tempdir_in(scratch).map_err(disk)?);
            incoming = Some(Arc::clone(&folder));
            entry("local", [("dest", folders.lend(path, Some(folder)))])
        }
    };
    let mut set = |key: &str, value: &str| entry.attrs.insert(key.to_owned(), value.to_owned());
    set(
        "mode",
        match extent {
            CacheExtent::Min => "min",
            CacheExtent::Max => "max",
        },
    );
    if let Some(compression) = compression {
        let (name, level) = match compression {
            Compression::Uncompressed => ("uncompressed", None),
            Compression::Gzip { level } => ("gzip", Some(level.to_string())),
            Compression::Zstd { level } => ("zstd", Some(level.to_string())),
        };
        set("compression", name);
        level.map(|level| set("compression-level", &level));
    }
    if *force_compression {
        set("force-compression", "true");
    }
    Ok(Writing { entry, incoming })
}

/// Puts a cache that the daemon has sent to its name in the layout, and says what was written.
pub(crate) fn written(
    cache: &CacheExport,
    writing: &Writing,
    response: &BTreeMap<String, String>,
) -> Result<CacheWritten, RemoteError> {
    let wrong = |reason: String| RemoteError::answer(format!("`{MANIFEST}`: {reason}"));
    let manifest: Option<Descriptor> = response
        .get(MANIFEST)
        .map(|text| serde_json::from_str(text).map_err(|error| wrong(error.to_string())))
        .transpose()?;
    let digest =
        manifest.as_ref().map(layout::digest_of).transpose().map_err(|error| wrong(error.to_string()))?;
    let place = cache.target.to_string();
    // Where there is no layer, nothing is written; of a bucket nothing is said.
    let is_told =
        matches!(cache.target, CacheTarget::Place(CachePlace::Registry(_) | CachePlace::Folder { .. }));
    let holds = (is_told && manifest.is_none()).then_some((0, 0));
    if let (Some(incoming), Some(manifest), CacheTarget::Place(CachePlace::Folder { path, tag, digest: _ })) =
        (&writing.incoming, &manifest, &cache.target)
    {
        rb_exporters::add_folder_to_layout(incoming.path(), tag, manifest, path, cache.reset)?;
    }
    Ok(CacheWritten { place, digest, holds, failed: None })
}

/// Returns how BuildKit calls a bucket; its keys go along, as the daemon is who shows them.
fn of_bucket(bucket: &Bucket) -> Result<CacheOptionsEntry, RemoteError> {
    let mut attrs: BTreeMap<&str, String> = BTreeMap::new();
    let kind = match bucket {
        Bucket::S3(bucket) => {
            attrs.insert("bucket", bucket.bucket.clone());
            attrs.insert("region", bucket.region.clone());
            attrs.extend(bucket.endpoint_url.clone().map(|url| ("endpoint_url", url)));
            attrs.insert("use_path_style", bucket.path_style.to_string());
            attrs.insert("access_key_id", bucket.access_key_id.clone());
            attrs.insert("secret_access_key", text(&bucket.secret_access_key)?);
            if let Some(token) = &bucket.session_token {
                attrs.insert("session_token", text(token)?);
            }
            attrs.insert("upload_parallelism", bucket.parallelism.to_string());
            attrs.insert("touch_refresh", format!("{}s", bucket.touch_refresh.as_secs()));
            objects(&mut attrs, &bucket.objects);
            "s3"
        }
        Bucket::Azure(container) => {
            attrs.insert("account_url", container.account_url.clone());
            attrs.insert("account_name", container.account.clone());
            attrs.insert("container", container.container.clone());
            match &container.key {
                AzureKey::Shared(key) => attrs.insert("secret_access_key", text(key)?),
                AzureKey::Signature(_) => {
                    return Err(RemoteError::Unsupported {
                        what: "a cache of type=azblob is opened by a signature (SAS)".to_owned(),
                        help: "name secret_access_key=…, or build it with --engine=here",
                    });
                }
            };
            objects(&mut attrs, &container.objects);
            "azblob"
        }
        Bucket::Actions(cache) => {
            attrs.insert("url_v2", cache.url.clone());
            attrs.insert("version", "2".to_owned());
            attrs.insert("token", text(&cache.token)?);
            attrs.insert("scope", cache.scope.clone());
            attrs.insert("timeout", format!("{}s", cache.timeout.as_secs()));
            "gha"
        }
    };
    Ok(entry(kind, attrs))
}

fn text(secret: &Secret) -> Result<String, RemoteError> {
    let text = String::from_utf8(secret.as_ref().to_vec());
    text.map_err(|_| RemoteError::Unsupported {
        what: "a key to a cache is no text".to_owned(),
        help: "look at what --cache-from and --cache-to name",
    })
}

fn objects(attrs: &mut BTreeMap<&str, String>, names: &ObjectNames) {
    let ObjectNames { names, prefix, blobs_prefix, manifests_prefix } = names;
    if names.iter().any(|name| name != UNNAMED) {
        attrs.insert("name", names.join(";"));
    }
    attrs.insert("prefix", prefix.clone());
    attrs.insert("blobs_prefix", blobs_prefix.clone());
    attrs.insert("manifests_prefix", manifests_prefix.clone());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rb_session::{ActionsCache, S3Bucket};

    use super::*;

    #[test]
    fn a_bucket_is_told_as_buildkit_has_it() {
        let objects = ObjectNames {
            names: vec![UNNAMED.to_owned()],
            prefix: "ci/".to_owned(),
            blobs_prefix: "blobs/".to_owned(),
            manifests_prefix: "manifests/".to_owned(),
        };
        let s3 = Bucket::S3(S3Bucket {
            bucket: "b".into(),
            region: "r".into(),
            endpoint_url: None,
            path_style: true,
            objects: objects.clone(),
            access_key_id: "id".into(),
            secret_access_key: Secret::new("key"),
            session_token: None,
            parallelism: 4,
            touch_refresh: Duration::from_secs(60),
        });
        let told = import(&CachePlace::Bucket(Arc::new(s3)), &Folders::default())
            .expect("any daemon")
            .expect("is told");
        let attr = |key: &str| told.attrs.get(key).map(String::as_str);
        assert_eq!(
            (told.r#type.as_str(), attr("bucket"), attr("secret_access_key")),
            ("s3", Some("b"), Some("key"))
        );
        assert_eq!((attr("name"), attr("prefix"), attr("touch_refresh")), (None, Some("ci/"), Some("60s")));
        let gha = Bucket::Actions(ActionsCache {
            url: "https://x/".into(),
            token: Secret::new("t"),
            scope: "s".into(),
            timeout: Duration::from_secs(600),
        });
        let told = import(&CachePlace::Bucket(Arc::new(gha)), &Folders::default())
            .expect("any daemon")
            .expect("is told");
        assert_eq!(told.attrs.get("token").map(String::as_str), Some("t"));
    }

    #[test]
    fn only_folders_that_are_lent_are_there_and_only_some_are_written() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = Folders::default();
        let nothing =
            CachePlace::Folder { path: root.path().join("none"), tag: "latest".into(), digest: None };
        assert_eq!(import(&nothing, &folders).expect("is no error"), None);
        let cache = CacheExport {
            roots: vec![0],
            target: CacheTarget::Place(CachePlace::Folder {
                path: root.path().join("c"),
                tag: "latest".into(),
                digest: None,
            }),
            extent: CacheExtent::Max,
            compression: Some(Compression::Zstd { level: 3 }),
            force_compression: false,
            ignore_error: false,
            reset: false,
        };
        let told = export(&cache, &folders, root.path()).expect("is told");
        let name = told.entry.attrs["dest"].clone();
        assert_eq!(
            (told.entry.attrs["mode"].as_str(), told.entry.attrs["compression"].as_str()),
            ("max", "zstd")
        );
        assert!(!name.contains('/'), "no path of this machine is told: {name}");
        assert!(folders.incoming(&format!("local:{name}")).is_some());
        for other in [name.as_str(), "local:", "local:from-0", "local:../x"] {
            assert!(
                folders.incoming(other).is_none() && folders.blob(other, &Digest::of("x")).is_none(),
                "{other}"
            );
        }
    }
}

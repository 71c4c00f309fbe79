//! Manifests and indexes: what a name stands for, and which image of it is for a platform.
//!
//! In: references and descriptors. Out: documents with their very bytes, each proven by the digest that names it; a tag
//! is believed as far as the registry's own digest header agrees. Depth, count and size of what an index leads to
//! are bounded, and nothing is read twice.
//! Source: OCI distribution-spec, "Pulling manifests"; OCI image-index.md.

use std::collections::BTreeSet;

use rb_oci::index::{
    self, DOCKER_INDEX, DOCKER_MANIFEST, Document, INDEX_DEPTH, JSON_LIMIT_BYTES, LAYERS, MANIFESTS, closest,
    config_platform, is_index, named_platform,
};
use rb_oci::{
    Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform, Reference, Repository,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use crate::endpoint::Endpoint;
use crate::registry::pull_scope;
use crate::transport::{Ask, read_bounded};
use crate::{Registry, RegistryError};

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a reference stands for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Media type, digest and size: what pins it.
    pub descriptor: Descriptor,
    /// The document as it came.
    pub bytes: Vec<u8>,
    /// Whether that is an index or a manifest.
    pub document: Document,
}

/// An image for a platform, complete but for its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageManifests {
    /// What the reference stands for: the index, or the manifest itself. Its digest is what a user pins.
    pub root: Descriptor,
    /// Its bytes.
    pub root_bytes: Vec<u8>,
    /// The manifest's descriptor.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// Layers, lowest first, each with the digest of its uncompressed tar.
    pub layers: Vec<(Descriptor, Digest)>,
}

impl Registry {
    /// Asks what a reference stands for, and reads it: an index or a manifest of at most 4 MiB.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        let expected = reference.digest();
        self.document(reference.repository(), &reference.identifier(), expected, None, &reference.to_string())
            .await
    }

    /// Asks what a reference stands for without reading it, where the registry says so; Docker Hub does not count
    /// that as a pull. Nothing proves the answer before the bytes are read.
    pub async fn digest(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        if let Some(digest) = reference.digest() {
            return Ok(digest);
        }
        let name = reference.to_string();
        let head = |endpoint| self.head_manifest(endpoint, reference, &name);
        let sources = self.sources(reference.repository())?;
        for endpoint in &sources {
            match head(endpoint).await {
                Ok(Some(digest)) => return Ok(digest),
                Ok(None) => break,
                Err(error) if endpoint.is_mirror => self.skip_mirror(endpoint, &error),
                Err(error) => return Err(error),
            }
        }
        let resolved = self.resolve(reference).await?;
        Ok(Digest::of(&resolved.bytes))
    }

    /// Reads the manifest or index of a descriptor.
    pub async fn manifest(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Resolved, RegistryError> {
        let digest = self.digest_of(repository, descriptor)?;
        let name = format!("{repository}@{digest}");
        self.document(repository, &digest.to_string(), Some(digest), Some(descriptor.size()), &name).await
    }

    /// Finds the image for a platform: the one for that very platform before one for an older processor of its kind.
    /// A manifest that is all there is, and of which no platform is said, is what the user means.
    pub async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageManifests, RegistryError> {
        let root = self.resolve(reference).await?;
        let repository = reference.repository();
        let descriptor = match root.document {
            Document::Index => self.choose(reference, &root, platform).await?,
            Document::Manifest | Document::Schema1 => root.descriptor.clone(),
        };
        let manifest = match descriptor.digest() == root.descriptor.digest() {
            true => root.clone(),
            false => self.manifest(repository, &descriptor).await?,
        };
        let (parsed, config_bytes, config) = self.load(repository, &manifest).await?;
        let layers = parsed.layers().iter().cloned().zip(config.rootfs.diff_ids.iter().copied()).collect();
        Ok(ImageManifests {
            root: root.descriptor,
            root_bytes: root.bytes,
            descriptor: manifest.descriptor,
            manifest_bytes: manifest.bytes,
            manifest: parsed,
            config_bytes,
            config,
            layers,
        })
    }

    /// Walks an index and those in it.
    async fn choose(
        &self,
        reference: &Reference,
        root: &Resolved,
        platform: &Platform,
    ) -> Result<Descriptor, RegistryError> {
        let repository = reference.repository();
        let refused =
            |reason: &str| RegistryError::content(repository.host(), format!("index {reference}"), reason);
        let entries =
            |resolved: &Resolved| self.parse::<ImageIndex>(repository, &resolved.descriptor, &resolved.bytes);
        let mut seen = BTreeSet::from([(self.digest_of(repository, &root.descriptor)?, false, None)]);
        let mut manifests = Vec::new();
        let first = entries(root)?;
        let mut open: Vec<_> =
            first.manifests().iter().rev().map(|entry| (entry.clone(), INDEX_DEPTH - 1)).collect();
        while let Some((entry, depth)) = open.pop() {
            // What nobody can check is not for us; the others may do.
            let Ok(digest) = index::digest_of(&entry) else { continue };
            // One manifest may stand for several platforms.
            if !seen.insert((digest, entry.platform().is_some(), named_platform(&entry))) {
                continue;
            }
            if seen.len() > MANIFESTS {
                return Err(refused("it leads to more than a thousand manifests"));
            }
            if !is_index(&entry) {
                manifests.push(entry);
                continue;
            }
            if depth == 0 {
                return Err(refused("indexes lie too deep in one another"));
            }
            let inside = self.manifest(repository, &entry).await?;
            if inside.document != Document::Index {
                return Err(refused("it calls a manifest an index"));
            }
            open.extend(entries(&inside)?.manifests().iter().rev().map(|entry| (entry.clone(), depth - 1)));
        }
        if let [only] = manifests.as_slice()
            && only.platform().is_none()
        {
            return Ok(only.clone());
        }
        let mut found = Vec::new();
        for manifest in manifests {
            let platform = match manifest.platform() {
                Some(_) => named_platform(&manifest),
                None => {
                    let resolved = self.manifest(repository, &manifest).await?;
                    config_platform(&self.load(repository, &resolved).await?.2)
                }
            };
            found.extend(platform.map(|platform| (platform, manifest)));
        }
        let have = found.iter().map(|(platform, _)| platform.to_string()).collect();
        closest(platform, found).ok_or_else(|| RegistryError::Platform {
            name: reference.to_string(),
            wanted: platform.to_string(),
            have,
        })
    }

    /// Reads the config of a manifest and checks the one against the other.
    async fn load(
        &self,
        repository: &Repository,
        resolved: &Resolved,
    ) -> Result<(ImageManifest, Vec<u8>, ImageConfig), RegistryError> {
        let what = || format!("manifest {repository}@{}", resolved.descriptor.digest());
        let refused = |reason: String| Err(RegistryError::content(repository.host(), what(), reason));
        if resolved.document != Document::Manifest {
            return refused("it is an index, and a manifest was expected".to_owned());
        }
        let manifest: ImageManifest = self.parse(repository, &resolved.descriptor, &resolved.bytes)?;
        if manifest.layers().len() > LAYERS {
            return refused(format!(
                "it has {} layers, and no more than {LAYERS} can be",
                manifest.layers().len()
            ));
        }
        for layer in manifest.layers() {
            self.digest_of(repository, layer)?;
        }
        let bytes = self.small_blob(repository, manifest.config()).await?;
        let config: ImageConfig = self.parse(repository, manifest.config(), &bytes)?;
        let (layers, named) = (manifest.layers().len(), config.rootfs.diff_ids.len());
        if layers != named {
            return refused(format!("it has {layers} layers and its config names {named}"));
        }
        Ok((manifest, bytes, config))
    }

    /// Reads a blob of at most 4 MiB into memory.
    pub async fn small_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size() > JSON_LIMIT_BYTES {
            let reason = format!("{} bytes are too many for a config", descriptor.size());
            return Err(RegistryError::content(
                repository.host(),
                format!("blob {}", descriptor.digest()),
                reason,
            ));
        }
        self.blob(repository, descriptor, Vec::new()).await
    }

    fn parse<T: serde::de::DeserializeOwned>(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<T, RegistryError> {
        let what = || format!("document {repository}@{}", descriptor.digest());
        serde_json::from_slice(bytes).map_err(|error| {
            RegistryError::content(repository.host(), what(), crate::error::clean(&error.to_string()))
        })
    }

    pub(crate) fn digest_of(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Digest, RegistryError> {
        index::digest_of(descriptor).map_err(|_| {
            let text = crate::error::clean(descriptor.digest().as_ref());
            RegistryError::content(
                repository.host(),
                "descriptor",
                format!("`{text}` is not a sha256 digest"),
            )
        })
    }

    /// Asks one source after the other for a document.
    pub(crate) async fn document(
        &self,
        repository: &Repository,
        identifier: &str,
        digest: Option<Digest>,
        size: Option<u64>,
        name: &str,
    ) -> Result<Resolved, RegistryError> {
        let wanted = Wanted { identifier, digest, size, name };
        for endpoint in self.sources(repository)? {
            match self.document_at(&endpoint, repository, &wanted).await {
                Err(error) if endpoint.is_mirror => self.skip_mirror(&endpoint, &error),
                done => return done,
            }
        }
        unreachable!("the registry itself is the last of the sources and no mirror")
    }

    async fn document_at(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        wanted: &Wanted<'_>,
    ) -> Result<Resolved, RegistryError> {
        let mut tries = self.tries(endpoint);
        loop {
            match self.document_once(endpoint, repository, wanted).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    async fn document_once(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        wanted: &Wanted<'_>,
    ) -> Result<Resolved, RegistryError> {
        let response =
            self.ask_manifest(endpoint, repository, wanted.identifier, wanted.name, Method::GET).await?;
        let what = format!("manifest {}", wanted.name);
        let content_type = media_type(response.headers());
        let header = digest_header(response.headers());
        let limits = &self.limits;
        let bytes = read_bounded(response, JSON_LIMIT_BYTES, limits, &endpoint.name, &what).await?;
        let refused = |reason: String| RegistryError::content(&endpoint.name, what.clone(), reason);
        let actual = Digest::of(&bytes);
        if let Some(expected) = wanted.digest.or(header).filter(|expected| *expected != actual) {
            return Err(refused(format!("its digest is {actual}, not {expected}")));
        }
        if let Some(size) = wanted.size.filter(|size| *size != bytes.len() as u64) {
            return Err(refused(format!("it has {} bytes, and its descriptor says {size}", bytes.len())));
        }
        let document =
            Document::of(&bytes).map_err(|error| refused(crate::error::clean(&error.to_string())))?;
        if document == Document::Schema1 {
            return Err(RegistryError::Schema1 { name: wanted.name.to_owned() });
        }
        let media_type = name_media_type(document, &bytes, content_type.as_deref());
        let descriptor = Descriptor::new(media_type, bytes.len() as u64, oci_digest(actual));
        Ok(Resolved { descriptor, bytes, document })
    }

    /// Asks for the digest of a tag; none where the registry does not say.
    async fn head_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        name: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let mut tries = self.tries(endpoint);
        loop {
            let identifier = reference.identifier();
            match self.ask_manifest(endpoint, reference.repository(), &identifier, name, Method::HEAD).await {
                Ok(response) => return Ok(digest_header(response.headers())),
                // Some registries answer no HEAD.
                Err(RegistryError::Refused { status: 405, .. }) => return Ok(None),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    async fn ask_manifest(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        identifier: &str,
        name: &str,
        method: Method,
    ) -> Result<Response, RegistryError> {
        let transport = self.transport(endpoint).await?;
        let url = transport.url(repository, &format!("manifests/{identifier}"));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let scopes = [pull_scope(endpoint, repository)];
        let ask = Ask { scopes: &scopes, headers, ..Ask::new(method.clone(), url.clone(), name) };
        let response = transport.send(ask).await?;
        transport.expected(response, &method, &url, name, &[200]).await
    }
}

/// Which document.
struct Wanted<'a> {
    identifier: &'a str,
    digest: Option<Digest>,
    size: Option<u64>,
    name: &'a str,
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

pub(crate) fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

/// What the document calls itself; else what the registry calls it; else what its shape says.
fn name_media_type(document: Document, bytes: &[u8], header: Option<&str>) -> MediaType {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        media_type: Option<String>,
    }
    let named = serde_json::from_slice::<Named>(bytes).ok().and_then(|named| named.media_type);
    let (oci, docker) = match document {
        Document::Index => (MediaType::ImageIndex, DOCKER_INDEX),
        Document::Manifest | Document::Schema1 => (MediaType::ImageManifest, DOCKER_MANIFEST),
    };
    match named.as_deref().or(header) {
        Some(name) if name == docker => MediaType::Other(docker.to_owned()),
        _ => oci,
    }
}

pub(crate) fn oci_digest(digest: Digest) -> oci_spec::image::Digest {
    digest.to_string().parse().expect("a sha256 digest is one of OCI's")
}

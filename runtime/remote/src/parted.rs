//! A request whose commands are for platforms that no one node has: each root is made at a node of its own platform, and images that are of
//! several nodes are put together here.
//!
//! In: a request of a job of several nodes. Out: the same result as of one. How: roots whose commands are for the same platforms are one
//! part, a job by itself; all parts are made first, then the exports follow in their order. What is of one part is exported there. Of an
//! index each image comes here as a layout, or is pushed by its digest from where it is; the index is made here and is last.
//! **Invariant:** no name is given, and no index pushed, before all images of it are where they belong.
//! Source: buildx, which does so with `imagetools create`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;
use rb_api::{
    Annotations, Attached, CacheExport, CacheTarget, CacheWritten, Export, ExportResult, ImageFormat,
    ImageName, Job as _, LayoutPlace, Place, PlatformImage, Push, PushedImage, SolveError, SolveRequest,
    SolveResult,
};
use rb_exporters::{IndexOptions, index_document};
use rb_oci::{Descriptor, Digest, Platform, Reference};
use tempfile::TempDir;

use crate::exports::{self, STREAM, Streamed};
use crate::nodes::{NodesJob, platforms};
use crate::{ImageStore, RemoteError, layout, results};

/// Names in the index of a layout. Source: OCI image-spec annotations.md; containerd's `images`.
const TAG: &str = "org.opencontainers.image.ref.name";
const NAME: &str = "io.containerd.image.name";

/// A request in parts.
pub(crate) struct Parted<'a> {
    job: &'a NodesJob,
    request: &'a SolveRequest,
    /// Which roots belong to a part; the first may be the job itself.
    parts: Vec<(Option<Arc<NodesJob>>, Vec<usize>)>,
}

/// An image as it came of its part.
struct Image {
    platform: Platform,
    descriptor: Descriptor,
    size_bytes: u64,
}

impl<'a> Parted<'a> {
    /// Parts a request; nothing where one node may make all of it.
    pub(crate) async fn of(job: &'a NodesJob, request: &'a SolveRequest) -> Result<Option<Self>, SolveError> {
        let mut groups: BTreeMap<BTreeSet<Platform>, Vec<usize>> = BTreeMap::new();
        for (index, root) in request.roots.iter().enumerate() {
            let graph = root.definition.graph();
            let graph = graph.map_err(|error| RemoteError::answer(rb_diag::chain(&error)))?;
            groups.entry(platforms(&graph).collect()).or_default().push(index);
        }
        // What needs none is made beside the others.
        if let Some(anywhere) = groups.remove(&BTreeSet::new()) {
            match groups.values_mut().next() {
                Some(roots) => roots.extend(anywhere),
                None => return Ok(None),
            }
        }
        let all: BTreeSet<Platform> = groups.keys().flatten().cloned().collect();
        if job.is_of_one(&all).await && (groups.len() > 1 || job.lane(&all).await.is_none()) {
            return Ok(None);
        }
        let (mut parts, mut has_own) = (Vec::new(), false);
        for (wanted, mut roots) in groups {
            roots.sort_unstable();
            // One of them is the job's own: that which it is at already, or else the first.
            let own = !has_own && job.lane(&wanted).await.is_none();
            has_own |= own;
            let lane = if own { None } else { Some(job.part(&wanted).await) };
            parts.push((lane, roots));
        }
        Ok(Some(Self { job, request, parts }))
    }

    /// Makes all roots, then the exports, then the caches.
    pub(crate) async fn solve(&self) -> Result<SolveResult, SolveError> {
        self.check()?;
        let made = self.parts.iter().map(|part| self.at(part, Vec::new(), Vec::new()));
        let made = try_join_all(made).await?;
        let mut roots: BTreeMap<usize, Digest> = BTreeMap::new();
        for ((_, indexes), result) in self.parts.iter().zip(made) {
            roots.extend(indexes.iter().copied().zip(result.roots));
        }
        let (mut written, mut pushed, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for export in &self.request.exports {
            match self.of_all(&export.roots()) {
                Some(part) => {
                    let export = renumbered(export, &part.1)?;
                    let done = self.at(part, vec![export], self.inline(part)).await?;
                    written.extend(done.exports);
                    pushed.extend(done.pushed);
                    told.extend(done.caches);
                }
                None => {
                    let (result, more, caches) = self.together(export).await?;
                    written.push(result);
                    pushed.extend(more);
                    told.extend(caches);
                }
            }
        }
        // An image of several nodes has a cache of each in it, and is told once.
        told.dedup_by(|one, other| one.place == other.place);
        for cache in self.request.cache_to.iter().filter(|cache| cache.target != CacheTarget::Inline) {
            let part = self.of_all(&cache.roots).ok_or_else(RemoteError::cache_of_nodes)?;
            told.extend(self.at(part, Vec::new(), vec![of_part(cache, &part.1)]).await?.caches);
        }
        let roots = roots.into_values().collect();
        Ok(SolveResult { roots, exports: written, pushed, caches: told, summary: self.job.summary() })
    }

    /// Refuses what one daemon alone can write.
    fn check(&self) -> Result<(), RemoteError> {
        let mut caches = self.request.cache_to.iter().filter(|cache| cache.target != CacheTarget::Inline);
        if caches.any(|cache| self.of_all(&cache.roots).is_none()) {
            return Err(RemoteError::cache_of_nodes());
        }
        let is_told = |export: &Export| {
            let format = export.format().is_some_and(|format| format.attached != Attached::Nowhere);
            format && export.roots().iter().any(|root| self.request.attests.contains_key(root))
        };
        if self.request.exports.iter().any(|export| self.of_all(&export.roots()).is_none() && is_told(export))
        {
            return Err(RemoteError::statement_of_nodes());
        }
        Ok(())
    }

    /// Returns the part that all of these roots are of.
    fn of_all(&self, needs: &[usize]) -> Option<&(Option<Arc<NodesJob>>, Vec<usize>)> {
        self.parts.iter().find(|(_, roots)| needs.iter().all(|root| roots.contains(root)))
    }

    /// Returns the caches that go into images of a part.
    fn inline(&self, (_, roots): &(Option<Arc<NodesJob>>, Vec<usize>)) -> Vec<CacheExport> {
        let inline = self.request.cache_to.iter().filter(|cache| cache.target == CacheTarget::Inline);
        inline.map(|cache| of_part(cache, roots)).collect()
    }

    /// Solves the roots of one part, with these exports and caches of it.
    async fn at(
        &self,
        (lane, roots): &(Option<Arc<NodesJob>>, Vec<usize>),
        exports: Vec<Export>,
        cache_to: Vec<CacheExport>,
    ) -> Result<SolveResult, SolveError> {
        let attests = roots.iter().enumerate();
        let attests =
            attests.filter_map(|(number, root)| Some((number, self.request.attests.get(root)?.clone())));
        let request = SolveRequest {
            roots: roots.iter().filter_map(|root| self.request.roots.get(*root)).cloned().collect(),
            attests: attests.collect(),
            exports,
            cache_to,
            ..SolveRequest::default()
        };
        match lane {
            Some(lane) => Box::pin(lane.solve(request)).await,
            None => self.job.solve_at_one(&request).await,
        }
    }

    /// Writes an image whose parts are of several nodes.
    async fn together(
        &self,
        export: &Export,
    ) -> Result<(ExportResult, Vec<PushedImage>, Vec<CacheWritten>), SolveError> {
        let failed = |source| RemoteError::Disk { what: "a folder for images".to_owned(), source };
        let options = &self.job.engine.nodes.first().ok_or_else(nowhere)?.options.remote;
        crate::job::scratch(&options.scratch)?;
        let folder = tempfile::Builder::new().prefix("of-nodes-").tempdir_in(&options.scratch);
        let folder = folder.map_err(failed)?;
        let format = export.format().ok_or_else(nowhere)?;
        let each = export.images().iter().enumerate().map(|(number, image)| {
            let to = folder.path().join(number.to_string());
            self.image(export, image, to)
        });
        let (images, caches): (Vec<_>, Vec<_>) = try_join_all(each).await?.into_iter().unzip();
        let caches = caches.into_iter().flatten().collect();
        let sizes = images.iter().map(|image| image.size_bytes).sum();
        let mut platforms: Vec<Platform> = images.iter().map(|image| image.platform.clone()).collect();
        platforms.sort();
        let listed = images.into_iter().map(|image| (image.platform, image.descriptor));
        let index = IndexOptions {
            types: format.types,
            annotations: format.index_annotations.clone(),
            ..IndexOptions::default()
        };
        let (media_type, bytes) = index_document(listed, &index).map_err(RemoteError::from)?;
        let digest = Digest::of(&bytes);
        let named = serde_json::json!({
            "mediaType": media_type, "digest": digest, "size": bytes.len(),
            "annotations": format.index_descriptor_annotations,
        });
        let descriptor = serde_json::from_value(named.clone());
        let descriptor = descriptor.map_err(|error| RemoteError::answer(error.to_string()))?;
        let store = options.images.clone();
        let done = Done { folder, index: (media_type.to_string(), bytes, digest), named };
        let (names, size_bytes, destination, pushed) = match export {
            Export::Image { names, push: Some(push), .. } => {
                let store = store.ok_or_else(nowhere)?;
                let (names, pushed) = done.push(&*store, names, *push).await?;
                (names, 0, None, pushed)
            }
            Export::Image { names, .. } => {
                let store = store.ok_or_else(nowhere)?;
                let wanted = exports::image_names(names);
                let full = exports::full_names(&wanted)?;
                let archived = full.clone();
                let loaded = blocking(move || {
                    let mut archive = done.archive(&archived)?;
                    store.load(&mut archive, &wanted)
                });
                let size_bytes = loaded.await?;
                (full.iter().map(ToString::to_string).collect(), size_bytes, None, Vec::new())
            }
            Export::OciLayout { names, destination, .. } => {
                let full = exports::full_names(names)?;
                let (archived, destination) = (full.clone(), destination.clone());
                let at = blocking(move || done.write(&archived, &destination)).await?;
                (full.iter().map(ToString::to_string).collect(), sizes, Some(at), Vec::new())
            }
            Export::Local { .. } | Export::Tar { .. } => return Err(nowhere().into()),
        };
        let config = None;
        let result =
            ExportResult::Image { names, digest, descriptor, config, platforms, size_bytes, destination };
        Ok((result, pushed, caches))
    }

    /// Has one image of an index written into a folder of this machine, or pushed by its digest.
    async fn image(
        &self,
        export: &Export,
        image: &PlatformImage,
        folder: std::path::PathBuf,
    ) -> Result<(Image, Vec<CacheWritten>), SolveError> {
        let part = self.parts.iter().find(|(_, roots)| roots.contains(&image.root)).ok_or_else(nowhere)?;
        let platform = results::platform_of(image);
        let format = export.format().ok_or_else(nowhere)?;
        let own = format.of_platform.get(&platform).cloned().unwrap_or_default();
        let images = vec![image.clone()];
        let alone = alone(format, &own);
        let export = match export {
            Export::Image { names, push: Some(push), .. } => {
                let push = Some(Push { by_digest: true, ..*push });
                Export::Image { images, names: names.clone(), format: alone, push }
            }
            _ => {
                let destination = LayoutPlace::Folder(folder);
                Export::OciLayout { images, names: Vec::new(), format: alone, destination }
            }
        };
        let done = self.at(part, vec![renumbered(&export, &part.1)?], self.inline(part)).await?;
        let Some(ExportResult::Image { mut descriptor, size_bytes, .. }) = done.exports.into_iter().next()
        else {
            return Err(RemoteError::answer("no image came of an export of one").into());
        };
        let mut told = format.descriptor_annotations.clone();
        told.extend(own.descriptor);
        descriptor.set_annotations((!told.is_empty()).then(|| told.into_iter().collect()));
        Ok((Image { platform, descriptor, size_bytes }, done.caches))
    }
}

fn nowhere() -> RemoteError {
    RemoteError::answer("a result of several nodes has no place here")
}

/// Returns how one image of an index is written, which has no index itself.
fn alone(format: &ImageFormat, own: &Annotations) -> ImageFormat {
    let mut annotations = format.annotations.clone();
    annotations.extend(own.manifest.clone());
    ImageFormat {
        annotations,
        descriptor_annotations: BTreeMap::new(),
        of_platform: BTreeMap::new(),
        index_annotations: BTreeMap::new(),
        index_descriptor_annotations: BTreeMap::new(),
        index_of_one: false,
        ..format.clone()
    }
}

/// Returns an export of the roots of one part, by their numbers there.
fn renumbered(export: &Export, roots: &[usize]) -> Result<Export, SolveError> {
    let number = |root: usize| roots.iter().position(|known| *known == root).ok_or_else(nowhere);
    let mut export = export.clone();
    match &mut export {
        Export::Image { images, .. } | Export::OciLayout { images, .. } => {
            for image in images {
                image.root = number(image.root)?;
            }
        }
        Export::Local { root, .. } | Export::Tar { root, .. } => *root = number(*root)?,
    }
    Ok(export)
}

/// Returns a cache of the roots of one part, by their numbers there.
fn of_part(cache: &CacheExport, roots: &[usize]) -> CacheExport {
    let own = roots.iter().enumerate().filter(|(_, root)| cache.roots.contains(root));
    CacheExport { roots: own.map(|(number, _)| number).collect(), ..cache.clone() }
}

/// Does what waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SolveError> + Send + 'static,
) -> Result<T, SolveError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RemoteError::answer(error.to_string()))?
}

/// An index, and the layouts of its images, as far as they are here.
struct Done {
    folder: TempDir,
    index: (String, Vec<u8>, Digest),
    /// As a layout names it.
    named: serde_json::Value,
}

impl Done {
    /// Puts the index at the registries, which have the images.
    async fn push(
        self,
        store: &dyn ImageStore,
        names: &[ImageName],
        push: Push,
    ) -> Result<(Vec<String>, Vec<PushedImage>), SolveError> {
        let (media_type, bytes, digest) = self.index;
        let full = exports::full_names(&exports::image_names(names))?;
        let told = names.iter().zip(full).map(|(name, full)| {
            let by_digest = push.by_digest || matches!(name, ImageName::Digest(_));
            if by_digest { full.repository().with_digest(digest) } else { full }
        });
        let told: Vec<Reference> = told.collect();
        store.push_index(&told, &media_type, bytes).await?;
        let pushed = |name: &Reference| PushedImage {
            name: name.familiar(),
            digest,
            sent: 0,
            sent_bytes: 0,
            mounted: 0,
            existed: 0,
        };
        Ok((told.iter().map(ToString::to_string).collect(), told.iter().map(pushed).collect()))
    }

    /// Writes it where it is wanted; returns where that is.
    fn write(
        &self,
        names: &[Reference],
        destination: &LayoutPlace,
    ) -> Result<std::path::PathBuf, SolveError> {
        let mut archive = self.archive(names)?;
        let unwritten = |source| RemoteError::Export(rb_exporters::ExportError::Write(source));
        match destination {
            LayoutPlace::Folder(folder) => {
                layout::unpack(&mut archive, folder)?;
                Ok(folder.clone())
            }
            LayoutPlace::Archive(Place::File(path)) => {
                let copy = |mut file: &File| {
                    let copied = io::copy(&mut archive, &mut file);
                    copied.map(drop).map_err(rb_exporters::ExportError::Write)
                };
                // The closure is called once; it takes the archive by reference.
                let mut copy = Some(copy);
                let written = rb_exporters::write_archive(path, |file| {
                    copy.take().map_or(Ok(()), |mut copy| copy(file))
                });
                written.map_err(RemoteError::from)?;
                Ok(path.clone())
            }
            LayoutPlace::Archive(Place::Stream(stream)) => {
                io::copy(&mut archive, &mut Streamed(stream)).map_err(unwritten)?;
                Ok(STREAM.into())
            }
        }
    }

    /// Puts all into one archive.
    fn archive(&self, names: &[Reference]) -> Result<File, RemoteError> {
        let failed = |source| RemoteError::Disk { what: "an archive of images".to_owned(), source };
        let (_, index, digest) = &self.index;
        let mut entries = Vec::new();
        for name in names {
            let mut entry = self.named.clone();
            entry["annotations"][NAME] = name.to_string().into();
            if let Some(tag) = name.tag() {
                entry["annotations"][TAG] = tag.into();
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            entries.push(self.named.clone());
        }
        let top = serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        let mut blobs: BTreeMap<String, std::path::PathBuf> = BTreeMap::new();
        for layout in std::fs::read_dir(self.folder.path()).map_err(failed)? {
            let folder = layout.map_err(failed)?.path().join("blobs/sha256");
            for blob in std::fs::read_dir(folder).map_err(failed)? {
                let blob = blob.map_err(failed)?;
                blobs.insert(blob.file_name().to_string_lossy().into_owned(), blob.path());
            }
        }
        let file = tempfile::tempfile_in(self.folder.path()).map_err(failed)?;
        let mut tar = tar::Builder::new(file);
        let mut add = |path: &str, bytes: &[u8]| append(&mut tar, path, bytes.len() as u64, bytes);
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
        add("index.json", top.as_bytes()).map_err(failed)?;
        add(&format!("blobs/sha256/{}", digest.hex()), index).map_err(failed)?;
        for (name, path) in &blobs {
            self.add_blob(&mut tar, name, path).map_err(failed)?;
        }
        let mut file = tar.into_inner().map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }

    fn add_blob(&self, tar: &mut tar::Builder<File>, name: &str, path: &Path) -> io::Result<()> {
        let blob = File::open(path)?;
        let size = blob.metadata()?.len();
        append(tar, &format!("blobs/sha256/{name}"), size, blob)
    }
}

fn append(tar: &mut tar::Builder<File>, path: &str, size: u64, content: impl io::Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content)
}

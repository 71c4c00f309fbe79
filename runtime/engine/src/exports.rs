//! What a job writes once every root is made: images, files, tars.
//!
//! Exports are written in the order of the request. A failing one leaves those before it written and its own place
//! as it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use rb_api::{Export, ExportResult, ImageFormat, ImageName, LayoutPlace, Place, Stream};
use rb_exporters::{Epoch, ExportError, ImageOptions, TreeOptions};
use rb_oci::{Descriptor, Digest, ImageConfig, ImageManifest};
use rb_snapshot::{Follow, View};
use rb_store::StoreError;

use crate::error::EngineError;
use crate::images::full_name;
use crate::parts::Parts;
use crate::value::Root;

/// What results call a stream.
const STREAM: &str = "-";

/// Writes all exports of a request. Blocking.
pub(crate) fn write(
    parts: &Parts,
    exports: &[Export],
    roots: &[Root],
    epoch: Epoch,
) -> Result<Vec<ExportResult>, EngineError> {
    let write = |export| {
        if is_streamed(export) {
            return write_one(parts, export, roots, epoch);
        }
        whole(|| write_one(parts, export, roots, epoch))
    };
    exports.iter().map(write).collect()
}

fn is_streamed(export: &Export) -> bool {
    match export {
        Export::Tar { destination, .. } => matches!(destination, Place::Stream(_)),
        Export::OciLayout { destination, .. } => {
            matches!(destination, LayoutPlace::Archive(Place::Stream(_)))
        }
        Export::Image { .. } | Export::Local { .. } => false,
    }
}

/// Writes again when a blob was found to be damaged: who finds that takes it away, so that it is packed anew. The same
/// blob damaged twice is an error. What a client has read of a stream cannot be taken back.
fn whole<T>(mut write: impl FnMut() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let mut mended = BTreeSet::new();
    loop {
        match write() {
            Err(error) if damaged_blob(&error).is_some_and(|blob| mended.insert(blob)) => {
                tracing::warn!(%error, "writes an export again");
            }
            done => return done,
        }
    }
}

/// Returns the damaged blob that is behind an error.
fn damaged_blob(error: &EngineError) -> Option<Digest> {
    let store = match error {
        EngineError::Store(error) | EngineError::Export(ExportError::Store(error)) => Some(error),
        EngineError::Export(ExportError::Io { source, .. } | ExportError::Write(source)) => {
            source.get_ref().and_then(|error| error.downcast_ref::<StoreError>())
        }
        _ => None,
    };
    match store {
        Some(StoreError::CorruptBlob { expected, actual: _ }) => Some(*expected),
        _ => None,
    }
}

/// What of a root has to be here for its exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Nothing: it is not exported.
    Nothing,
    /// The layers of an image as they are. One that is pushed to where they lie could do without.
    Layers,
    /// Its files.
    Tree,
}

/// Returns what the exports need of a root.
pub(crate) fn need(exports: &[Export], index: usize) -> Need {
    let needs = exports.iter().map(|export| match export {
        Export::Image { root, format, .. } | Export::OciLayout { root, format, .. } if *root == index => {
            if format.force_compression {
                Need::Tree
            } else {
                Need::Layers
            }
        }
        Export::Local { root, .. } | Export::Tar { root, .. } if *root == index => Need::Tree,
        Export::Image { .. } | Export::OciLayout { .. } | Export::Local { .. } | Export::Tar { .. } => {
            Need::Nothing
        }
    });
    needs.max().unwrap_or(Need::Nothing)
}

fn root(roots: &[Root], index: usize) -> Result<&Root, EngineError> {
    let reason =
        || EngineError::Definition { reason: format!("an export names root {index}, which is not there") };
    roots.get(index).ok_or_else(reason)
}

/// Returns the files of a root, which were fetched because of [`Need::Tree`].
fn files(parts: &Parts, roots: &[Root], index: usize) -> Result<View, EngineError> {
    match root(roots, index)? {
        Root::Tree(tree) => Ok(parts.snapshots.view(tree.snapshot)?),
        Root::Image(image, _) => {
            let reason = format!("the files of image {} were not fetched", image.digest);
            Err(EngineError::Worker { reason })
        }
    }
}

fn write_one(
    parts: &Parts,
    export: &Export,
    roots: &[Root],
    epoch: Epoch,
) -> Result<ExportResult, EngineError> {
    match export {
        Export::Image { root: index, names, config, format, push: _ } => {
            let manifest = image(parts, root(roots, *index)?, config, format, epoch)?;
            let names: Vec<String> = names
                .iter()
                .map(|name| match name {
                    ImageName::Plain(name) => full_name(name),
                    ImageName::Digest(name) => format!("{name}@{}", manifest.digest()),
                })
                .collect();
            let now = i64::try_from(parts.store.clock().now().as_secs()).unwrap_or(i64::MAX);
            for name in &names {
                parts.store.set_image(name, &manifest, now)?;
            }
            image_result(parts, names, &manifest, None)
        }
        Export::OciLayout { root: index, names, config, format, destination } => {
            let manifest = image(parts, root(roots, *index)?, config, format, epoch)?;
            let names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
            let mut images: Vec<_> =
                names.iter().map(|name| (Some(name.clone()), manifest.clone())).collect();
            if images.is_empty() {
                images.push((None, manifest.clone()));
            }
            let written = match destination {
                LayoutPlace::Folder(path) => {
                    rb_exporters::write_oci_layout(&parts.store, &images, path)?;
                    path.clone()
                }
                LayoutPlace::Archive(Place::File(path)) => {
                    rb_exporters::write_oci_tar_file(&parts.store, &images, path)?;
                    path.clone()
                }
                LayoutPlace::Archive(Place::Stream(stream)) => {
                    rb_exporters::write_oci_tar(&parts.store, &images, &mut Streamed::new(stream))?;
                    STREAM.into()
                }
            };
            image_result(parts, names, &manifest, Some(written))
        }
        Export::Local { root: index, path, destination, into, entries, merge, optional, confine } => {
            let view = files(parts, roots, *index)?;
            let options = TreeOptions {
                within: confine.clone(),
                merge: *merge,
                precious: parts.precious.clone(),
                ..TreeOptions::default()
            };
            let path = Path::new(path);
            let found = view.lookup(path, Follow::Yes)?;
            let pieces = match path.file_name() {
                _ if *optional && found.is_none() => Vec::new(),
                _ if *entries => view.read_dir(path)?.into_keys().collect(),
                Some(name) if *into => return write_local(&view, path, destination.join(name), &options),
                _ => return write_local(&view, path, destination.clone(), &options),
            };
            let (mut written, mut total) = (0, 0);
            for name in pieces {
                let place = destination.join(&name);
                let report = rb_exporters::write_tree(&view, path.join(&name), &place, &options)?;
                written += report.written;
                total += report.written + report.unchanged;
            }
            Ok(ExportResult::Local { destination: destination.clone(), written, total })
        }
        Export::Tar { root: index, destination, epoch_seconds } => {
            let epoch = epoch_seconds.map_or(epoch, Epoch);
            let view = files(parts, roots, *index)?;
            let (destination, size_bytes) = match destination {
                Place::File(path) => (path.clone(), write_tar(&view, path, epoch)?),
                Place::Stream(stream) => {
                    let mut out = Streamed::new(stream);
                    rb_exporters::write_tar(&view, "/", Some(epoch), &mut out)?;
                    (STREAM.into(), out.written_bytes)
                }
            };
            Ok(ExportResult::Tar { destination, size_bytes })
        }
    }
}

fn write_local(
    view: &View,
    path: &Path,
    destination: PathBuf,
    options: &TreeOptions,
) -> Result<ExportResult, EngineError> {
    let report = rb_exporters::write_tree(view, path, &destination, options)?;
    Ok(ExportResult::Local { destination, written: report.written, total: report.written + report.unchanged })
}

/// What a client reads, counted.
struct Streamed<'a> {
    stream: &'a Stream,
    written_bytes: u64,
}

impl<'a> Streamed<'a> {
    fn new(stream: &'a Stream) -> Self {
        Self { stream, written_bytes: 0 }
    }
}

impl Write for Streamed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writer = self.stream.writer().lock().unwrap_or_else(PoisonError::into_inner);
        let count = writer.write(bytes)?;
        self.written_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.writer().lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Returns how the exporter is to write an image.
pub(crate) fn options(format: &ImageFormat) -> ImageOptions {
    let ImageFormat {
        compression,
        force_compression,
        types,
        epoch_seconds: _,
        annotations,
        descriptor_annotations,
    } = format;
    ImageOptions {
        compression: *compression,
        force_compression: *force_compression,
        types: *types,
        annotations: annotations.clone(),
        descriptor_annotations: descriptor_annotations.clone(),
    }
}

/// Packs a tree as an image made at `epoch`: as all times in it, that of its making must not differ from build to build.
fn image(
    parts: &Parts,
    root: &Root,
    config: &ImageConfig,
    format: &ImageFormat,
    epoch: Epoch,
) -> Result<Descriptor, EngineError> {
    let epoch = format.epoch_seconds.map_or(epoch, Epoch);
    let mut config = config.clone();
    let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch.0).unwrap_or_default());
    config.created = Some(humantime::format_rfc3339_seconds(made).to_string());
    let (store, options) = (&parts.store, options(format));
    match root {
        Root::Tree(tree) if tree.host.is_some() => Err(EngineError::HostImage),
        Root::Tree(tree) => {
            let snapshots = &parts.snapshots;
            Ok(rb_exporters::export_image(store, snapshots, tree.snapshot, &config, epoch, &options)?)
        }
        Root::Image(image, _) => Ok(rb_exporters::export_layers(store, &image.layers, &config, &options)?),
    }
}

fn image_result(
    parts: &Parts,
    names: Vec<String>,
    manifest: &Descriptor,
    destination: Option<PathBuf>,
) -> Result<ExportResult, EngineError> {
    let digest = rb_sources::layout::digest_of(manifest)?;
    let bytes = parts.store.read_blob(&digest, 4 << 20)?;
    let parsed: ImageManifest = serde_json::from_slice(&bytes)
        .map_err(|source| ExportError::Json { what: format!("manifest {digest}"), source })?;
    let layers: u64 = parsed.layers().iter().map(Descriptor::size).sum();
    Ok(ExportResult::Image {
        names,
        digest,
        descriptor: manifest.clone(),
        config: rb_sources::layout::digest_of(parsed.config())?,
        size_bytes: parsed.config().size() + layers,
        destination,
    })
}

/// Writes beside the destination and renames, so that a failing export leaves nothing half written.
fn write_tar(view: &View, destination: &Path, epoch: Epoch) -> Result<u64, EngineError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::from(ExportError::Io { action, path, source })
    };
    let mut temporary = destination.as_os_str().to_owned();
    temporary.push(".rb-part");
    let temporary = PathBuf::from(temporary);
    let file = File::create(&temporary).map_err(io("create", &temporary))?;
    let mut out = std::io::BufWriter::new(file);
    let written = rb_exporters::write_tar(view, "/", Some(epoch), &mut out)
        .map_err(|error| EngineError::from(error.in_file(destination)))
        .and_then(|()| out.into_inner().map_err(|error| error.into_error()).map_err(io("write", &temporary)))
        .and_then(|file| file.metadata().map_err(io("write", &temporary)))
        .and_then(|meta| {
            std::fs::rename(&temporary, destination).map_err(io("write", destination))?;
            Ok(meta.len())
        });
    if written.is_err() {
        // Best effort: the error that is told is the one that made the file useless.
        std::fs::remove_file(&temporary).ok();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_damaged_blob_is_mended_once() {
        let corrupt = |name: &str| {
            let (expected, actual) = (Digest::of(name), Digest::of("other"));
            StoreError::CorruptBlob { expected, actual }
        };
        let carried = |name: &str| {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidData, corrupt(name));
            ExportError::Io { action: "write", path: "/layout".into(), source }
        };
        let mut errors: Vec<EngineError> =
            vec![corrupt("a").into(), ExportError::from(corrupt("b")).into(), carried("c").into()];
        assert!(whole(|| errors.pop().map_or(Ok(()), Err)).is_ok());
        let mut calls = 0;
        let stays: Result<(), _> = whole(|| {
            calls += 1;
            Err(carried("a").into())
        });
        assert!(stays.is_err() && calls == 2);
    }
}

//! What a job writes once every root is made: images, files, tars.
//!
//! What can fail because of what is in a tree comes before anything that others see: first all images are packed and all
//! places looked at, then files are written in the order of the request, then streams, and names in the image store are given
//! last. A failing one leaves the files before it written and its own place as it was.

pub(crate) mod attest;
mod image;
mod layered;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rb_api::{
    Export, ExportResult, ImageFormat, ImageName, Layered, LayoutPlace, Place, PlatformImage, Stream,
};
use rb_exporters::{Epoch, ExportError, TreeOptions};
use rb_oci::Digest;
use rb_snapshot::{Follow, View};
use rb_store::StoreError;

use crate::error::EngineError;
use crate::images::{full_name, naming};
use crate::parts::Parts;
use crate::progress::Gauge;
use crate::value::Root;
use attest::{Attests, Named};
use image::Made;
pub(crate) use image::check;

/// What results call a stream.
const STREAM: &str = "-";

/// Who sees what an export does, in the order in which exports are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    File,
    Stream,
    Name,
}

/// Writes all exports of a request; `gauge` hears what it is at. Blocking.
pub(crate) fn write(
    parts: &Parts,
    exports: &[Export],
    roots: &[Root],
    (attests, layered): (&Attests, &BTreeMap<usize, Layered>),
    epoch: Epoch,
    gauge: &Gauge,
) -> Result<Vec<ExportResult>, EngineError> {
    let said = |place| Said { attests, layered, place };
    let prepared: Result<Vec<_>, _> = exports
        .iter()
        .enumerate()
        .map(|(place, export)| whole(|| prepare(parts, export, roots, said(place), epoch, gauge)))
        .collect();
    let mut order: Vec<_> = exports.iter().zip(prepared?).enumerate().collect();
    order.sort_by_key(|(_, (export, _))| effect(export));
    let mut results = Vec::with_capacity(order.len());
    for (place, (export, made)) in order {
        let mut made = Some(made);
        // What was packed for it stands, unless a part of it proves damaged.
        let mut write = || {
            let made = match made.take() {
                None => prepare(parts, export, roots, said(place), epoch, gauge)?,
                Some(made) => made,
            };
            write_one(parts, export, roots, epoch, made, gauge)
        };
        let result = if effect(export) == Effect::Stream { write() } else { whole(write) };
        results.push((place, result?));
    }
    results.sort_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

fn effect(export: &Export) -> Effect {
    match export {
        Export::Tar { destination: Place::Stream(_), .. }
        | Export::OciLayout { destination: LayoutPlace::Archive(Place::Stream(_)), .. } => Effect::Stream,
        Export::Tar { .. } | Export::OciLayout { .. } | Export::Local { .. } => Effect::File,
        Export::Image { .. } => Effect::Name,
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
pub(crate) fn need(exports: &[Export], layered: &BTreeMap<usize, Layered>, index: usize) -> Need {
    if layered::takes(exports, layered, index) {
        return Need::Tree;
    }
    let needs = exports.iter().map(|export| match export {
        Export::Local { root, .. } | Export::Tar { root, .. } if *root == index => Need::Tree,
        Export::Local { .. } | Export::Tar { .. } => Need::Nothing,
        Export::Image { images, format, .. } | Export::OciLayout { images, format, .. } => {
            match images.iter().any(|image| image.root == index) {
                false => Need::Nothing,
                true if matches!(export, Export::OciLayout { .. })
                    && layered::leaves_base(layered, index) =>
                {
                    Need::Nothing
                }
                true if format.force_compression => Need::Tree,
                true => Need::Layers,
            }
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

/// What is said of the roots of a request, how images of them are put together, and which of its exports this is.
#[derive(Clone, Copy)]
struct Said<'a> {
    attests: &'a Attests,
    layered: &'a BTreeMap<usize, Layered>,
    place: usize,
}

impl Said<'_> {
    /// Returns what is to lie beside files.
    fn beside(
        self,
        parts: &Parts,
        roots: &[Root],
        index: usize,
        view: &View,
    ) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
        let named = self.attests.about_files(parts, roots, index, view)?;
        let text = |Named { file, statement }| Ok((file, rb_exporters::statement_text(&statement)?));
        named.into_iter().map(text).collect()
    }
}

/// What an export needs beside its root.
#[derive(Default)]
struct Prepared {
    image: Option<Made>,
    /// Small files that lie beside those of the tree.
    beside: Vec<(String, Vec<u8>)>,
}

/// Packs the image of an export, or looks whether its files can be written.
fn prepare(
    parts: &Parts,
    export: &Export,
    roots: &[Root],
    said: Said<'_>,
    epoch: Epoch,
    gauge: &Gauge,
) -> Result<Prepared, EngineError> {
    let make = |images: &[PlatformImage], format: &ImageFormat| {
        let image = image::make(parts, images, roots, said, format, epoch, gauge)?;
        Ok(Prepared { image: Some(image), beside: Vec::new() })
    };
    let files_beside = |index: usize| -> Result<Prepared, EngineError> {
        let beside = said.beside(parts, roots, index, &files(parts, roots, index)?)?;
        Ok(Prepared { image: None, beside })
    };
    match export {
        Export::Image { images, format, .. } => make(images, format),
        Export::OciLayout { images, format, destination, .. } => {
            match destination {
                LayoutPlace::Folder(path) => rb_exporters::check_oci_layout(path)?,
                LayoutPlace::Archive(Place::File(path)) => rb_exporters::check_archive(path)?,
                LayoutPlace::Archive(Place::Stream(_)) => {}
            }
            make(images, format)
        }
        Export::Local { root: index, .. } => {
            for Piece { view, path, destination, options } in pieces(parts, export, roots)? {
                rb_exporters::check_tree(&view, path, &destination, &options)?;
            }
            files_beside(*index)
        }
        Export::Tar { root: index, destination, .. } => {
            if let Place::File(path) = destination {
                rb_exporters::check_archive(path)?;
            }
            files_beside(*index)
        }
    }
}

/// Part of a tree, and where it goes.
struct Piece {
    view: View,
    path: PathBuf,
    destination: PathBuf,
    options: TreeOptions,
}

/// Returns what a local export consists of.
fn pieces(parts: &Parts, export: &Export, roots: &[Root]) -> Result<Vec<Piece>, EngineError> {
    let Export::Local { root: index, path, destination, into, entries, merge, optional, confine, follow } =
        export
    else {
        return Ok(Vec::new());
    };
    let view = files(parts, roots, *index)?;
    let options = TreeOptions {
        within: confine.clone(),
        merge: *merge,
        precious: parts.precious.clone(),
        follow: *follow,
        ..TreeOptions::default()
    };
    let path = Path::new(path);
    let piece = |path: PathBuf, destination: PathBuf| Piece {
        view: view.clone(),
        path,
        destination,
        options: options.clone(),
    };
    if *optional && view.lookup(path, Follow::Yes)?.is_none() {
        return Ok(Vec::new());
    }
    if *entries {
        let names = view.read_dir(path)?.into_keys();
        return Ok(names.map(|name| piece(path.join(&name), destination.join(&name))).collect());
    }
    Ok(vec![match path.file_name() {
        Some(name) if *into => piece(path.to_owned(), destination.join(name)),
        Some(_) | None => piece(path.to_owned(), destination.clone()),
    }])
}

fn write_one(
    parts: &Parts,
    export: &Export,
    roots: &[Root],
    epoch: Epoch,
    Prepared { image: made, beside }: Prepared,
    gauge: &Gauge,
) -> Result<ExportResult, EngineError> {
    let begin =
        |place: &Path| gauge.begin(format!("writing {}", place.file_name().unwrap_or_default().display()));
    let made = || {
        made.ok_or_else(|| EngineError::Worker {
            reason: "an image was to be written and is not made".to_owned(),
        })
    };
    match export {
        Export::Image { names, .. } => {
            let made = made()?;
            let names: Vec<String> = names
                .iter()
                .map(|name| match name {
                    ImageName::Plain(name) => full_name(name),
                    ImageName::Digest(name) => format!("{name}@{}", made.descriptor.digest()),
                })
                .collect();
            for name in &names {
                naming::put(&parts.store, name, &made.descriptor)?;
            }
            Ok(made.result(names, None))
        }
        Export::OciLayout { names, destination, .. } => {
            let made = made()?;
            let names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
            let mut images: Vec<_> =
                names.iter().map(|name| (Some(name.clone()), made.descriptor.clone())).collect();
            if images.is_empty() {
                images.push((None, made.descriptor.clone()));
            }
            let written = match destination {
                LayoutPlace::Folder(path) => {
                    let tally = begin(path);
                    rb_exporters::write_oci_layout_without(
                        &parts.store,
                        &images,
                        &made.left_out,
                        path,
                        &tally,
                    )?;
                    path.clone()
                }
                LayoutPlace::Archive(Place::File(path)) => {
                    if !made.left_out.is_empty() {
                        return Err(archive_without_base());
                    }
                    rb_exporters::write_oci_tar_file(&parts.store, &images, path, &begin(path))?;
                    path.clone()
                }
                LayoutPlace::Archive(Place::Stream(_)) if !made.left_out.is_empty() => {
                    return Err(archive_without_base());
                }
                LayoutPlace::Archive(Place::Stream(stream)) => {
                    let tally = begin(Path::new(STREAM));
                    rb_exporters::write_oci_tar(&parts.store, &images, &mut Streamed::new(stream), &tally)?;
                    STREAM.into()
                }
            };
            Ok(made.result(names, Some(written)))
        }
        Export::Local { destination, into, entries, .. } => {
            let pieces = pieces(parts, export, roots)?;
            let (mut written, mut total) = (0, 0);
            let told = match pieces.as_slice() {
                [only] if *into && !*entries => only.destination.clone(),
                _ => destination.clone(),
            };
            let tally = begin(&told);
            for Piece { view, path, destination, options } in pieces {
                let options = TreeOptions { tally: Some(Arc::clone(&tally)), ..options };
                let report = rb_exporters::write_tree(&view, path, &destination, &options)?;
                written += report.written;
                total += report.written + report.unchanged;
            }
            for (name, bytes) in &beside {
                rb_exporters::write_beside(&told, name, bytes)?;
            }
            Ok(ExportResult::Local { destination: told, written, total })
        }
        Export::Tar { root: index, destination, epoch_seconds } => {
            let epoch = epoch_seconds.map_or(epoch, Epoch);
            let view = files(parts, roots, *index)?;
            let (destination, size_bytes) = match destination {
                Place::File(path) => {
                    (path.clone(), rb_exporters::write_tar_file(&view, epoch, &beside, path, &begin(path))?)
                }
                Place::Stream(stream) => {
                    let mut out = Streamed::new(stream);
                    let tally = begin(Path::new(STREAM));
                    rb_exporters::write_tar_with(&view, "/", Some(epoch), &beside, &mut out, &tally)?;
                    (STREAM.into(), out.written_bytes)
                }
            };
            Ok(ExportResult::Tar { destination, size_bytes })
        }
    }
}

/// Docker's loader, for which archives are, takes no image without its layers.
fn archive_without_base() -> EngineError {
    EngineError::Image {
        what: "an archive".to_owned(),
        reason: "holds all layers of its images".to_owned(),
        help: Some("write a folder, to leave those of the base out".to_owned()),
    }
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

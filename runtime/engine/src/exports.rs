//! What a job writes once every root is made: images, files, tars.
//!
//! Exports are written in the order of the request. A failing one leaves those before it written and its own place
//! as it was.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rb_api::{Export, ExportResult};
use rb_exporters::{Epoch, ExportError, TreeOptions};
use rb_oci::{Descriptor, ImageConfig, ImageManifest};
use rb_snapshot::{Follow, View};

use crate::error::EngineError;
use crate::images::full_name;
use crate::parts::Parts;
use crate::value::Tree;

/// Writes all exports of a request. Blocking.
pub(crate) fn write(
    parts: &Parts,
    exports: &[Export],
    trees: &[Tree],
    epoch: Epoch,
) -> Result<Vec<ExportResult>, EngineError> {
    exports.iter().map(|export| write_one(parts, export, trees, epoch)).collect()
}

fn root(trees: &[Tree], index: usize) -> Result<&Tree, EngineError> {
    let reason =
        || EngineError::Definition { reason: format!("an export names root {index}, which is not there") };
    trees.get(index).ok_or_else(reason)
}

fn write_one(
    parts: &Parts,
    export: &Export,
    trees: &[Tree],
    epoch: Epoch,
) -> Result<ExportResult, EngineError> {
    match export {
        Export::Image { root: index, names, config } => {
            let manifest = image(parts, root(trees, *index)?, config, epoch)?;
            let names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
            let now = i64::try_from(parts.store.clock().now().as_secs()).unwrap_or(i64::MAX);
            for name in &names {
                parts.store.set_image(name, &manifest, now)?;
            }
            image_result(parts, names, &manifest, None)
        }
        Export::OciLayout { root: index, name, config, destination, tar } => {
            let manifest = image(parts, root(trees, *index)?, config, epoch)?;
            let name = name.as_deref().map(full_name);
            let images = [(name.clone(), manifest.clone())];
            if *tar {
                rb_exporters::write_oci_tar_file(&parts.store, &images, destination)?;
            } else {
                rb_exporters::write_oci_layout(&parts.store, &images, destination)?;
            }
            image_result(parts, name.into_iter().collect(), &manifest, Some(destination.clone()))
        }
        Export::Local { root: index, path, destination, into, entries, merge, optional, confine } => {
            let view = parts.snapshots.view(root(trees, *index)?.snapshot)?;
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
        Export::Tar { root: index, destination } => {
            let view = parts.snapshots.view(root(trees, *index)?.snapshot)?;
            let size_bytes = write_tar(&view, destination, epoch)?;
            Ok(ExportResult::Tar { destination: destination.clone(), size_bytes })
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

/// Packs a tree as an image made at `epoch`: as all times in it, that of its making must not differ from build to build.
fn image(parts: &Parts, tree: &Tree, config: &ImageConfig, epoch: Epoch) -> Result<Descriptor, EngineError> {
    if tree.host.is_some() {
        return Err(EngineError::HostImage);
    }
    let annotations = std::collections::BTreeMap::new();
    let mut config = config.clone();
    let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch.0).unwrap_or_default());
    config.created = Some(humantime::format_rfc3339_seconds(made).to_string());
    Ok(rb_exporters::export_image(
        &parts.store,
        &parts.snapshots,
        tree.snapshot,
        &config,
        epoch,
        &annotations,
    )?)
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
    Ok(ExportResult::Image { names, digest, size_bytes: parsed.config().size() + layers, destination })
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
        .map_err(EngineError::from)
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

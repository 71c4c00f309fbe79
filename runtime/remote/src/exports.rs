//! What a job writes: each export is a build of its own at the daemon, of trees that it has made by then.
//!
//! An image is pushed by the daemon, or comes back as an archive into the image store of this machine. Part of a tree comes back as files,
//! of which only those that the export needs are sent. An archive goes where the user wants it as it comes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_api::{
    Annotations, Attached, Export, ExportResult, ImageFormat, ImageName, LayoutPlace, Place, PlatformImage,
    Push, PushedImage, SolveError, Stream,
};
use rb_diag::ErrorKind;
use rb_exporters::{Precious, TreeOptions};
use rb_oci::{Compression, Descriptor, Digest, MediaTypes, Platform, Reference};
use rb_snapshot::View;
use rb_wire::control::Exporter;

use crate::error::RemoteError;
use crate::receive::{self, Part, Pieces};
use crate::session::Exchange;
use crate::{ImageStore, layout, results};

/// What results call a stream.
pub(crate) const STREAM: &str = "-";

/// What exports need beside themselves.
pub(crate) struct Here<'a> {
    /// Where files are received.
    pub(crate) scratch: &'a Path,
    /// Directories that are not replaced.
    pub(crate) precious: &'a Precious,
    /// Where images go that are not pushed.
    pub(crate) images: Option<&'a Arc<dyn ImageStore>>,
    /// Latest time that is shown.
    pub(crate) epoch_seconds: i64,
}

/// What came of one export.
pub(crate) struct Written {
    pub(crate) result: ExportResult,
    pub(crate) pushed: Vec<PushedImage>,
}

pub(crate) fn input(message: impl Into<String>, help: &str) -> SolveError {
    SolveError::Job { kind: ErrorKind::Input, message: message.into(), help: Some(help.to_owned()) }
}

/// Returns the names of an image, whole.
pub(crate) fn full_names(names: &[String]) -> Result<Vec<Reference>, SolveError> {
    let parse = |name: &String| {
        name.parse::<Reference>().map_err(|error| {
            input(error.to_string(), "write `registry/name:tag`, such as `ghcr.io/me/app:1`")
        })
    };
    names.iter().map(parse).collect()
}

pub(crate) fn image_names(names: &[ImageName]) -> Vec<String> {
    let name = |name: &ImageName| match name {
        ImageName::Plain(name) | ImageName::Digest(name) => name.clone(),
    };
    names.iter().map(name).collect()
}

/// Says to the daemon what is to be written, and refuses what this machine could not take. `is_said` says that something is said of
/// the image beside it, which makes an index of it.
pub(crate) fn exporter(export: &Export, here: &Here<'_>, is_said: bool) -> Result<Exporter, SolveError> {
    let epoch = |own: &Option<i64>| own.unwrap_or(here.epoch_seconds).to_string();
    let mut attrs = BTreeMap::new();
    let kind = match export {
        Export::Local { .. } => "local",
        Export::Tar { epoch_seconds, destination, .. } => {
            if let Place::File(path) = destination {
                rb_exporters::check_archive(path).map_err(RemoteError::from)?;
            }
            attrs.insert("source-date-epoch".to_owned(), epoch(epoch_seconds));
            "tar"
        }
        Export::Image { images, names, format, push } => {
            image_attrs(&mut attrs, images, format, &epoch(&format.epoch_seconds));
            let named = image_names(names);
            attrs.insert("name".to_owned(), joined(&named, push.as_ref())?);
            match push {
                Some(push) => {
                    attrs.insert("push".to_owned(), "true".to_owned());
                    if push.by_digest {
                        attrs.insert("push-by-digest".to_owned(), "true".to_owned());
                        attrs.insert("name-canonical".to_owned(), "true".to_owned());
                    }
                    "image"
                }
                None if here.images.is_none() => {
                    let help = "push it (`--push`), or write it as an archive (`-o type=oci,dest=FILE`)";
                    return Err(input("an image of an engine elsewhere has no store to go to", help));
                }
                None => "oci",
            }
        }
        Export::OciLayout { images, names, format, destination } => {
            match destination {
                LayoutPlace::Folder(path) => rb_exporters::check_oci_layout(path),
                LayoutPlace::Archive(Place::File(path)) => rb_exporters::check_archive(path),
                LayoutPlace::Archive(Place::Stream(_)) => Ok(()),
            }
            .map_err(RemoteError::from)?;
            image_attrs(&mut attrs, images, format, &epoch(&format.epoch_seconds));
            attrs.insert("name".to_owned(), joined(names, None)?);
            // Docker's loader wants its own list beside the index, which there is for one platform only.
            if images.len() == 1 && !is_said { "docker" } else { "oci" }
        }
    };
    Ok(Exporter { r#type: kind.to_owned(), attrs })
}

fn joined(names: &[String], push: Option<&Push>) -> Result<String, SolveError> {
    let by_digest = push.is_some_and(|push| push.by_digest);
    let text = |name: &Reference| if by_digest { name.repository().to_string() } else { name.to_string() };
    Ok(full_names(names)?.iter().map(text).collect::<Vec<_>>().join(","))
}

fn image_attrs(
    attrs: &mut BTreeMap<String, String>,
    images: &[PlatformImage],
    format: &ImageFormat,
    epoch: &str,
) {
    let ImageFormat {
        compression,
        force_compression,
        types,
        epoch_seconds: _,
        annotations,
        descriptor_annotations,
        index_annotations,
        index_descriptor_annotations,
        of_platform,
        index_of_one,
        attached,
    } = format;
    let mut set = |name: &str, value: String| attrs.insert(name.to_owned(), value);
    if *attached == Attached::Artifact {
        set("oci-artifact", "true".to_owned());
    }
    let (name, level) = match compression {
        Compression::Uncompressed => ("uncompressed", None),
        Compression::Gzip { level } => ("gzip", Some(level)),
        Compression::Zstd { level } => ("zstd", Some(level)),
    };
    set("compression", name.to_owned());
    if let Some(level) = level {
        set("compression-level", level.to_string());
    }
    if *force_compression {
        set("force-compression", "true".to_owned());
    }
    set("oci-mediatypes", (*types == MediaTypes::Oci).to_string());
    set("source-date-epoch", epoch.to_owned());
    set("rewrite-timestamp", "true".to_owned());
    let index = [
        ("annotation-index.", index_annotations),
        ("annotation-index-descriptor.", index_descriptor_annotations),
    ];
    let manifest =
        [("annotation-manifest.", annotations), ("annotation-manifest-descriptor.", descriptor_annotations)];
    for (platform, Annotations { manifest, descriptor }) in of_platform {
        for (key, value) in manifest {
            set(&format!("annotation-manifest[{platform}].{key}"), value.clone());
        }
        for (key, value) in descriptor {
            set(&format!("annotation-manifest-descriptor[{platform}].{key}"), value.clone());
        }
    }
    for (prefix, texts) in
        manifest.into_iter().chain(index.into_iter().filter(|_| images.len() > 1 || *index_of_one))
    {
        for (key, value) in texts {
            set(&format!("{prefix}{key}"), value.clone());
        }
    }
}

/// What this machine got of an export.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Taken {
    /// Files: there is no more to it.
    Files(ExportResult),
    /// The bytes of an image, none of one that the daemon pushes; what it is the daemon tells.
    Image { size_bytes: u64, destination: Option<PathBuf> },
}

/// Takes what the daemon sends of an export.
pub(crate) async fn take(
    export: &Export,
    here: &Here<'_>,
    mut streams: Streams,
) -> Result<Taken, SolveError> {
    if matches!(export, Export::Image { push: Some(_), .. }) {
        return Ok(Taken::Image { size_bytes: 0, destination: None });
    }
    let Some(exchange) = streams.recv().await else {
        return Err(RemoteError::answer("the build ended, and nothing was sent of its result").into());
    };
    taken(export, here, exchange).await
}

/// The streams of one export.
pub(crate) type Streams = tokio::sync::mpsc::Receiver<Exchange>;

async fn taken(export: &Export, here: &Here<'_>, exchange: Exchange) -> Result<Taken, SolveError> {
    match export {
        Export::Local { .. } => local(export, here, exchange).await.map(Taken::Files),
        Export::Tar { destination, .. } => {
            let (destination, size_bytes) = archive(exchange, destination).await?;
            Ok(Taken::Files(ExportResult::Tar { destination, size_bytes }))
        }
        Export::OciLayout { destination: LayoutPlace::Archive(destination), .. } => {
            let (destination, size_bytes) = archive(exchange, destination).await?;
            Ok(Taken::Image { size_bytes, destination: Some(destination) })
        }
        Export::OciLayout { destination: LayoutPlace::Folder(folder), .. } => {
            let at = folder.clone();
            let size_bytes = receive::archive(exchange, move |pieces| {
                let size_bytes = layout::unpack(pieces, &at)?;
                rest(pieces).map(|()| size_bytes)
            });
            Ok(Taken::Image { size_bytes: size_bytes.await?, destination: Some(folder.clone()) })
        }
        Export::Image { names, .. } => {
            let Some(images) = here.images.map(Arc::clone) else {
                return Err(RemoteError::answer("an image came that has no place").into());
            };
            let names = image_names(names);
            let loaded = receive::archive(exchange, move |pieces| {
                let size_bytes = images.load(pieces, &names);
                rest(pieces)?;
                Ok(size_bytes)
            });
            Ok(Taken::Image { size_bytes: loaded.await??, destination: None })
        }
    }
}

/// Reads what an archive has behind its end, so that the daemon is done.
fn rest(pieces: &mut Pieces) -> Result<(), RemoteError> {
    let read = pieces.copy_to(&mut std::io::sink());
    read.map(drop).map_err(|source| RemoteError::Disk { what: "an archive of the engine".to_owned(), source })
}

/// Puts together what was taken and what the daemon says of it.
pub(crate) fn described(
    export: &Export,
    taken: Taken,
    response: &BTreeMap<String, String>,
) -> Result<Written, SolveError> {
    match taken {
        Taken::Files(result) => Ok(Written { result, pushed: Vec::new() }),
        Taken::Image { size_bytes, destination } => image(export, size_bytes, destination, response),
    }
}

/// Says of an image what the daemon says of it.
fn image(
    export: &Export,
    size_bytes: u64,
    destination: Option<PathBuf>,
    response: &BTreeMap<String, String>,
) -> Result<Written, SolveError> {
    let text = |key: &str| {
        let missing = || RemoteError::answer(format!("it does not tell the image's `{key}`"));
        response.get(key).ok_or_else(missing)
    };
    let wrong = |key: &str| RemoteError::answer(format!("the image's `{key}` is none"));
    let digest: Digest =
        text("containerimage.digest")?.parse().map_err(|_| wrong("containerimage.digest"))?;
    let key = "containerimage.descriptor";
    let descriptor = STANDARD.decode(text(key)?).map_err(|_| wrong(key))?;
    let descriptor: Descriptor = serde_json::from_slice(&descriptor).map_err(|_| wrong(key))?;
    let config = response.get("containerimage.config.digest").and_then(|text| text.parse().ok());
    let mut platforms: Vec<Platform> =
        export.images().iter().filter(|_| export.images().len() > 1).map(results::platform_of).collect();
    platforms.sort();
    let (mut names, mut pushed) = (Vec::new(), Vec::new());
    match export {
        Export::Image { names: wanted, push, .. } => {
            for (name, reference) in wanted.iter().zip(full_names(&image_names(wanted))?) {
                let by_digest =
                    matches!(name, ImageName::Digest(_)) || push.is_some_and(|push| push.by_digest);
                let told = if by_digest { reference.repository().with_digest(digest) } else { reference };
                if push.is_some() {
                    let (sent, sent_bytes, mounted, existed) = (0, 0, 0, 0);
                    pushed.push(PushedImage {
                        name: told.familiar(),
                        digest,
                        sent,
                        sent_bytes,
                        mounted,
                        existed,
                    });
                }
                names.push(told.to_string());
            }
        }
        Export::OciLayout { names: wanted, .. } => {
            names.extend(full_names(wanted)?.iter().map(ToString::to_string));
        }
        Export::Local { .. } | Export::Tar { .. } => {}
    }
    let result =
        ExportResult::Image { names, digest, descriptor, config, platforms, size_bytes, destination };
    Ok(Written { result, pushed })
}

async fn archive(exchange: Exchange, destination: &Place) -> Result<(PathBuf, u64), SolveError> {
    match destination {
        Place::File(path) => {
            let at = path.clone();
            let written = receive::archive(exchange, move |pieces| {
                let write = |mut file: &std::fs::File| {
                    pieces.copy_to(&mut file).map(drop).map_err(rb_exporters::ExportError::Write)
                };
                Ok(rb_exporters::write_archive(&at, write)?)
            });
            Ok((path.clone(), written.await?))
        }
        Place::Stream(stream) => {
            let stream = stream.clone();
            let written = receive::archive(exchange, move |pieces| {
                let copied = pieces.copy_to(&mut Streamed(&stream));
                copied.map_err(|source| RemoteError::Export(rb_exporters::ExportError::Write(source)))
            });
            Ok((STREAM.into(), written.await?))
        }
    }
}

/// What a client reads; it is locked for a piece only.
pub(crate) struct Streamed<'a>(pub(crate) &'a Stream);

impl Write for Streamed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.writer().lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.writer().lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

async fn local(export: &Export, here: &Here<'_>, exchange: Exchange) -> Result<ExportResult, SolveError> {
    let Export::Local { path, optional, .. } = export else {
        return Err(RemoteError::answer("files came that nobody wants").into());
    };
    let disk = |source| RemoteError::Disk { what: "a folder for what comes back".to_owned(), source };
    let folder = tempfile::Builder::new().prefix("from-engine-").tempdir_in(here.scratch).map_err(disk)?;
    let is_there = receive::tree(exchange, folder.path(), Part { path, optional: *optional }).await?;
    let (export, precious) = (export.clone(), here.precious.clone());
    let put = tokio::task::spawn_blocking(move || {
        let put = put(&export, &precious, folder.path(), is_there);
        drop(folder);
        put
    });
    Ok(put.await.map_err(|error| RemoteError::answer(error.to_string()))??)
}

/// Puts what was received to its here.
fn put(
    export: &Export,
    precious: &Precious,
    folder: &Path,
    is_there: bool,
) -> Result<ExportResult, RemoteError> {
    let Export::Local { root: _, path, destination, into, entries, merge, optional: _, confine, follow } =
        export
    else {
        return Err(RemoteError::answer("files came that nobody wants"));
    };
    let options = TreeOptions {
        within: confine.clone(),
        merge: *merge,
        precious: precious.clone(),
        follow: *follow,
        ..TreeOptions::default()
    };
    let (view, path) = (View::of_directory(folder), Path::new(path));
    let mut pieces = Vec::new();
    let mut told = destination.clone();
    if !is_there {
        return Ok(ExportResult::Local { destination: told, written: 0, total: 0 });
    }
    if *entries {
        let names = view.read_dir(path).map_err(rb_exporters::ExportError::from)?.into_keys();
        pieces.extend(names.map(|name| (path.join(&name), destination.join(&name))));
    } else {
        match path.file_name() {
            Some(name) if *into => {
                told = destination.join(name);
                pieces.push((path.to_owned(), told.clone()));
            }
            Some(_) | None => pieces.push((path.to_owned(), destination.clone())),
        }
    }
    for (path, destination) in &pieces {
        rb_exporters::check_tree(&view, path, destination, &options)?;
    }
    let (mut written, mut total) = (0, 0);
    for (path, destination) in &pieces {
        let report = rb_exporters::write_tree(&view, path, destination, &options)?;
        written += report.written;
        total += report.written + report.unchanged;
    }
    Ok(ExportResult::Local { destination: told, written, total })
}

//! Modules: found by the words that say where they are, and packed into layers.
//!
//! In: a locator, such as a path, a URL or the name of an image. Out: a [`PackedModule`] and what its package holds beside it;
//! layers of them. Files of strangers are read through `rb_sources::packed`, which refuses what leads out.
//! Source: pack's downloader of buildpacks; distribution spec, "Buildpackage".

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rb_buildpacks::builder::Buildpackage;
use rb_buildpacks::distribution::{Descriptor, Locator, LocatorError};
use rb_buildpacks::{ModuleKey, ModuleKind};
use rb_engine::{EngineError, ImageDetails};
use rb_exporters::{ExportError, GoEntry, GoKind, GoTar};
use rb_llb::State;
use rb_oci::{Digest, Platform};
use rb_sources::packed::{self, PackedError, PackedKind};

use super::super::run::Shown;
use super::super::scratch::Scratch;
use super::super::workbench::Workbench;
use super::images::Images;
use super::registry;
use crate::report::Failure;
use crate::settings::Settings;
use crate::world::read_regular;

/// Largest file that describes a module.
const FILE_BYTES: u64 = 1 << 20;
/// Largest file of the web that holds modules or a lifecycle.
const DOWNLOAD_BYTES: u64 = 8 << 30;

/// A module, and where its files are.
#[derive(Clone, Debug)]
pub(super) struct PackedModule {
    /// What it is.
    pub(super) descriptor: Descriptor,
    /// Where its files are.
    pub(super) content: Content,
}

/// Where files are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A packed folder.
    Archive(PathBuf),
    /// A layer of a package, which holds the module at its place.
    Layer {
        /// As it is stored.
        layer: Box<rb_oci::Descriptor>,
        /// Digest of its tar.
        diff_id: Digest,
    },
}

/// Finds modules.
pub(super) struct Finder<'a> {
    pub(super) bench: &'a Workbench,
    pub(super) images: Images<'a>,
    /// Where relative paths begin.
    pub(super) base: &'a Path,
    /// What images are for.
    pub(super) platform: &'a Platform,
    /// What was downloaded.
    pub(super) scratch: &'a Scratch,
    pub(super) settings: &'a Settings,
    /// The files of a registry of buildpacks.
    pub(super) registry: Option<&'a State>,
}

impl Finder<'_> {
    /// Finds a module and what its package holds beside it.
    pub(super) fn module(
        &self,
        kind: ModuleKind,
        uri: &str,
        image: &str,
    ) -> Result<(PackedModule, Vec<PackedModule>), Failure> {
        let locator = match (uri, image) {
            ("", image) => Locator::Image(image.to_owned()),
            (uri, _) => self.locator(uri)?,
        };
        match locator {
            Locator::Path(path) => self.of_path(kind, &self.base.join(path)),
            Locator::Web(url) => self.of_path(kind, &self.download(&url)?),
            Locator::Image(name) => self.of_image(kind, &name),
            Locator::Registered { id, version } => {
                self.of_image(kind, &self.registered(&id, version.as_deref())?)
            }
            Locator::Builder { .. } | Locator::FromBuilder => {
                let message = format!("`{uri}` is a module of a builder, and there is none to take it from");
                Err(Failure::input(message, None))
            }
        }
    }

    /// Returns the name of the image that a package is: what a word names, or what the registry has by an id.
    pub(super) fn image(&self, word: &str) -> Result<String, Failure> {
        match self.locator(word)? {
            Locator::Image(name) => Ok(name),
            Locator::Registered { id, version } => self.registered(&id, version.as_deref()),
            Locator::Path(_) | Locator::Web(_) | Locator::Builder { .. } | Locator::FromBuilder => {
                let help = "write docker://IMAGE, or urn:cnb:registry:ID[@VERSION]".to_owned();
                Err(Failure::input(format!("`{word}` is no image"), Some(help)))
            }
        }
    }

    fn of_image(&self, kind: ModuleKind, name: &str) -> Result<(PackedModule, Vec<PackedModule>), Failure> {
        let details = self.bench.run(self.images.take(name, self.platform))?;
        of_package(kind, name, &details)
    }

    /// Returns the image that an id of the registry stands for.
    fn registered(&self, id: &str, version: Option<&str>) -> Result<String, Failure> {
        let message = || Failure::input("no registry of buildpacks is known here", None);
        let files = self.registry.ok_or_else(message)?;
        registry::image_of(self.settings, self.bench, files, (id, version))
    }

    /// Finds a folder, a packed one, or the layer of an image that a lifecycle is in.
    pub(super) fn content(&self, uri: &str) -> Result<Content, Failure> {
        match self.locator(uri)? {
            Locator::Path(path) => content_of(&self.base.join(path)),
            Locator::Web(url) => content_of(&self.download(&url)?),
            Locator::Image(name) => {
                let details = self.bench.run(self.images.take(&name, self.platform))?;
                let layer = details.layers.last().cloned();
                match layer.zip(details.config.rootfs.diff_ids.last().copied()) {
                    Some((layer, diff_id)) => Ok(Content::Layer { layer: Box::new(layer), diff_id }),
                    None => Err(Failure::input(format!("`{name}` has no layer"), None)),
                }
            }
            Locator::Builder { .. } | Locator::FromBuilder | Locator::Registered { .. } => {
                Err(Failure::input(format!("`{uri}` is no place of a lifecycle"), None))
            }
        }
    }

    fn locator(&self, uri: &str) -> Result<Locator, Failure> {
        let is_there = |path: &str| self.base.join(path).exists();
        let found = Locator::parse(uri, &is_there, &|_, _| false, self.registry.is_some());
        found.map_err(|error| {
            let help = match &error {
                LocatorError::NoRegistry(_) => "`rb pack config registries add NAME URL --default` adds one",
                LocatorError::Unknown(_) => {
                    "write a path, a .tgz or .cnb, http(s)://, file://, docker://IMAGE or urn:cnb:registry:ID[@VERSION]"
                }
            };
            Failure::input(error.to_string(), Some(help.to_owned()))
        })
    }

    fn of_path(&self, kind: ModuleKind, path: &Path) -> Result<(PackedModule, Vec<PackedModule>), Failure> {
        let content = content_of(path)?;
        let found = match &content {
            Content::Folder(folder) => Described::of_folder(kind, folder)?,
            _ => Described::of_archive(kind, path)?,
        };
        if found.is_layout {
            let package = self.bench.engine.take_package(path.to_owned(), self.platform);
            let details = self.bench.run(async { Ok(package.await?) })?;
            return of_package(kind, &path.display().to_string(), &details);
        }
        let descriptor = found.read(kind, path)?;
        Ok((PackedModule { descriptor, content }, Vec::new()))
    }

    pub(super) fn download(&self, url: &str) -> Result<PathBuf, Failure> {
        let path = self.scratch.path().join(Digest::of(url).hex());
        if path.exists() {
            return Ok(path);
        }
        let file = File::create(&path);
        let file = file.map_err(|error| Failure::environment("a download cannot be kept", &error))?;
        let shown = Shown::default();
        let events = shown.sink(self.settings.display, "pack");
        let engine = &self.bench.engine;
        let got = self.bench.run(async { Ok(engine.download(url, file, DOWNLOAD_BYTES, &events).await?) });
        shown.finish();
        if got.is_err() {
            // Half of it is nothing to anybody, and the folder goes anyway.
            drop(fs::remove_file(&path));
        }
        got.map(|_| path)
    }
}

fn content_of(path: &Path) -> Result<Content, Failure> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Content::Folder(path.to_owned())),
        Ok(metadata) if metadata.is_file() => Ok(Content::Archive(path.to_owned())),
        Ok(_) => Err(Failure::input(format!("`{}` is neither file nor folder", path.display()), None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::input(format!("`{}` does not exist", path.display()), None))
        }
        Err(error) => Err(unread(path, &error)),
    }
}

fn unread(path: &Path, error: &io::Error) -> Failure {
    Failure::environment(&format!("cannot read `{}`", path.display()), error)
}

/// What says which module a folder holds.
#[derive(Default)]
struct Described {
    /// Its file.
    text: Option<Vec<u8>>,
    /// Names in its `bin`.
    programs: BTreeSet<String>,
    /// It is an image.
    is_layout: bool,
}

fn file_of(kind: ModuleKind) -> String {
    format!("{kind}.toml")
}

impl Described {
    fn of_folder(kind: ModuleKind, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(file_of(kind));
        let text = match path.exists() {
            true => Some(read_regular(&path, FILE_BYTES).map_err(|error| {
                Failure::input(format!("`{}` {}", path.display(), rb_diag::chain(&error)), None)
            })?),
            false => None,
        };
        let mut programs = BTreeSet::new();
        let bin = folder.join("bin");
        match fs::read_dir(&bin) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry.map_err(|error| unread(&bin, &error))?;
                    programs.insert(entry.file_name().to_string_lossy().into_owned());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unread(&bin, &error)),
        }
        Ok(Self { text, programs, is_layout: false })
    }

    fn of_archive(kind: ModuleKind, path: &Path) -> Result<Self, Failure> {
        let name = file_of(kind);
        let mut found = Self::default();
        each_of_archive(path, &mut |entry, content| {
            if entry.path.as_os_str() == name.as_str() {
                let mut text = Vec::new();
                content.take(FILE_BYTES + 1).read_to_end(&mut text)?;
                found.text = Some(text);
            } else if entry.path.as_os_str() == "oci-layout" {
                found.is_layout = true;
            } else if entry.path.parent() == Some(Path::new("bin"))
                && let Some(name) = entry.path.file_name()
            {
                found.programs.insert(name.to_string_lossy().into_owned());
            }
            Ok::<_, io::Error>(())
        })?;
        Ok(found)
    }

    fn read(&self, kind: ModuleKind, path: &Path) -> Result<Descriptor, Failure> {
        let Some(text) = &self.text else {
            let message = format!("`{}` holds no {}", path.display(), file_of(kind));
            return Err(Failure::input(message, None));
        };
        let read = Descriptor::read(kind, text, &self.programs);
        read.map_err(|error| Failure::input(format!("{}: {}", path.display(), rb_diag::chain(&error)), None))
    }
}

fn each_of_archive<E: Into<EntryError>>(
    path: &Path,
    each: &mut dyn FnMut(&packed::PackedEntry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    packed::entries(file, each).map_err(|error| failed(&path.display().to_string(), error))
}

/// What may go wrong with an entry.
#[derive(Debug)]
pub(super) enum EntryError {
    /// It cannot be read.
    Read(io::Error),
    /// It cannot be written.
    Write(ExportError),
    /// It is refused.
    Refused(String),
}

impl From<io::Error> for EntryError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<ExportError> for EntryError {
    fn from(error: ExportError) -> Self {
        Self::Write(error)
    }
}

fn failed<E: Into<EntryError>>(name: &str, error: PackedError<E>) -> Failure {
    match error {
        PackedError::Source(error) => Failure::input(format!("`{name}`: {}", rb_diag::chain(&error)), None),
        PackedError::Taken(error) => told(name, error.into()),
    }
}

fn told(name: &str, error: EntryError) -> Failure {
    match error {
        EntryError::Read(error) => Failure::environment(&format!("cannot read `{name}`"), &error),
        EntryError::Write(error) => EngineError::from(error).into(),
        EntryError::Refused(reason) => Failure::input(format!("`{name}`: {reason}"), None),
    }
}

/// Takes the modules of a package.
fn of_package(
    kind: ModuleKind,
    name: &str,
    details: &ImageDetails,
) -> Result<(PackedModule, Vec<PackedModule>), Failure> {
    let wrong = |reason: String| Failure::input(format!("`{name}`: {reason}"), None);
    let package = Buildpackage::of_image(&details.config).map_err(|error| wrong(rb_diag::chain(&error)))?;
    let main = ModuleKey { kind, id: package.info.id.clone(), version: package.info.version.clone() };
    let (mut own, mut others) = (None, Vec::new());
    for (key, layer) in package.modules.iter().filter(|(key, _)| key.kind == kind) {
        let at = details.config.rootfs.diff_ids.iter().position(|diff_id| *diff_id == layer.layer);
        let stored = at.and_then(|at| details.layers.get(at)).cloned();
        let stored = stored.ok_or_else(|| wrong(format!("has no layer {} of {key}", layer.layer)))?;
        let module = PackedModule {
            descriptor: Descriptor::of_layer(key, layer),
            content: Content::Layer { layer: Box::new(stored), diff_id: layer.layer },
        };
        if *key == main { own = Some(module) } else { others.push(module) }
    }
    let own = own.ok_or_else(|| wrong(format!("does not hold the {kind} {main}, which it says it is")))?;
    Ok((own, others))
}

/// Writes a module at its place: the folder of its id, unless that was written, that of its version, and its files.
pub(super) fn write_module<W: Write>(
    tar: &mut GoTar<W>,
    bench: &Workbench,
    module: &PackedModule,
    folders: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    let PackedModule { descriptor, content } = module;
    let (id_folder, folder) = (descriptor.id_folder(), descriptor.folder());
    let name = folder.clone();
    let base = Path::new(&folder);
    if let Content::Layer { layer, .. } = content {
        return copy_layer(tar, bench, layer, base, folders);
    }
    for path in [id_folder, folder.clone()] {
        if folders.insert(path.clone()) {
            let entry = GoEntry::new(path, GoKind::Directory, 0o755);
            tar.entry(&entry).map_err(|error| told(&name, error.into()))?;
        }
    }
    each(bench, content, &mut |entry, bytes| {
        if entry.path.as_os_str().is_empty() {
            return Ok(());
        }
        let mode = mode_of(&entry.path, &entry.kind, entry.mode);
        let kind = match &entry.kind {
            PackedKind::Directory => GoKind::Directory,
            PackedKind::File(size) => GoKind::File(*size),
            PackedKind::Symlink(to) => GoKind::Symlink(to.clone()),
            PackedKind::HardLink(to) => GoKind::HardLink(base.join(to)),
        };
        Ok(tar.file(&GoEntry::new(base.join(&entry.path), kind, mode), bytes)?)
    })
}

/// Permissions of a module's files: what is a program of it can be run, whatever it came with.
fn mode_of(path: &Path, kind: &PackedKind, mode: u32) -> u32 {
    let is_program = ["bin/build", "bin/detect", "bin/generate"].iter().any(|one| path == Path::new(one));
    if *kind == PackedKind::Directory || is_program || mode & 0o111 != 0 { 0o755 } else { 0o644 }
}

/// Copies one module out of a layer that may hold others, too.
fn copy_layer<W: Write>(
    tar: &mut GoTar<W>,
    bench: &Workbench,
    layer: &rb_oci::Descriptor,
    folder: &Path,
    folders: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    let content = Content::Layer { layer: Box::new(layer.clone()), diff_id: Digest::of("") };
    each(bench, &content, &mut |entry, bytes| {
        let path = Path::new("/").join(&entry.path);
        let is_own = path.starts_with(folder) || Some(path.as_path()) == folder.parent();
        let is_folder = entry.kind == PackedKind::Directory;
        if !is_own || is_folder && !folders.insert(path.display().to_string()) {
            return Ok(());
        }
        let kind = match &entry.kind {
            PackedKind::Directory => GoKind::Directory,
            PackedKind::File(size) => GoKind::File(*size),
            PackedKind::Symlink(to) => GoKind::Symlink(to.clone()),
            PackedKind::HardLink(to) => GoKind::HardLink(Path::new("/").join(to)),
        };
        Ok(tar.file(&GoEntry::new(path, kind, entry.mode), bytes)?)
    })
}

/// Reads all entries, wherever they are.
pub(super) fn each(
    bench: &Workbench,
    content: &Content,
    each: &mut dyn FnMut(&packed::PackedEntry, &mut dyn Read) -> Result<(), EntryError>,
) -> Result<(), Failure> {
    match content {
        Content::Folder(folder) => {
            let walked = walk(folder, each);
            walked.map_err(|error| told(&folder.display().to_string(), error))
        }
        Content::Archive(path) => each_of_archive(path, each),
        Content::Layer { layer, .. } => {
            let blob = bench.run(async { Ok(bench.engine.open_layer(layer).await?) })?;
            packed::entries(blob, each).map_err(|error| failed(&format!("layer {}", layer.digest()), error))
        }
    }
}

/// Reads a folder in the order of names, each folder before what is in it.
fn walk(
    folder: &Path,
    each: &mut dyn FnMut(&packed::PackedEntry, &mut dyn Read) -> Result<(), EntryError>,
) -> Result<(), EntryError> {
    let mut links: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let place = folder.join(&path);
        // The folder itself may be named by a link.
        let metadata =
            if path.as_os_str().is_empty() { fs::metadata(&place)? } else { fs::symlink_metadata(&place)? };
        let kind = metadata.file_type();
        if std::os::unix::fs::FileTypeExt::is_socket(&kind) {
            continue;
        }
        let inode = (metadata.dev(), metadata.ino());
        let kind = if kind.is_dir() {
            let mut names = fs::read_dir(&place)?
                .map(|entry| Ok(path.join(entry?.file_name())))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            open.extend(names.into_iter().rev());
            PackedKind::Directory
        } else if let Some(first) = links.get(&inode) {
            PackedKind::HardLink(first.clone())
        } else {
            if metadata.nlink() > 1 {
                links.insert(inode, path.clone());
            }
            if kind.is_symlink() {
                PackedKind::Symlink(fs::read_link(&place)?)
            } else if kind.is_file() {
                PackedKind::File(metadata.len())
            } else {
                let reason = format!("`{}` is neither file, folder nor link", path.display());
                return Err(EntryError::Refused(reason));
            }
        };
        let entry = packed::PackedEntry {
            path,
            mode: metadata.mode() & 0o7777,
            owner: (0, 0),
            modified: rb_exporters::CNB_TIME,
            kind,
        };
        match entry.kind {
            PackedKind::File(_) => each(&entry, &mut File::open(&place)?)?,
            _ => each(&entry, &mut io::empty())?,
        }
    }
    Ok(())
}

//! Layers of builders and packages.
//!
//! In: modules, texts, a lifecycle. Out: layers of the store, each with its DiffID. Layers of packages that hold nothing else are
//! taken as they are, and are not even fetched. Source: pack's builders; the bytes of equal layers are pack's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rb_buildpacks::distribution::{Descriptor, LifecycleFile, ModuleLayers, PROGRAMS};
use rb_engine::EngineError;
use rb_exporters::{ExportError, GoEntry, GoKind, GoLayer, Layer};
use rb_oci::{Digest, History};
use rb_sources::packed::PackedKind;

use super::super::workbench::Workbench;
use super::modules::{Content, EntryError, PackedModule, each, write_module};
use crate::report::Failure;

/// Where the lifecycle lies.
const LIFECYCLE: &str = "/cnb/lifecycle";
/// Largest `lifecycle.toml`.
const FILE_BYTES: u64 = 1 << 20;

/// Layers, lowest first, and what each is.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// As they are stored, with their DiffIDs.
    pub(super) all: Vec<(rb_oci::Descriptor, Digest)>,
    /// A line for each.
    pub(super) history: Vec<History>,
}

impl Layers {
    /// Adds one.
    pub(super) fn push(&mut self, layer: rb_oci::Descriptor, diff_id: Digest, what: &str) {
        self.all.push((layer, diff_id));
        self.history.push(History {
            created: Some(super::CREATED.to_owned()),
            created_by: Some(what.to_owned()),
            ..History::default()
        });
    }

    /// Adds one of entries that are in memory.
    pub(super) fn entries(
        &mut self,
        bench: &Workbench,
        entries: &[(GoEntry, &[u8])],
        what: &str,
    ) -> Result<(), Failure> {
        let packed = packed(bench, |layer| {
            let tar = layer.tar();
            entries.iter().try_for_each(|(entry, text)| {
                tar.file(entry, &mut &text[..]).map_err(|error| EngineError::from(error).into())
            })
        })?;
        self.push(packed.descriptor, packed.diff_id, what);
        Ok(())
    }

    /// Adds one of a text.
    pub(super) fn text(&mut self, bench: &Workbench, path: &str, text: &str) -> Result<(), Failure> {
        let kind = GoKind::File(text.len() as u64);
        self.entries(bench, &[(GoEntry::new(path, kind, 0o644), text.as_bytes())], path)
    }

    /// Adds a layer for each module, in the order of their names, and one for each of some sets of modules before them.
    /// Returns where each lies.
    pub(super) fn modules(
        &mut self,
        bench: &Workbench,
        modules: &[PackedModule],
        together: &[BTreeSet<String>],
    ) -> Result<ModuleLayers, Failure> {
        let mut placed = ModuleLayers::default();
        let name = |module: &PackedModule| module.descriptor.key().to_string();
        // Of two of one name the later counts.
        let all: BTreeMap<String, &PackedModule> = modules.iter().map(|one| (name(one), one)).collect();
        let mut done = BTreeSet::new();
        for set in together {
            let set: Vec<&PackedModule> = modules.iter().filter(|one| set.contains(&name(one))).collect();
            let set: Vec<&PackedModule> = set.into_iter().filter(|one| done.insert(name(one))).collect();
            if set.is_empty() {
                continue;
            }
            let mut folders = BTreeSet::new();
            let packed = packed(bench, |layer| {
                let tar = layer.tar();
                set.iter().try_for_each(|module| write_module(tar, bench, module, &mut folders))
            })?;
            let names: Vec<String> = set.iter().map(|one| name(one)).collect();
            self.push(packed.descriptor, packed.diff_id, &names.join(", "));
            for module in set {
                place(&mut placed, &module.descriptor, &packed.diff_id)?;
            }
        }
        for (name, module) in all.iter().filter(|(name, _)| !done.contains(*name)) {
            let (descriptor, diff_id) = match &module.content {
                Content::Layer { layer, diff_id } => ((**layer).clone(), *diff_id),
                Content::Folder(_) | Content::Archive(_) => {
                    let packed = packed(bench, |layer| {
                        write_module(layer.tar(), bench, module, &mut BTreeSet::new())
                    })?;
                    (packed.descriptor, packed.diff_id)
                }
            };
            place(&mut placed, &module.descriptor, &diff_id)?;
            // One that several modules share stands once.
            if self.all.iter().all(|(_, have)| *have != diff_id) {
                self.push(descriptor, diff_id, name);
            }
        }
        Ok(placed)
    }

    /// Adds the lifecycle. Returns what it says of itself.
    pub(super) fn lifecycle(
        &mut self,
        bench: &Workbench,
        content: &Content,
    ) -> Result<LifecycleFile, Failure> {
        let (mut text, mut programs) = (None, BTreeSet::new());
        let packed = packed(bench, |layer| {
            let tar = layer.tar();
            let written = |error: ExportError| -> Failure { EngineError::from(error).into() };
            tar.entry(&GoEntry::new(LIFECYCLE, GoKind::Directory, 0o755)).map_err(written)?;
            each(bench, content, &mut |entry, bytes| {
                let path = match content {
                    // An image has it at its place.
                    Content::Layer { .. } => entry.path.strip_prefix("cnb").unwrap_or(Path::new("")),
                    Content::Folder(_) | Content::Archive(_) => entry.path.as_path(),
                };
                if path == Path::new("lifecycle.toml") {
                    let mut found = Vec::new();
                    bytes.take(FILE_BYTES + 1).read_to_end(&mut found)?;
                    text = Some(found);
                    return Ok(());
                }
                let Some(own) = program_of(path) else { return Ok(()) };
                let kind = match &entry.kind {
                    PackedKind::Directory => GoKind::Directory,
                    PackedKind::File(size) => GoKind::File(*size),
                    PackedKind::Symlink(to) => GoKind::Symlink(to.clone()),
                    PackedKind::HardLink(to) => {
                        let to = to.strip_prefix("cnb").unwrap_or(to);
                        let to = program_of(to).ok_or_else(|| {
                            EntryError::Refused(format!("`{}` is a link out of it", path.display()))
                        })?;
                        GoKind::HardLink(Path::new(LIFECYCLE).join(to))
                    }
                };
                programs.insert(own.display().to_string());
                let (uid, gid) = entry.owner;
                let modified = entry.modified;
                let made =
                    GoEntry { modified, ..GoEntry::new(Path::new(LIFECYCLE).join(&own), kind, entry.mode) };
                Ok(tar.file(&made.owned(uid, gid), bytes)?)
            })?;
            let link = GoKind::Symlink(PathBuf::from(LIFECYCLE));
            tar.entry(&GoEntry::new("/lifecycle", link, 0o644)).map_err(written)
        })?;
        let wrong = |reason: String| Failure::input(format!("the lifecycle cannot be used: {reason}"), None);
        let text = text.ok_or_else(|| wrong("it has no lifecycle.toml".to_owned()))?;
        if let Some(missing) = PROGRAMS.iter().find(|program| !programs.contains(**program)) {
            return Err(wrong(format!("it has no `{missing}`")));
        }
        let file = LifecycleFile::parse(&text).map_err(|error| wrong(error.to_string()))?;
        self.push(packed.descriptor, packed.diff_id, &format!("lifecycle {}", file.version));
        Ok(file)
    }
}

/// Returns the name of a program: what lies in a folder at the top, whatever that is called.
fn program_of(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let (_, own, more) = (parts.next()?, parts.next()?, parts.next());
    more.is_none().then(|| PathBuf::from(own.as_os_str()))
}

fn place(placed: &mut ModuleLayers, module: &Descriptor, layer: &Digest) -> Result<(), Failure> {
    placed.add(module, layer).map_err(|error| Failure::input(rb_diag::chain(&error), None))
}

fn packed(
    bench: &Workbench,
    write: impl FnOnce(&mut GoLayer) -> Result<(), Failure>,
) -> Result<Layer, Failure> {
    let mut layer = GoLayer::begin(bench.engine.store()).map_err(EngineError::from)?;
    write(&mut layer)?;
    Ok(layer.finish().map_err(EngineError::from)?)
}

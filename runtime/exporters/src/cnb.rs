//! Layers as the buildpacks' lifecycle packs them: made of parts of trees, under absolute names, with one time for all.
//!
//! In: parts in the order of their entries; a key that stands for all that is in them. Out: a blob, its descriptor and its DiffID,
//! remembered under the key. A name begins with `/` and has no `/` at its end; there are no names of users, no attributes and no
//! hard links (a layer that was packed elsewhere keeps the bytes of its tar): each name of a file carries its content. The time of everything is 1980-01-01T00:00:01Z. Sockets are left out.
//! **Invariant:** equal parts give the bytes, and so the DiffID, that the lifecycle's tar has ([`GoTar`]).
//! Source: the lifecycle's layers.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;

use flate2::read::MultiGzDecoder;
use rb_oci::{Choice, Digest, LayerPart};
use rb_snapshot::{Entry, FileType, Follow, View};
use rb_store::{LayerRow, Store};

use crate::go_tar::{GoEntry, GoKind, GoTar};
use crate::layer::{Layer, Packing, settle, sink, threads};
use crate::{ExportError, Result};

/// Changes whenever the same parts would be packed into other bytes.
const PACKING: u32 = 1;
/// How large a layer may be that was packed elsewhere.
const UNPACKED_BYTES: u64 = 256 << 30;

/// Packs parts, unless that was done before under this key.
pub fn pack_parts(
    store: &Store,
    key: &Digest,
    parts: &[LayerPart<View>],
    packing: Packing<'_>,
) -> Result<Layer> {
    let how = format!("parts {key}: packing {PACKING}, {:?}", packing.compression);
    let key = Digest::of(how);
    if let Some(LayerRow { diff_id, descriptor }) = store.layer(&key)? {
        return Ok(Layer { descriptor, diff_id });
    }
    let layer = match parts {
        [LayerPart::Packed { tree, from }] => repacked(store, tree, from, packing)?,
        parts => {
            let mut written = Parts { tar: GoTar::new(sink(store, packing, threads())?) };
            parts.iter().try_for_each(|part| written.part(part))?;
            settle(written.tar.finish()?, packing)?
        }
    };
    store.put_layer(&key, &LayerRow { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() })?;
    Ok(layer)
}

/// Takes the tar of a layer that is packed already, byte for byte, and packs that as all layers are packed here.
fn repacked(store: &Store, view: &View, from: &str, packing: Packing<'_>) -> Result<Layer> {
    let entry = found(view, from, Follow::No)?;
    let mut start = Vec::new();
    let failed = |source| ExportError::Io { action: "unpack", path: from.into(), source };
    let file = view.open(&entry)?;
    (&file).take(4).read_to_end(&mut start).map_err(failed)?;
    let whole = io::Cursor::new(start.clone()).chain(file);
    let plain: Box<dyn Read> = match start.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(::zstd::Decoder::new(whole).map_err(failed)?),
        _ => Box::new(whole),
    };
    let mut out = sink(store, packing, threads())?;
    let mut plain = plain.take(UNPACKED_BYTES + 1);
    // What cannot be read is the layer's fault; what cannot be written, the store's.
    let mut buffer = vec![0; 128 << 10];
    let mut size_bytes = 0;
    loop {
        let count = plain.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        size_bytes += count as u64;
        out.write_all(&buffer[..count]).map_err(ExportError::Write)?;
    }
    if size_bytes > UNPACKED_BYTES {
        let what = "it unpacks to more than 256 GiB";
        return Err(ExportError::Unrepresentable { path: from.into(), what });
    }
    settle(out, packing)
}

/// Writes parts as entries.
struct Parts<W: Write> {
    tar: GoTar<W>,
}

impl<W: Write> Parts<W> {
    fn part(&mut self, part: &LayerPart<View>) -> Result<()> {
        match part {
            LayerPart::Folder { path, mode, owner } => {
                self.tar.entry(&GoEntry::new(path, GoKind::Directory, *mode).owned(owner.0, owner.1))
            }
            LayerPart::Link { path, target } => {
                self.tar.entry(&GoEntry::new(path, GoKind::Symlink(target.into()), 0o755))
            }
            LayerPart::Packed { from, .. } => {
                let what = "it is packed already, and is to be one of several parts";
                Err(ExportError::Unrepresentable { path: from.into(), what })
            }
            LayerPart::Stored { descriptor, .. } => {
                let what = "it is the layer of an image, which is not packed again";
                Err(ExportError::Unrepresentable { path: descriptor.digest().to_string().into(), what })
            }
            LayerPart::Text { path, owner, text } => {
                let kind = GoKind::File(text.len() as u64);
                self.tar.file(&GoEntry::new(path, kind, 0o644).owned(owner.0, owner.1), &mut text.as_bytes())
            }
            LayerPart::File { tree: view, from, to, mode } => {
                let entry = found(view, from, Follow::Yes)?;
                let kind = GoKind::File(entry.metadata.size_bytes);
                self.tar.file(&GoEntry::new(to, kind, *mode), &mut view.open(&entry)?)
            }
            LayerPart::Tree { tree: view, from, to, owner, choice } => {
                let top = found(view, from, Follow::Yes)?;
                match choice {
                    Choice::Alone => self.entry(view, &top, to.as_bytes(), *owner),
                    Choice::All => self.walk(view, &top, to.as_bytes(), *owner),
                    Choice::ByPath => {
                        let mut all = Vec::new();
                        collect(view, top, to.as_bytes().to_vec(), &mut all)?;
                        all.sort_by(|(left, _), (right, _)| left.cmp(right));
                        all.iter().try_for_each(|(name, entry)| self.entry(view, entry, name, *owner))
                    }
                    Choice::These(paths) => paths.iter().try_for_each(|path| {
                        if path.is_empty() {
                            return self.entry(view, &top, to.as_bytes(), *owner);
                        }
                        let entry = found(view, &format!("{from}/{path}"), Follow::No)?;
                        self.entry(view, &entry, format!("{to}/{path}").as_bytes(), *owner)
                    }),
                }
            }
        }
    }

    /// Writes a folder with all below it, each folder before what is in it.
    fn walk(&mut self, view: &View, entry: &Entry, name: &[u8], owner: Option<(u32, u32)>) -> Result<()> {
        // Without recursion: nothing bounds how deep a tree is.
        let mut open = vec![(name.to_vec(), entry.clone())];
        while let Some((name, entry)) = open.pop() {
            self.entry(view, &entry, &name, owner)?;
            if entry.metadata.is_directory() {
                let below = view.read_dir(&entry.path)?.into_iter().rev();
                open.extend(below.map(|(below, entry)| (join(&name, &below), entry)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, view: &View, entry: &Entry, name: &[u8], owner: Option<(u32, u32)>) -> Result<()> {
        let metadata = &entry.metadata;
        let (major, minor) = metadata.device_number;
        let kind = match metadata.file_type {
            FileType::Socket => return Ok(()),
            FileType::Directory => GoKind::Directory,
            FileType::Fifo => GoKind::Fifo,
            FileType::CharDevice => GoKind::CharDevice(major, minor),
            FileType::BlockDevice => GoKind::BlockDevice(major, minor),
            FileType::Symlink => GoKind::Symlink(view.read_link(entry)?),
            FileType::File => GoKind::File(metadata.size_bytes),
        };
        let (uid, gid) = owner.unwrap_or((metadata.uid, metadata.gid));
        let is_file = matches!(kind, GoKind::File(_));
        let node = GoEntry::new(OsStr::from_bytes(name), kind, metadata.mode & 0o7777).owned(uid, gid);
        if is_file { self.tar.file(&node, &mut view.open(entry)?) } else { self.tar.entry(&node) }
    }
}

fn found(view: &View, path: &str, follow: Follow) -> Result<Entry> {
    view.lookup(path, follow)?.ok_or_else(|| ExportError::NotFound(path.into()))
}

fn join(folder: &[u8], name: &OsStr) -> Vec<u8> {
    [folder, b"/", name.as_bytes()].concat()
}

fn collect(view: &View, top: Entry, name: Vec<u8>, all: &mut Vec<(Vec<u8>, Entry)>) -> Result<()> {
    let mut open = vec![(name, top)];
    while let Some((name, entry)) = open.pop() {
        if entry.metadata.is_directory() {
            let below = view.read_dir(&entry.path)?.into_iter();
            open.extend(below.map(|(below, entry)| (join(&name, &below), entry)));
        }
        all.push((name, entry));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Applying the entries of an image's layer to a snapshot that is being made.
//!
//! In: entries in the order of the archive, already decoded. Out: an upper directory as if the layer had been unpacked
//! onto a mount of the tree below: a parent that is a symlink is followed, inside the tree, never out of it.
//! A deletion hides what lies below and nothing that the same layer has, in whatever order the two come. Directories keep
//! the time that the layer, or else the tree below, gives them: what is put into them does not show in it.
//! **Invariants:** whoever wrote the layer, nothing outside of the upper directory is touched; no entry leaves a mark
//! that means something to overlayfs; one entry costs no more than its content and the depth of its path.
//! Source: OCI image-spec layer.md, "Applying Changesets".

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType as Type, Mode};
use rustix::io::Errno;

use crate::beneath;
use crate::editor::Editor;
use crate::error::{Context as _, Result, SnapshotError};
use crate::metadata::{ExtendedAttributes, FileType, is_content_attribute};
use crate::path::{clean, split};
use crate::transfer::{HOLE_BYTES, fill};
use crate::upper::UpperDirectory;
use crate::view::{Entry, Follow};

/// What a layer says of one path, besides its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerMetadata {
    /// 12 permission bits.
    pub mode: u32,
    /// User and group; none leaves them to this process's own.
    pub owner: Option<(u32, u32)>,
    /// Nanoseconds since 1970.
    pub modified_ns: i64,
    /// Extended attributes. Overlay's own and this machine's security labels are left out.
    pub xattrs: ExtendedAttributes,
}

/// What an entry of a layer makes of a path.
pub enum LayerEntry<'a> {
    /// A directory; one that is there keeps what is in it.
    Directory,
    /// A file with what is read, to its end; pages of zeros become holes.
    File(&'a mut dyn Read),
    /// A symbolic link that says this.
    Symlink(PathBuf),
    /// Another name of what is at this path of the tree, which is no directory.
    HardLink(PathBuf),
    /// A pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// What is below at the path does not show any more.
    Whiteout,
    /// What is below in this directory does not show any more.
    Opaque,
}

/// The longest path the kernel takes, without its NUL: no program could name what lies deeper.
const PATH_BYTES: usize = 4095;
const BUFFER_BYTES: usize = 32 * HOLE_BYTES;

impl Editor<'_> {
    /// Begins a layer. Nothing else may write to the snapshot until it is finished.
    pub fn layer_writer(&self) -> LayerWriter<'_> {
        self.known().forget();
        let within = PathBuf::new();
        LayerWriter {
            editor: self,
            within,
            times: BTreeMap::new(),
            last: None,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// As [`Self::layer_writer`], of entries that all go into the directory at `within`, whose path has no symlink in it:
    /// one that a link leads out of it is refused (`BadPath`). Paths of entries are those in the tree all the same.
    pub fn layer_writer_within(&self, within: &Path) -> LayerWriter<'_> {
        LayerWriter { within: clean(within), ..self.layer_writer() }
    }

    /// Does what one entry says, as [`LayerWriter::apply`]; many are faster with one [`LayerWriter`].
    pub fn apply(&self, path: &Path, entry: LayerEntry<'_>, metadata: &LayerMetadata) -> Result<()> {
        let mut writer = self.layer_writer();
        writer.apply(path, entry, metadata)?;
        writer.finish()
    }
}

/// Takes the entries of one layer.
pub struct LayerWriter<'a> {
    editor: &'a Editor<'a>,
    /// Nothing outside of this directory is written to.
    within: PathBuf,
    /// The times of all directories that were touched.
    times: BTreeMap<PathBuf, i64>,
    /// Where the last entry went; the next one often goes there too.
    last: Option<Parent>,
    buffer: Vec<u8>,
}

/// A directory that entries are put into.
struct Parent {
    /// As the layer calls it.
    named: PathBuf,
    /// Without symlinks.
    path: PathBuf,
    directory: UpperDirectory,
}

/// Where an entry goes.
struct Place<'a> {
    directory: &'a UpperDirectory,
    name: &'a OsStr,
    path: PathBuf,
}

impl LayerWriter<'_> {
    /// Does what one entry says. Parents that are missing are made (0755, root's).
    ///
    /// `BadPath` for what no tree can hold, `NotADirectory`, `NotFound`, `IsADirectory` and `TooManyLinks` for what does
    /// not fit this tree: the layer is to blame. `Io` otherwise.
    pub fn apply(&mut self, path: &Path, entry: LayerEntry<'_>, metadata: &LayerMetadata) -> Result<()> {
        let path = clean(path);
        let Some((named, name)) = split(&path) else {
            return match entry {
                LayerEntry::Directory => {
                    self.times.insert(PathBuf::new(), metadata.modified_ns);
                    finish(self.editor.upper_root()?.as_fd(), &path, metadata)
                }
                LayerEntry::Opaque => self.hide_inside(&path),
                _ => Err(SnapshotError::BadPath { path, reason: "the root is a directory" }),
            };
        };
        match entry {
            LayerEntry::Whiteout => return self.hide(named, name),
            LayerEntry::Opaque => return self.hide_inside(&path),
            LayerEntry::HardLink(target) => return self.hard_link(named, name, &clean(&target), metadata),
            LayerEntry::CharDevice { major: 0, minor: 0 } => {
                let reason = "the character device 0/0 is how overlayfs marks a deleted file";
                return Err(SnapshotError::BadPath { path, reason });
            }
            _ => {}
        }
        let parent = self.parent(named, metadata)?;
        let place = Place { directory: &parent.directory, name, path: placed(&parent.path, name)? };
        self.editor.note_applied(&place.path);
        let replaced = match entry {
            LayerEntry::Directory => self.directory(&place, metadata)?,
            LayerEntry::File(content) => {
                let replaced = self.clear(&place)?;
                let file = place.directory.create_file(name).within("create", &place.path)?;
                fill(&file, content, &mut self.buffer).within("write", &place.path)?;
                finish(file.as_fd(), &place.path, metadata)?;
                replaced
            }
            LayerEntry::Symlink(target) => {
                let replaced = self.clear(&place)?;
                make_link(&place, &target, metadata)?;
                replaced
            }
            LayerEntry::Fifo => self.node(&place, Type::Fifo, (0, 0), metadata)?,
            LayerEntry::CharDevice { major, minor } => {
                self.node(&place, Type::CharacterDevice, (major, minor), metadata)?
            }
            LayerEntry::BlockDevice { major, minor } => {
                self.node(&place, Type::BlockDevice, (major, minor), metadata)?
            }
            // Dealt with above.
            LayerEntry::HardLink(_) | LayerEntry::Whiteout | LayerEntry::Opaque => false,
        };
        // What was replaced may have been on the way here.
        self.last = (!replaced).then_some(parent);
        Ok(())
    }

    /// Gives the directories their times. Nothing may be applied after it.
    pub fn finish(self) -> Result<()> {
        self.times.iter().rev().try_for_each(|(path, modified_ns)| {
            self.editor.set_times(path, &beneath::timestamps(*modified_ns, *modified_ns))
        })
    }

    /// Opens the directory that the layer calls `named`; what is missing of it is made.
    fn parent(&mut self, named: &Path, metadata: &LayerMetadata) -> Result<Parent> {
        if let Some(last) = self.last.take()
            && last.named == named
        {
            return Ok(last);
        }
        let path = self.editor.view().resolve(named, Follow::Yes)?.path;
        self.stay_within(&path)?;
        let owner = metadata.owner.map(|_| (0, 0));
        Ok(Parent { named: named.to_owned(), directory: self.descend(&path, owner)?, path })
    }

    fn stay_within(&self, path: &Path) -> Result<()> {
        if path.starts_with(&self.within) {
            return Ok(());
        }
        Err(SnapshotError::BadPath { path: path.to_owned(), reason: "a symbolic link leads out to it" })
    }

    /// Opens the directory at a canonical path in the upper layer; what is missing of it is made. Remembers the times of
    /// all that it goes through.
    fn descend(&mut self, path: &Path, owner: Option<(u32, u32)>) -> Result<UpperDirectory> {
        check_length(path)?;
        let mut directory = self.editor.upper_root()?;
        let mut at = PathBuf::new();
        self.remember(&at, &directory)?;
        for name in path.iter() {
            at.push(name);
            directory = match directory.enter(name, &at) {
                Err(SnapshotError::NotFound { .. }) => {
                    let made = directory.create_directory(name, &at)?;
                    if let Some(owner) = owner {
                        beneath::set_owner(made.as_fd(), owner).within("chown", &at)?;
                    }
                    beneath::set_mode(made.as_fd(), 0o755).within("chmod", &at)?;
                    // Nobody says when; the beginning of time is the same on every machine.
                    self.times.insert(at.clone(), 0);
                    made
                }
                entered => entered?,
            };
            self.remember(&at, &directory)?;
        }
        Ok(directory)
    }

    fn remember(&mut self, path: &Path, directory: &UpperDirectory) -> Result<()> {
        if !self.times.contains_key(path) {
            let metadata = beneath::metadata_of(directory).within("read", path)?;
            self.times.insert(path.to_owned(), metadata.modified_ns);
        }
        Ok(())
    }

    /// Removes what stands in the way, whatever it is; tells whether there was anything.
    fn clear(&mut self, place: &Place<'_>) -> Result<bool> {
        let own = place.directory.own(place.name, &place.path)?;
        if own.is_some_and(|own| own.is_directory()) {
            self.forget_times(&place.path);
        }
        place.directory.make_room(place.name, &place.path, true)?;
        Ok(own.is_some() || place.directory.below(place.name, &place.path)?.is_some())
    }

    fn forget_times(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .times
            .range(path.to_owned()..)
            .map(|(path, _)| path)
            .take_while(|inside| inside.starts_with(path))
            .cloned()
            .collect();
        for path in gone {
            self.times.remove(&path);
        }
    }

    fn directory(&mut self, place: &Place<'_>, metadata: &LayerMetadata) -> Result<bool> {
        let (directory, replaced) = match place.directory.enter(place.name, &place.path) {
            Ok(directory) => (directory, false),
            Err(SnapshotError::NotFound { .. } | SnapshotError::NotADirectory { .. }) => {
                let replaced = self.clear(place)?;
                (place.directory.create_directory(place.name, &place.path)?, replaced)
            }
            Err(error) => return Err(error),
        };
        self.times.insert(place.path.clone(), metadata.modified_ns);
        finish(directory.as_fd(), &place.path, metadata)?;
        Ok(replaced)
    }

    fn node(
        &mut self,
        place: &Place<'_>,
        kind: Type,
        device: (u32, u32),
        metadata: &LayerMetadata,
    ) -> Result<bool> {
        let replaced = self.clear(place)?;
        make_node(place, kind, device, metadata)?;
        Ok(replaced)
    }

    /// The target may lie in a layer below: then it is brought up first, so that both names are one file.
    fn hard_link(
        &mut self,
        named: &Path,
        name: &OsStr,
        target: &Path,
        metadata: &LayerMetadata,
    ) -> Result<()> {
        let found = self.editor.view().existing(target, Follow::No)?;
        self.stay_within(&found.path)?;
        let Some((from, target_name)) = split(&found.path).filter(|_| !found.metadata.is_directory()) else {
            return Err(SnapshotError::IsADirectory { path: found.path });
        };
        let parent = self.parent(named, metadata)?;
        let place = Place { directory: &parent.directory, name, path: placed(&parent.path, name)? };
        self.editor.note_applied(&place.path);
        if found.path == place.path {
            // It is a name of itself.
            return Ok(());
        }
        if found.path.starts_with(&place.path) {
            let reason = "it would replace the directory that its target is in";
            return Err(SnapshotError::BadPath { path: place.path, reason });
        }
        let from = self.descend(from, None)?;
        if from.own(target_name, &found.path)?.is_none() {
            self.bring_up(&Place { directory: &from, name: target_name, path: found.path.clone() }, &found)?;
        }
        self.editor.about_to_write(&from, target_name, &found.path)?;
        self.clear(&place)?;
        rustix::fs::linkat(&from, target_name, place.directory, name, AtFlags::empty())
            .within("link", &place.path)
    }

    /// Makes in the upper layer what is at `place` below and no directory.
    fn bring_up(&self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let node = |kind| {
            let kept = LayerMetadata {
                mode: entry.metadata.mode,
                owner: Some((entry.metadata.uid, entry.metadata.gid)),
                modified_ns: entry.metadata.modified_ns,
                xattrs: self.editor.view().xattrs(entry)?,
            };
            match kind {
                Type::Symlink => make_link(place, &self.editor.view().read_link(entry)?, &kept),
                kind => make_node(place, kind, entry.metadata.device_number, &kept),
            }
        };
        match entry.metadata.file_type {
            FileType::File => crate::upper::copy_up(place.directory, place.name, &place.path, true).map(drop),
            FileType::Symlink => node(Type::Symlink),
            FileType::Fifo => node(Type::Fifo),
            FileType::Socket => node(Type::Socket),
            FileType::CharDevice => node(Type::CharacterDevice),
            FileType::BlockDevice => node(Type::BlockDevice),
            FileType::Directory => Err(SnapshotError::IsADirectory { path: place.path.clone() }),
        }
    }

    /// Removes what the tree below has at a path; what this layer has there stays.
    fn hide(&mut self, named: &Path, name: &OsStr) -> Result<()> {
        let parent = self.editor.view().resolve(named, Follow::Yes)?.path;
        let Some(found) = self.editor.view().lookup(placed(&parent, name)?, Follow::No)? else {
            return Ok(());
        };
        if !self.editor.was_applied(&found.path) {
            return self.remove(&found);
        }
        if found.metadata.is_directory() { self.hide_inside(&found.path) } else { Ok(()) }
    }

    /// Removes from a directory all that this layer does not have.
    fn hide_inside(&mut self, path: &Path) -> Result<()> {
        let found = self.editor.view().lookup(path, Follow::Yes)?;
        let Some(found) = found.filter(|found| found.metadata.is_directory()) else { return Ok(()) };
        self.descend(&found.path, None)?;
        self.editor.note_applied(&found.path);
        let mut open = vec![found.path];
        while let Some(path) = open.pop() {
            for child in self.editor.view().read_dir(&path)?.into_values() {
                if !self.editor.was_applied(&child.path) {
                    self.remove(&child)?;
                } else if child.metadata.is_directory() {
                    open.push(child.path);
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, found: &Entry) -> Result<()> {
        self.last = None;
        let Some((parent, name)) = split(&found.path) else { return Ok(()) };
        self.descend(parent, None)?.remove(name, &found.path)?;
        self.forget_times(&found.path);
        Ok(())
    }
}

/// Names what is in a directory; `BadPath` for what is too deep to be named.
fn placed(parent: &Path, name: &OsStr) -> Result<PathBuf> {
    let path = parent.join(name);
    check_length(&path)?;
    Ok(path)
}

fn check_length(path: &Path) -> Result<()> {
    if path.as_os_str().len() <= PATH_BYTES {
        return Ok(());
    }
    let mut short = path.as_os_str().as_bytes().to_vec();
    short.truncate(100);
    let path = PathBuf::from(OsStr::from_bytes(&short).to_owned());
    Err(SnapshotError::BadPath { path, reason: "it is longer than 4095 bytes" })
}

fn make_link(place: &Place<'_>, target: &Path, metadata: &LayerMetadata) -> Result<()> {
    rustix::fs::symlinkat(target, place.directory, place.name).within("create the link", &place.path)?;
    finish_unopened(place, metadata, false)
}

fn make_node(place: &Place<'_>, kind: Type, device: (u32, u32), metadata: &LayerMetadata) -> Result<()> {
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(place.directory, place.name, kind, Mode::RUSR | Mode::WUSR, device)
        .within("create the device", &place.path)?;
    finish_unopened(place, metadata, true)
}

fn attributes(metadata: &LayerMetadata) -> ExtendedAttributes {
    let own = metadata.xattrs.iter().filter(|(name, _)| is_content_attribute(name));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Tells attributes that cannot be, which are the layer's fault, from those that could not be set.
fn blame(result: io::Result<()>, path: &Path) -> Result<()> {
    let errno = result.as_ref().err().and_then(Errno::from_io_error);
    if let Some(Errno::RANGE | Errno::TOOBIG | Errno::INVAL) = errno {
        let reason = "it has an extended attribute whose name is too long or whose value means nothing";
        return Err(SnapshotError::BadPath { path: path.to_owned(), reason });
    }
    result.within("set the attributes of", path)
}

fn finish(file: BorrowedFd<'_>, path: &Path, metadata: &LayerMetadata) -> Result<()> {
    if let Some(owner) = metadata.owner {
        beneath::set_owner(file, owner).within("chown", path)?;
    }
    // After the owner: a change of owner takes set-id bits and capabilities away.
    beneath::set_mode(file, metadata.mode & 0o7777).within("chmod", path)?;
    blame(beneath::set_attributes(file, &attributes(metadata)), path)?;
    let times = beneath::timestamps(metadata.modified_ns, metadata.modified_ns);
    rustix::fs::futimens(file, &times).within("set the times of", path)
}

/// As [`finish`], of what must not be opened.
fn finish_unopened(place: &Place<'_>, metadata: &LayerMetadata, has_mode: bool) -> Result<()> {
    let (directory, name) = (place.directory.as_fd(), place.name);
    if let Some(owner) = metadata.owner {
        beneath::set_owner_at(directory, name, owner).within("chown", &place.path)?;
    }
    if has_mode {
        let mode = Mode::from_raw_mode(metadata.mode & 0o7777);
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty()).within("chmod", &place.path)?;
    }
    let attributes = attributes(metadata);
    if !attributes.is_empty() {
        let handle = beneath::open_handle_beneath(directory, Path::new(name)).within("open", &place.path)?;
        blame(beneath::set_attributes_of_handle(handle.as_fd(), &attributes), &place.path)?;
    }
    let times = beneath::timestamps(metadata.modified_ns, metadata.modified_ns);
    beneath::set_times_at(directory, name, &times).within("set the times of", &place.path)
}

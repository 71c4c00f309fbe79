//! The files of a commit as a tree: read as an archive, written straight into a layer, submodules in their places.
//!
//! In: a commit of a repository that is kept. Out: entries of a layer: files 0644 or 0755, folders 0755, all of root
//! and of the time of the commit. Nothing is checked out on the disk before; `.gitattributes` about line ends count as
//! they do there.
//! **Invariant:** what a repository holds leads nowhere out of the tree, and no repository's own folder is in it.
//! Source: git-archive(1).

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use rb_diag::ErrorKind;
use rb_snapshot::{LayerEntry, LayerMetadata, LayerWriter};

use super::modules::{self, Submodule, inside};
use super::refs::Pinned;
use super::repository::Repository;
use super::{Connection, GitError, Remote};
use crate::SourceError;
use crate::archive::{Archive, Member, MemberKind};
use crate::unpack::LIMITS;

/// How deep submodules may lie in each other.
pub(super) const DEEPEST: usize = 32;
/// How far git may be ahead of who reads, in pieces.
const AHEAD: usize = 32;
/// How often the disk is asked whether there is room.
const ROOM_EVERY_BYTES: u64 = 64 << 20;

/// Writes commits into a layer.
pub(super) struct Export<'a, 'w> {
    pub(super) connection: &'a Connection<'a>,
    pub(super) writer: &'a mut LayerWriter<'w>,
    pub(super) skip_submodules: bool,
    /// None leaves files to this process's own user.
    pub(super) owner: Option<(u32, u32)>,
    /// The time of the commit that was asked for.
    pub(super) modified_ns: Option<i64>,
}

impl Export<'_, '_> {
    /// Writes what is in the folder `subdir` of a commit to `at`.
    pub(super) fn commit(
        &mut self,
        remote: &Remote,
        pinned: &Pinned,
        subdir: &Path,
        at: &Path,
        depth: usize,
    ) -> Result<(), SourceError> {
        let connection = self.connection;
        let repository = Repository::open(connection, remote, &pinned.commit, connection.bundle_at(depth))?;
        let commit = repository.bring(pinned)?;
        let modified_ns = match self.modified_ns {
            Some(known) => known,
            None => time_of(&repository, &commit)?,
        };
        self.modified_ns = Some(modified_ns);
        let modules = if self.skip_submodules { Vec::new() } else { modules::of(&repository, &commit)? };
        if let Some(module) = modules.iter().find(|module| subdir.starts_with(&module.path)) {
            drop(repository);
            let rest = subdir.strip_prefix(&module.path).unwrap_or(Path::new(""));
            return self.submodule(remote, module, rest, at, depth);
        }
        if !subdir.as_os_str().is_empty() {
            check_folder(&repository, &commit, subdir)?;
        }
        match self.archive(&repository, &commit, subdir, at, modified_ns) {
            Err(SourceError::Git(GitError::Failed { .. })) => {
                repository.begin_anew()?;
                let commit = repository.bring(pinned)?;
                self.archive(&repository, &commit, subdir, at, modified_ns)?;
            }
            done => done?,
        }
        // Two that hold one another wait for nobody.
        drop(repository);
        for module in &modules {
            let Ok(path) = module.path.strip_prefix(subdir) else { continue };
            self.submodule(remote, module, Path::new(""), &at.join(path), depth)?;
        }
        Ok(())
    }

    fn submodule(
        &mut self,
        remote: &Remote,
        module: &Submodule,
        subdir: &Path,
        at: &Path,
        depth: usize,
    ) -> Result<(), SourceError> {
        let wrap = |source| within(remote, module, source);
        if depth >= DEEPEST {
            return Err(wrap(GitError::Entry {
                remote: remote.to_string(),
                entry: module.path.display().to_string(),
                reason: format!("is a submodule in {DEEPEST} others"),
            })
            .into());
        }
        let inner = remote.submodule(&module.url).map_err(wrap)?;
        let pinned = Pinned { commit: module.commit.clone(), reference: None };
        self.commit(&inner, &pinned, subdir, at, depth + 1).map_err(|error| match error {
            SourceError::Git(error) => within(remote, module, error).into(),
            other => other,
        })
    }

    fn archive(
        &mut self,
        repository: &Repository<'_>,
        commit: &str,
        subdir: &Path,
        at: &Path,
        modified_ns: i64,
    ) -> Result<(), SourceError> {
        let mut words = vec!["archive".to_owned(), "--format=tar".to_owned(), commit.to_owned()];
        if !subdir.as_os_str().is_empty() {
            words.extend(["--".to_owned(), subdir.display().to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = repository.words(&words);
        let (pieces, receiver) = sync_channel::<Vec<u8>>(AHEAD);
        let git = repository.git();
        let room = self.connection.room;
        std::thread::scope(|threads| {
            let (consumed, produced) = {
                let (said, sender) = sync_channel(1);
                // The thread that owns the layer writes; git is read on the other one. `room` stays here, with its
                // caller.
                let words = &words;
                threads.spawn(move || {
                    let ended = git.stream(words, &mut |bytes| match pieces.send(bytes.to_vec()) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    });
                    drop(pieces);
                    // Who waits for it is there.
                    said.send(ended).ok();
                });
                let mut tar =
                    Pieces { receiver, current: Vec::new(), at: 0, count: 0, asked: 0, room, trouble: None };
                let consumed = self.entries(repository, &mut tar, subdir, at, modified_ns);
                let trouble = tar.trouble.take();
                drop(tar);
                let produced = sender.recv().unwrap_or(Err(GitError::Stopped));
                (trouble.map_or(consumed, |trouble| Err(trouble.into())), produced)
            };
            match (consumed, produced) {
                (Err(error), Ok(_)) if !is_cut(&error) => Err(error),
                (_, Ok(said)) if said.code != 0 => Err(git.failure(&words, &said).into()),
                (Err(error), Err(GitError::Stopped)) if !self.connection.programs.is_stopped() => Err(error),
                (_, Err(error)) => Err(error.into()),
                (consumed, Ok(_)) => consumed,
            }
        })
    }

    /// Writes the entries of an archive.
    fn entries(
        &mut self,
        repository: &Repository<'_>,
        tar: &mut Pieces<'_>,
        subdir: &Path,
        at: &Path,
        modified_ns: i64,
    ) -> Result<(), SourceError> {
        let remote = repository.git().remote.to_string();
        let refused = |entry: &[u8], reason: &str| GitError::Entry {
            remote: remote.clone(),
            entry: String::from_utf8_lossy(entry).chars().take(200).collect(),
            reason: reason.to_owned(),
        };
        let cut = |error: io::Error| refused(ARCHIVE, &format!("cannot be read: {error}"));
        let mut archive = Archive::new(&mut *tar, LIMITS);
        while let Some(member) = archive.next_member().map_err(cut)? {
            let name = String::from_utf8_lossy(&member.name);
            let path = match std::str::from_utf8(&member.name) {
                Ok(text) => inside(text),
                Err(_) => bytes_inside(&member.name),
            };
            let path = path.ok_or_else(|| refused(name.as_bytes(), "cannot be part of a tree"))?;
            let Ok(path) = path.strip_prefix(subdir) else { continue };
            if path.as_os_str().is_empty() {
                continue;
            }
            let metadata = LayerMetadata {
                mode: mode_of(&member),
                owner: self.owner,
                modified_ns,
                ..LayerMetadata::default()
            };
            let entry = match &member.kind {
                MemberKind::File => LayerEntry::File(&mut archive),
                MemberKind::Directory => LayerEntry::Directory,
                MemberKind::Symlink(target) if target.is_empty() || target.contains(&0) => {
                    return Err(refused(&member.name, "is a link to nothing").into());
                }
                MemberKind::Symlink(target) => LayerEntry::Symlink(path_of(target)),
                _ => return Err(refused(&member.name, "is of a kind that git does not have").into()),
            };
            let written = self.writer.apply(&at.join(path), entry, &metadata);
            if let Some(reason) = archive.take_fault() {
                return Err(refused(ARCHIVE, &format!("cannot be read: {reason}")).into());
            }
            written.map_err(|error| match error.kind() {
                ErrorKind::Input => refused(&member.name, &format!("cannot be written: {error}")).into(),
                _ => SourceError::from(error),
            })?;
        }
        drop(archive);
        io::copy(tar, &mut io::sink()).map_err(cut)?;
        Ok(())
    }
}

/// What stands for an archive that ended early.
const ARCHIVE: &[u8] = b"an archive";

fn is_cut(error: &SourceError) -> bool {
    matches!(error, SourceError::Git(GitError::Entry { entry, .. }) if entry.as_bytes() == ARCHIVE)
}

/// Says of an error in which submodule it came up.
pub(super) fn within(remote: &Remote, module: &Submodule, source: GitError) -> GitError {
    match source {
        GitError::Stopped => GitError::Stopped,
        source => GitError::Submodule {
            remote: remote.to_string(),
            path: module.path.clone(),
            source: Box::new(source),
        },
    }
}

/// Returns the time of a commit, nanoseconds since 1970.
pub(super) fn time_of(repository: &Repository<'_>, commit: &str) -> Result<i64, GitError> {
    let said = repository.ask(&["show", "--no-patch", "--no-show-signature", "--format=%ct", commit])?;
    let seconds: i64 = said.trim().parse().unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000))
}

fn check_folder(repository: &Repository<'_>, commit: &str, folder: &Path) -> Result<(), GitError> {
    let said = repository.run(&["cat-file", "-t", &format!("{commit}:{}", folder.display())])?;
    if said.code == 0 && said.out.trim_ascii() == b"tree" {
        return Ok(());
    }
    let remote = repository.git().remote.to_string();
    Err(GitError::NoFolder { remote, commit: commit.to_owned(), folder: folder.to_owned() })
}

fn mode_of(member: &Member) -> u32 {
    match member.kind {
        MemberKind::File if member.mode & 0o100 == 0 => 0o644,
        MemberKind::Symlink(_) => 0o777,
        _ => 0o755,
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(bytes.to_vec()).into()
}

/// As [`inside`], of a name that is no text.
fn bytes_inside(name: &[u8]) -> Option<PathBuf> {
    let clean =
        |part: &[u8]| !(part.is_empty() || part == b"." || part == b".." || modules::is_git_folder(part));
    let name = name.strip_suffix(b"/").unwrap_or(name);
    (name.split(|byte| *byte == b'/').all(clean) && !name.contains(&0)).then(|| path_of(name))
}

/// What git prints, as it comes.
struct Pieces<'a> {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    count: u64,
    asked: u64,
    room: &'a dyn Fn() -> Result<(), GitError>,
    trouble: Option<GitError>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.current, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        if self.count - self.asked >= ROOM_EVERY_BYTES {
            self.asked = self.count;
            if let Err(error) = (self.room)() {
                self.trouble = Some(error);
                return Err(io::Error::other("there is no room"));
            }
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        self.count += count as u64;
        Ok(count)
    }
}

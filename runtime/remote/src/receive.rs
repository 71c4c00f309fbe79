//! What comes back from a daemon: parts of trees into a folder of our own, archives into files and streams.
//!
//! Of a tree the daemon tells every entry; what the export needs is chosen from that list, and only that is asked for. It is written
//! into a fresh folder that nobody else knows, and goes from there to its place by the code that writes the trees of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use prost::Message as _;
use rb_wire::control::BytesMessage;
use rb_wire::diffcopy::{DiffCopyError, Entry, Kind, Limits, Receiver, Sink};
use tokio::sync::mpsc;

use crate::error::RemoteError;
use crate::session::{Exchange, open_new, packet};

/// Links that one path may go through.
const LINKS: usize = 40;
/// Packets on their way.
const PACKETS: usize = 64;

/// What of a tree is wanted.
pub(crate) struct Part<'a> {
    /// Absolute path in the tree.
    pub(crate) path: &'a str,
    /// Nothing there is fine.
    pub(crate) optional: bool,
}

/// Receives a part of a tree into `folder`, which is empty; `false` if there is nothing, and that is fine.
pub(crate) async fn tree(exchange: Exchange, folder: &Path, part: Part<'_>) -> Result<bool, RemoteError> {
    let Exchange { incoming, outgoing } = exchange;
    let incoming = Box::pin(incoming.map(packet));
    let (packets, mut to_send) = mpsc::channel::<rb_wire::files::Packet>(PACKETS);
    let receiving = async move {
        let mut receiver = Receiver::new(incoming, packets);
        let entries = receiver.index(Limits::default()).await?;
        let wanted = match wanted(&entries, part.path) {
            Ok(Some(wanted)) => wanted,
            Ok(None) if part.optional => {
                let sink = Staging { entries: Vec::new(), folder: folder.to_owned(), open: BTreeMap::new() };
                receiver.fetch(&entries, &[], sink).await?;
                return Ok(false);
            }
            Ok(None) => {
                receiver.refuse("the client wants what is not there");
                return Err(RemoteError::Export(rb_exporters::ExportError::NotFound(part.path.into())));
            }
            Err(error) => {
                receiver.refuse("the client cannot take it");
                return Err(error);
            }
        };
        let chosen: Vec<(usize, Entry)> =
            wanted.iter().map(|place| (*place, entries[*place].clone())).collect();
        let to = folder.to_owned();
        let staged =
            tokio::task::spawn_blocking(move || stage(to, &chosen).map(|staging| (staging, chosen))).await;
        let (staging, chosen) = staged.map_err(|_| DiffCopyError::Thread)??;
        let staging = receiver.fetch(&entries, &wanted, staging).await?;
        let finished = tokio::task::spawn_blocking(move || finish(&staging.folder, &chosen)).await;
        finished.map_err(|_| DiffCopyError::Thread)??;
        Ok(true)
    };
    let sending = async move {
        while let Some(packet) = to_send.recv().await {
            if outgoing.send(Ok(packet.encode_to_vec().into())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(receiving, sending).0
}

/// Chooses what lies at a path and below it, with the folders and links that lead there; nothing where nothing is.
fn wanted(entries: &[Entry], path: &str) -> Result<Option<Vec<usize>>, RemoteError> {
    let places: BTreeMap<&str, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.path.as_str(), place)).collect();
    let mut wanted = BTreeSet::new();
    let Some(top) = resolve(entries, &places, path, &mut wanted) else { return Ok(None) };
    let below = format!("{top}/");
    let is_below = |entry: &Entry| top.is_empty() || entry.path == top || entry.path.starts_with(&below);
    wanted.extend(entries.iter().enumerate().filter(|(_, entry)| is_below(entry)).map(|(place, _)| place));
    let mut more: BTreeSet<usize> = BTreeSet::new();
    for place in &wanted {
        let entry = &entries[*place];
        match &entry.kind {
            Kind::HardLink { to } => {
                // The list was checked: the other name came before.
                more.extend(places.get(to.as_str()));
                more.extend(to.match_indices('/').filter_map(|(end, _)| places.get(&to[..end])));
            }
            Kind::Special => {
                return Err(RemoteError::answer(format!(
                    "`/{}` is a device, pipe or socket, which is not written",
                    entry.path
                )));
            }
            Kind::Directory | Kind::File { .. } | Kind::Symlink { .. } => {}
        }
    }
    wanted.extend(more);
    Ok(Some(wanted.into_iter().collect()))
}

/// Goes down a path inside of a tree, and through its links, but for one at its end; notes what it passes.
fn resolve(
    entries: &[Entry],
    places: &BTreeMap<&str, usize>,
    path: &str,
    passed: &mut BTreeSet<usize>,
) -> Option<String> {
    let mut todo: Vec<String> = path.split('/').rev().map(ToOwned::to_owned).collect();
    let (mut at, mut links) = (String::new(), 0);
    while let Some(step) = todo.pop() {
        match step.as_str() {
            "" | "." => continue,
            ".." => {
                at = at.rsplit_once('/').map(|(above, _)| above.to_owned()).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let next = if at.is_empty() { step } else { format!("{at}/{step}") };
        let place = *places.get(next.as_str())?;
        passed.insert(place);
        match &entries[place].kind {
            Kind::Symlink { target } if todo.iter().any(|step| !matches!(step.as_str(), "" | ".")) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(target.split('/').rev().map(ToOwned::to_owned));
            }
            _ => at = next,
        }
    }
    Some(at)
}

fn disk(path: &str, source: io::Error) -> RemoteError {
    RemoteError::Disk { what: format!("`/{path}` of the engine's tree"), source }
}

/// Makes folders, links and empty files.
fn stage(folder: PathBuf, chosen: &[(usize, Entry)]) -> Result<Staging, RemoteError> {
    for (_, entry) in chosen {
        let at = folder.join(&entry.path);
        let made = match &entry.kind {
            Kind::Directory => fs::create_dir(&at),
            Kind::Symlink { target } => symlink(target, &at),
            Kind::File { .. } => open_new(&folder, &entry.path).map(drop),
            Kind::HardLink { .. } | Kind::Special => Ok(()),
        };
        made.map_err(|error| disk(&entry.path, error))?;
    }
    let entries = chosen.to_vec();
    Ok(Staging { entries, folder, open: BTreeMap::new() })
}

/// Gives names and modes, those of folders last, so that they can be written to until then.
fn finish(folder: &Path, chosen: &[(usize, Entry)]) -> Result<(), RemoteError> {
    for (_, entry) in chosen.iter().rev() {
        let at = folder.join(&entry.path);
        let done = match &entry.kind {
            Kind::HardLink { to } => fs::hard_link(folder.join(to), &at),
            Kind::Directory | Kind::File { .. } => {
                fs::set_permissions(&at, Permissions::from_mode(entry.mode))
            }
            Kind::Symlink { .. } | Kind::Special => Ok(()),
        };
        done.map_err(|error| disk(&entry.path, error))?;
    }
    Ok(())
}

/// Files that are being written.
struct Staging {
    entries: Vec<(usize, Entry)>,
    folder: PathBuf,
    open: BTreeMap<usize, File>,
}

impl Sink for Staging {
    fn write(&mut self, place: usize, piece: &[u8]) -> io::Result<()> {
        if let Some(file) = self.open.get_mut(&place) {
            return file.write_all(piece);
        }
        let found = self.entries.binary_search_by_key(&place, |(place, _)| *place);
        let (_, entry) = found.ok().and_then(|at| self.entries.get(at)).ok_or(io::ErrorKind::NotFound)?;
        // It was made empty by us, in a folder of ours.
        let mut file = File::options().write(true).open(self.folder.join(&entry.path))?;
        file.write_all(piece)?;
        self.open.insert(place, file);
        Ok(())
    }

    fn end(&mut self, place: usize) -> io::Result<()> {
        self.open.remove(&place);
        Ok(())
    }
}

/// Hands the bytes of an archive to `write`, which runs on a thread that may wait; a stream that broke is an error of its reader.
pub(crate) async fn archive<T: Send + 'static>(
    exchange: Exchange,
    write: impl FnOnce(&mut Pieces) -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    let Exchange { mut incoming, outgoing } = exchange;
    let (sender, pieces) = mpsc::channel(PACKETS);
    let writing =
        tokio::task::spawn_blocking(move || write(&mut Pieces { pieces, rest: Bytes::new(), ended: false }));
    loop {
        let piece = match incoming.next().await.transpose() {
            Ok(Some(message)) => match BytesMessage::decode(message) {
                Ok(message) => Ok(message.data),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Ok(None) => break,
            Err(status) => Err(io::Error::other(crate::error::said(&status))),
        };
        let is_last = piece.is_err();
        if sender.send(Some(piece)).await.is_err() || is_last {
            break;
        }
    }
    sender.send(None).await.ok();
    drop(sender);
    let written = writing.await.map_err(|_| RemoteError::Files(DiffCopyError::Thread))?;
    if let Err(error) = &written {
        let told = Err(tonic::Status::aborted(rb_diag::chain(error)));
        outgoing.send(told).await.ok();
    }
    written
}

/// An archive as it comes.
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Option<io::Result<Bytes>>>,
    /// What was not read of the last one.
    rest: Bytes,
    ended: bool,
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.next()? {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

impl Pieces {
    /// Returns the next piece; none at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.blocking_recv() {
            Some(Some(piece)) => piece.map(Some),
            Some(None) => {
                self.ended = true;
                Ok(None)
            }
            // Who carries it is gone.
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes all of it; returns how much that was.
    pub(crate) fn copy_to(&mut self, out: &mut dyn Write) -> io::Result<u64> {
        let mut sum = 0;
        while let Some(piece) = self.next()? {
            out.write_all(&piece)?;
            sum += piece.len() as u64;
        }
        out.flush()?;
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, modified_ns: 0 }
    }

    fn chosen(path: &str) -> Option<Vec<String>> {
        let file = |path: &str| entry(path, Kind::File { size_bytes: 1 });
        let link = |path: &str, target: &str| entry(path, Kind::Symlink { target: target.into() });
        let entries = [
            entry("a", Kind::Directory),
            file("a/f"),
            entry("a/g", Kind::HardLink { to: "a/f".into() }),
            entry("a/sub", Kind::Directory),
            file("a/sub/x"),
            file("a.b"),
            link("abs", "/a/sub"),
            link("loop", "loop"),
            link("up", "../../a"),
        ];
        let wanted = wanted(&entries, path).expect("nothing special");
        Some(wanted?.into_iter().map(|place| entries[place].path.clone()).collect())
    }

    #[test]
    fn what_lies_at_a_path_is_chosen_with_what_leads_there() {
        let is = |path: &str, expected: &[&str]| {
            assert_eq!(chosen(path).unwrap_or_default(), expected, "{path}");
        };
        is("/a/sub", &["a", "a/sub", "a/sub/x"]);
        is("/a/g", &["a", "a/f", "a/g"]);
        is("/a.b", &["a.b"]);
        is("/abs", &["abs"]);
        is("/abs/x", &["a", "a/sub", "a/sub/x", "abs"]);
        is("/up/sub/.", &["a", "a/sub", "a/sub/x", "up"]);
        assert_eq!(chosen("/").map(|all| all.len()), Some(9));
        for path in ["/nowhere", "/loop/x", "/a/f/x", "/abs/nothing"] {
            assert_eq!(chosen(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_staged_has_its_names_modes_and_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let chosen = [
            (3, Entry { mode: 0o500, ..entry("d", Kind::Directory) }),
            (4, Entry { mode: 0o640, ..entry("d/f", Kind::File { size_bytes: 3 }) }),
            (7, entry("d/g", Kind::HardLink { to: "d/f".into() })),
            (9, entry("l", Kind::Symlink { target: "/etc".into() })),
        ];
        let mut staging = stage(folder.path().to_owned(), &chosen).expect("stages");
        staging.write(4, b"ab").expect("writes");
        staging.write(4, b"c").expect("writes");
        staging.end(4).expect("ends");
        assert!(staging.write(5, b"x").is_err());
        finish(folder.path(), &chosen).expect("finishes");
        let mode = |path: &str| {
            fs::metadata(folder.path().join(path)).expect("is there").permissions().mode() & 0o7777
        };
        assert_eq!((mode("d"), mode("d/f")), (0o500, 0o640));
        assert_eq!(fs::read(folder.path().join("d/g")).expect("reads"), b"abc");
        assert_eq!(fs::read_link(folder.path().join("l")).expect("reads"), Path::new("/etc"));
        fs::set_permissions(folder.path().join("d"), Permissions::from_mode(0o700)).expect("sets");
    }
}

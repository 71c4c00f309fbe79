//! Folders of the client, sent as far as they are wanted.
//!
//! The daemon names a folder and says which part of it it needs; of that it is told every entry, and asks for the files that differ
//! from those that it has. **Invariant:** a file is opened below its folder without following any link.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rb_sources::local::{Listed, ListedKind, LocalRequest};
use rb_wire::diffcopy::{Entry, Files, Kind, send};
use rb_wire::files::Packet;
use rb_wire::filesync::file_sync_server::FileSync;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{Fed, values};
use crate::parts::Asked;
use crate::vertices::Vertices;

/// Packets on their way.
const PACKETS: usize = 64;

/// Answers for folders.
pub(super) struct Folders {
    pub(super) session: Arc<dyn rb_session::Session>,
    pub(super) vertices: Arc<Vertices>,
}

#[tonic::async_trait]
impl FileSync for Folders {
    type DiffCopyStream = Fed<Packet>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Fed<Packet>>, Status> {
        let part = Part::of(request.metadata())?;
        let session = Arc::clone(&self.session);
        let asked = Asked::new(&part.name, &part.include, &part.exclude, &part.follow);
        let looked = tokio::task::spawn_blocking(move || look(&part.wanted(session.as_ref())?));
        let (entries, folder) = looked.await.map_err(|error| Status::internal(error.to_string()))??;
        let entries: Arc<[Entry]> = entries.into();
        self.vertices.lent(&asked, &entries);
        let (outgoing, mut packets) = mpsc::channel(PACKETS);
        let (answer, stream) = mpsc::channel(PACKETS);
        let incoming = request.into_inner();
        tokio::spawn(async move {
            let sending = send(entries, Arc::new(folder), incoming, outgoing);
            let passing = async {
                while let Some(packet) = packets.recv().await {
                    if answer.send(Ok(packet)).await.is_err() {
                        return;
                    }
                }
            };
            let (sent, ()) = tokio::join!(sending, passing);
            match sent {
                Ok(sent) => tracing::debug!(?sent, "a folder was sent"),
                Err(error) => {
                    let error = rb_diag::chain(&error);
                    tracing::debug!(error, "a folder was not sent");
                    // Who is gone need not hear it.
                    answer.send(Err(Status::aborted(error))).await.ok();
                }
            }
        });
        Ok(Response::new(Fed::new(stream)))
    }
}

/// What a daemon asks for of a folder.
struct Part {
    name: String,
    include: Vec<String>,
    exclude: Vec<String>,
    follow: Vec<String>,
}

impl Part {
    fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        Ok(Self {
            name: values(metadata, "dir-name")?.into_iter().next().unwrap_or_default(),
            include: values(metadata, "include-patterns")?,
            exclude: values(metadata, "exclude-patterns")?,
            follow: values(metadata, "followpaths")?,
        })
    }

    /// Says what of the folder is wanted, without what is not lent along.
    fn wanted(self, session: &dyn rb_session::Session) -> Result<LocalRequest, Status> {
        let Self { name, mut include, mut exclude, follow } = self;
        let lent = session.local(&name);
        let lent = lent.ok_or_else(|| Status::not_found(format!("no folder is lent as `{name}`")))?;
        if !follow.is_empty() {
            match rb_sources::follow(&lent.path, &follow).map_err(|error| failed(&error))? {
                Some(found) => include.extend(found),
                // One of them leads to the folder itself.
                None => include.clear(),
            }
        }
        let asked = |path: &String| include.contains(path);
        let hidden = lent.hidden.iter().filter(|hidden| !(hidden.by_name && asked(&hidden.path)));
        exclude.extend(hidden.filter_map(|hidden| rb_sources::literal(Path::new(&hidden.path))));
        Ok(LocalRequest { folder: lent.path, include, exclude, normalise_modes: lent.normalise_modes })
    }
}

/// Lists what a daemon asks for.
pub(crate) fn listed(
    session: &dyn rb_session::Session,
    metadata: &MetadataMap,
) -> Result<Vec<Entry>, Status> {
    look(&Part::of(metadata)?.wanted(session)?).map(|(entries, _)| entries)
}

fn failed(error: &rb_sources::SourceError) -> Status {
    Status::failed_precondition(rb_diag::chain(error))
}

/// Lists what is wanted.
fn look(wanted: &LocalRequest) -> Result<(Vec<Entry>, Folder), Status> {
    let listed = rb_sources::local::list(wanted).map_err(|error| failed(&error))?;
    let entries = listed.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&wanted.folder, flags, Mode::empty());
    let folder = folder
        .map_err(|error| Status::failed_precondition(format!("{}: {error}", wanted.folder.display())))?;
    Ok((entries, Folder(folder)))
}

fn entry(listed: Listed) -> Result<Entry, Status> {
    let text = |path: &Path| {
        let wrong = || {
            Status::failed_precondition(format!(
                "`{}` is no UTF-8, which an engine elsewhere needs",
                path.display()
            ))
        };
        path.to_str().map(ToOwned::to_owned).ok_or_else(wrong)
    };
    let Listed { path, mode, modified_ns, kind } = listed;
    let kind = match kind {
        ListedKind::Directory => Kind::Directory,
        ListedKind::File(size_bytes) => Kind::File { size_bytes },
        ListedKind::Symlink(target) => Kind::Symlink { target: text(&target)? },
    };
    Ok(Entry { path: text(&path)?, kind, mode, uid: 0, gid: 0, modified_ns })
}

struct Folder(OwnedFd);

impl Files for Folder {
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + Send>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.0, entry.path.as_str(), flags, Mode::empty(), resolve)?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file any more"));
        }
        Ok(Box::new(file))
    }
}

/// Writes what it is given into the files of a folder that nobody else knows; used for what comes back.
pub(crate) fn open_new(folder: &Path, path: &str) -> io::Result<File> {
    let folder =
        rustix::fs::openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(File::from(rustix::fs::openat2(folder, path, flags, Mode::RUSR | Mode::WUSR, resolve)?))
}

/// A message of a stream whose kind is known to who asked for it.
pub(crate) fn packet(message: Result<Bytes, Status>) -> Result<Packet, Status> {
    use prost::Message as _;
    Packet::decode(message?).map_err(|error| Status::data_loss(format!("no packet: {error}")))
}

#[cfg(test)]
mod tests {
    use rb_session::{HiddenFile, LocalDir, LocalSession};

    use super::*;

    fn paths(session: &LocalSession, include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let part = Part {
            name: "context".to_owned(),
            include: owned(include),
            exclude: owned(exclude),
            follow: owned(follow),
        };
        let wanted = part.wanted(session).expect("lent");
        look(&wanted).expect("listed").0.into_iter().map(|entry| entry.path).collect()
    }

    #[test]
    fn what_is_wanted_is_listed_and_what_is_not_lent_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("a/b")).expect("makes");
        std::fs::create_dir_all(at("empty")).expect("makes");
        for path in ["a/b/x.c", "a/b/x.o", ".secret", "top"] {
            std::fs::write(at(path), path).expect("writes");
        }
        std::os::unix::fs::symlink("a/b", at("link")).expect("links");
        let hidden = vec![HiddenFile { path: ".secret".into(), by_name: false }];
        let dir = LocalDir { path: folder.path().to_owned(), normalise_modes: true, hidden };
        let session = LocalSession::default().with_local("context", dir);
        assert_eq!(
            paths(&session, &[], &[], &[]),
            ["a", "a/b", "a/b/x.c", "a/b/x.o", "empty", "link", "top"]
        );
        assert_eq!(paths(&session, &["a/b/*.c"], &[], &[]), ["a", "a/b", "a/b/x.c"]);
        assert_eq!(paths(&session, &[], &["**/*.o", "empty"], &[]), ["a", "a/b", "a/b/x.c", "link", "top"]);
        assert_eq!(paths(&session, &[], &[], &["link/x.c"]), ["a", "a/b", "a/b/x.c", "link"]);
        let outside =
            Part { name: "/etc".to_owned(), include: Vec::new(), exclude: Vec::new(), follow: Vec::new() };
        assert!(outside.wanted(&session).is_err());
    }

    #[test]
    fn a_file_that_became_a_link_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("d")).expect("makes");
        std::fs::write(folder.path().join("d/f"), "x").expect("writes");
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).expect("links");
        std::os::unix::fs::symlink("d", folder.path().join("other")).expect("links");
        let request = LocalRequest {
            folder: folder.path().to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            normalise_modes: true,
        };
        let (_, opener) = look(&request).expect("listed");
        let file = |path: &str| Entry {
            path: path.into(),
            kind: Kind::File { size_bytes: 1 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified_ns: 0,
        };
        assert!(opener.open(&file("d/f")).is_ok());
        for path in ["link", "other/f", "../x", "/etc/hostname", "d"] {
            assert!(opener.open(&file(path)).is_err(), "{path}");
        }
    }
}

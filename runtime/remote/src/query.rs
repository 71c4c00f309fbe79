//! One thing read out of a tree at the daemon, as [`Query`] means it.

use rb_api::SolveError;
use rb_diag::ErrorKind;
use rb_frontend::{Answer, FileDetails, FileKind, Query, WorkspaceEntry};
use rb_wire::diffcopy::{Entry, Kind};
use rb_wire::files::Stat;
use rb_wire::gateway::{FileRange, ReadDirRequest, ReadFileRequest, StatFileRequest};
use tonic::Status;

use crate::build::Build;
use crate::error::RemoteError;

/// Bytes of a file that one call asks for: well below the longest message.
const PIECE_BYTES: u64 = 4 << 20;
/// Most folders of a tree that are looked through.
const MOST_FOLDERS: usize = 20_000;

/// Reads one thing; `tree` is empty for that of scratch.
pub(crate) async fn answer(build: &Build, tree: &str, query: Query) -> Result<Answer, SolveError> {
    match query {
        Query::ReadFile { path, limit_bytes } => {
            let bytes = read(build, tree, &path, limit_bytes.saturating_add(1)).await?;
            if bytes.len() as u64 > limit_bytes {
                let message = format!("`{path}` is larger than the {limit_bytes} bytes that are read of it");
                return Err(SolveError::Job { kind: ErrorKind::Input, message, help: None });
            }
            Ok(Answer::File(bytes))
        }
        Query::ReadStart { path, length_bytes } => {
            read(build, tree, &path, length_bytes).await.map(Answer::File)
        }
        Query::Exists { path } => Ok(Answer::Exists(exists(build, tree, &path).await?)),
        Query::Stat { path } => {
            let path = path.trim_end_matches('/');
            let Some((folder, name)) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()) else {
                return Ok(Answer::Stat(Some(WorkspaceEntry {
                    name: String::new(),
                    kind: FileKind::Directory,
                })));
            };
            // What stands at a path follows a link there; what is in a folder does not.
            let folder = if folder.is_empty() { "/" } else { folder };
            match list(build, tree, folder).await {
                Ok(entries) => Ok(Answer::Stat(entries.into_iter().find(|entry| entry.name == name))),
                Err(SolveError::NoSuchFile { .. }) => Ok(Answer::Stat(None)),
                Err(error) => Err(error),
            }
        }
        Query::List { path } => list(build, tree, &path).await.map(Answer::List),
        Query::Details { path, inside } => details(build, tree, path, inside).await.map(Answer::Details),
        Query::Newest { path } => newest(build, tree, path).await.map(Answer::Moment),
    }
}

async fn exists(build: &Build, tree: &str, path: &str) -> Result<bool, SolveError> {
    if tree.is_empty() {
        return Ok(path.trim_matches('/').is_empty());
    }
    let request = build.about(StatFileRequest { r#ref: tree.to_owned(), path: path.to_owned() });
    match build.call(async { build.bridge().stat_file(request).await }).await {
        Ok(_) => Ok(true),
        Err(status) if is_missing(&status) => Ok(false),
        Err(status) => Err(RemoteError::from(status).into()),
    }
}

async fn read(build: &Build, tree: &str, path: &str, length: u64) -> Result<Vec<u8>, SolveError> {
    if tree.is_empty() {
        return Err(SolveError::NoSuchFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    loop {
        let wanted = length.saturating_sub(bytes.len() as u64).min(PIECE_BYTES);
        if wanted == 0 {
            return Ok(bytes);
        }
        let (offset, length) = (bytes.len() as i64, wanted as i64);
        let range = Some(FileRange { offset, length });
        let request = ReadFileRequest { r#ref: tree.to_owned(), file_path: path.to_owned(), range };
        let request = build.about(request);
        let answer = build.call(async { build.bridge().read_file(request).await }).await;
        let piece = answer.map_err(|status| missing(status, path))?.data;
        if piece.len() as u64 > wanted {
            return Err(RemoteError::answer(format!("more of `{path}` than was asked for")).into());
        }
        bytes.extend_from_slice(&piece);
        if (piece.len() as u64) < wanted {
            return Ok(bytes);
        }
    }
}

/// Returns when the newest file was changed. What has no time has that of 1970.
async fn newest(build: &Build, tree: &str, path: String) -> Result<Option<i64>, SolveError> {
    const DIRECTORY: u32 = 1 << 31;
    if tree.is_empty() {
        return Ok(None);
    }
    let request = build.about(StatFileRequest { r#ref: tree.to_owned(), path: path.clone() });
    let stat = match build.call(async { build.bridge().stat_file(request).await }).await {
        Ok(answer) => answer.stat.unwrap_or_default(),
        Err(status) if is_missing(&status) => return Ok(None),
        Err(status) => return Err(RemoteError::from(status).into()),
    };
    let (mut newest, mut asked) = (0, 0);
    let mut folders = Vec::new();
    match stat.mode & DIRECTORY {
        0 => newest = stat.mod_time,
        _ => folders.push(path),
    }
    while let Some(folder) = folders.pop() {
        asked += 1;
        if asked > MOST_FOLDERS {
            return Err(
                RemoteError::answer("a tree of more folders than are looked at for their times").into()
            );
        }
        let request =
            ReadDirRequest { r#ref: tree.to_owned(), dir_path: folder.clone(), ..ReadDirRequest::default() };
        let request = build.about(request);
        let answer = build.call(async { build.bridge().read_dir(request).await }).await;
        for stat in answer.map_err(|status| missing(status, &folder))?.entries {
            let mod_time = stat.mod_time;
            let entry = named(stat)?;
            match entry.kind {
                FileKind::File => newest = newest.max(mod_time),
                FileKind::Directory => {
                    folders.push(format!("{}/{}", folder.trim_end_matches('/'), entry.name));
                }
                FileKind::Symlink | FileKind::Other => {}
            }
        }
    }
    Ok(Some(newest.div_euclid(1_000_000_000)).filter(|newest| *newest > 0))
}

/// Returns all that the daemon tells of what stands at a path, or of what is in a folder.
async fn details(
    build: &Build,
    tree: &str,
    path: String,
    inside: bool,
) -> Result<Vec<FileDetails>, SolveError> {
    if tree.is_empty() {
        let is_top = path.trim_matches('/').is_empty();
        return if is_top && inside { Ok(Vec::new()) } else { Err(SolveError::NoSuchFile { path }) };
    }
    let mut stats = if inside {
        let request =
            ReadDirRequest { r#ref: tree.to_owned(), dir_path: path.clone(), ..ReadDirRequest::default() };
        let request = build.about(request);
        let answer = build.call(async { build.bridge().read_dir(request).await }).await;
        answer.map_err(|status| missing(status, &path))?.entries
    } else {
        let request = build.about(StatFileRequest { r#ref: tree.to_owned(), path: path.clone() });
        let answer = build.call(async { build.bridge().stat_file(request).await }).await;
        let stat = answer.map_err(|status| missing(status, &path))?.stat.unwrap_or_default();
        // Of the top it says what the daemon's own folder is called.
        let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty());
        vec![Stat { path: name.unwrap_or("/").to_owned(), ..stat }]
    };
    stats.sort_by(|one, other| one.path.cmp(&other.path));
    stats.into_iter().map(detail).collect()
}

/// Reads what is told of a file.
pub(crate) fn detail(mut stat: Stat) -> Result<FileDetails, SolveError> {
    let attributes = std::mem::take(&mut stat.xattrs);
    let attributes = attributes.into_iter().map(|(name, value)| (name, value.to_vec())).collect();
    let entry = match stat.path.as_str() {
        "/" => WorkspaceEntry { name: String::new(), kind: FileKind::Directory },
        _ => named(stat.clone())?,
    };
    let told = Entry::of_stat(stat).ok_or_else(|| RemoteError::answer("a file has no length"))?;
    let (size_bytes, link) = match told.kind {
        Kind::File { size_bytes } => (size_bytes, None),
        Kind::Symlink { target } => (target.len() as u64, Some(target)),
        Kind::Directory | Kind::HardLink { .. } | Kind::Special => (0, None),
    };
    let Entry { mode, uid, gid, modified_ns, .. } = told;
    Ok(FileDetails { entry, mode, uid, gid, size_bytes, modified_ns, link, attributes })
}

async fn list(build: &Build, tree: &str, path: &str) -> Result<Vec<WorkspaceEntry>, SolveError> {
    if tree.is_empty() {
        let is_top = path.trim_matches('/').is_empty();
        return if is_top { Ok(Vec::new()) } else { Err(SolveError::NoSuchFile { path: path.to_owned() }) };
    }
    let request =
        ReadDirRequest { r#ref: tree.to_owned(), dir_path: path.to_owned(), ..ReadDirRequest::default() };
    let request = build.about(request);
    let answer = build.call(async { build.bridge().read_dir(request).await }).await;
    let stats = answer.map_err(|status| missing(status, path))?.entries;
    let mut entries = stats.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    Ok(entries)
}

fn named(stat: Stat) -> Result<WorkspaceEntry, SolveError> {
    let wrong = || RemoteError::answer("a folder lists what is no name");
    if stat.path.is_empty() || stat.path.contains('/') || matches!(stat.path.as_str(), "." | "..") {
        return Err(wrong().into());
    }
    let entry = Entry::of_stat(stat).ok_or_else(wrong)?;
    let kind = match entry.kind {
        Kind::Directory => FileKind::Directory,
        Kind::File { .. } | Kind::HardLink { .. } => FileKind::File,
        Kind::Symlink { .. } => FileKind::Symlink,
        Kind::Special => FileKind::Other,
    };
    Ok(WorkspaceEntry { name: entry.path, kind })
}

fn is_missing(status: &Status) -> bool {
    ["no such file or directory", "not a directory"].iter().any(|words| status.message().contains(words))
}

fn missing(status: Status, path: &str) -> SolveError {
    if is_missing(&status) {
        return SolveError::NoSuchFile { path: path.to_owned() };
    }
    RemoteError::from(status).into()
}

//! The file on disk: read whole, written whole.
//!
//! A new text is written beside the old one and takes its place, so whoever reads sees one of both; where the path is a
//! link, the file it leads to is replaced. Writers wait for one another by a locked file beside it, which is gone
//! afterwards. A new file is for its owner alone, and belongs to whom the old one belonged to.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::error::DockerConfigError;

/// Largest file that is read.
const LIMIT_BYTES: u64 = 4 << 20;

/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// Links that are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// Reads a file; none if it is not there.
pub(super) fn read(file: &Path) -> Result<Option<Zeroizing<String>>, DockerConfigError> {
    let unreadable = |source| DockerConfigError::Unreadable { file: file.to_owned(), source };
    let bytes = match read_bytes(file) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
            Err(DockerConfigError::Malformed {
                file: file.to_owned(),
                line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                column: before.len() - line_start + 1,
                trouble: "it is not UTF-8".to_owned(),
            })
        }
    }
}

fn read_bytes(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe would have us wait for ever.
    let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(file)?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // One byte more than it has, so that the end is seen without growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(LIMIT_BYTES) as usize + 1));
    opened.take(LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB", LIMIT_BYTES >> 20),
        ));
    }
    Ok(bytes)
}

/// Reads a file, an empty text if it is not there, and writes what `change` makes of it, if that is anything. Nobody else
/// does so meanwhile.
pub(super) fn edit<T>(
    file: &Path,
    change: impl FnOnce(&str) -> Result<(Option<Zeroizing<String>>, T), DockerConfigError>,
) -> Result<T, DockerConfigError> {
    let unwritable = |source| DockerConfigError::Unwritable { file: file.to_owned(), source };
    let target = target(file);
    let folder = target.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
    let _lock = Lock::take(&target, file)?;
    let (text, result) = change(read(file)?.as_deref().map_or("", String::as_str))?;
    if let Some(text) = text {
        write(&target, &text).map_err(unwritable)?;
    }
    Ok(result)
}

/// Follows links in the place of a file, also to one that is not there yet.
fn target(file: &Path) -> PathBuf {
    let mut path = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => break,
        }
    }
    path
}

fn write(target: &Path, text: &str) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("/"));
    // For the owner alone from the first byte on.
    let mut new = tempfile::Builder::new().prefix(".config.json.").tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(target) {
        let ours = new.as_file().metadata()?;
        if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
    }
    new.as_file().sync_all()?;
    new.persist(target).map_err(|error| error.error)?;
    Ok(())
}

fn lock_of(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.rb-lock"))
}

/// A locked file that tells other writers to wait.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(target: &Path, shown: &Path) -> Result<Self, DockerConfigError> {
        let path = lock_of(target);
        let failed = |source| DockerConfigError::Unwritable { file: shown.to_owned(), source };
        let until = Instant::now() + PATIENCE;
        loop {
            let mut options = OpenOptions::new();
            let file =
                options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
            match file.try_lock() {
                // Whoever had it before has removed it: what is locked must be what others will find.
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, _file: file }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if Instant::now() >= until {
                return Err(DockerConfigError::Busy { file: shown.to_owned(), lock: path });
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().map(id).is_some_and(|ours| fs::metadata(path).ok().map(id) == Some(ours))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked. Where that fails, it is an empty file that nobody holds.
        fs::remove_file(&self.path).ok();
    }
}

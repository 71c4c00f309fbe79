//! `FROM @host`: a base made of this machine's own toolchain.
//!
//! In: the paths to bind and which of them the user allows. Out: a [`HostBase`]: what the sandbox shows of the host
//! (read-only binds), the small files and links that a toolchain needs beside them, and a digest of it all.
//! **Invariant:** nothing of anyone's home, no credentials: `/etc` comes file by file from a fixed list, only what
//! every user of the machine may read, with `passwd` and `group` reduced to system accounts; binds outside of the
//! folders that hold software need the user's word, and so do those that a symlink leads to.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rb_oci::{Digest, Hasher};

use crate::SourceError;
use crate::files::open_regular;

/// What `FROM @host` shows of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBase {
    /// Host folders to show at the same path, read-only; sorted.
    pub binds: Vec<PathBuf>,
    /// Files and links to put beside them; sorted by path, parents are plain folders.
    pub files: Vec<HostFile>,
    /// Digest of the package database, the binds' paths and `files`.
    pub digest: Digest,
}

/// A file or link of the base.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostFile {
    /// Absolute path.
    pub path: PathBuf,
    /// What is there.
    pub content: HostContent,
}

/// What is at a path of the base.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostContent {
    /// A file of these bytes, mode 0644 or 0755.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Symlink(PathBuf),
    /// An empty folder of this mode.
    Directory(u32),
}

/// Folders that hold software and nothing of anyone's own.
const SOFTWARE: [&str; 4] = ["/usr", "/opt", "/nix", "/gnu"];
/// Where the loader, compilers and TLS look; folders are taken whole.
const ETC: [&str; 16] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];
/// Package databases: Debian, Alpine, RPM (three forms), Arch.
const PACKAGE_DATABASES: [&str; 6] = [
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "var/lib/pacman/local",
];
/// What passwd and group say where there are none.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";
const GROUP: &str = "root:x:0:\n";
const FILE_LIMIT_BYTES: u64 = 4 << 20;
const TOTAL_LIMIT_BYTES: u64 = 64 << 20;

/// Looks at the host whose root folder is `root` (`/` but for tests).
///
/// `binds` are further paths to show; those outside of /usr, /opt, /nix and /gnu must lie below one of `allowed`.
/// `fingerprinted` says that the user names commands whose output tells toolchains apart, so that a machine without
/// a known package database may serve.
pub fn inspect(
    root: &Path,
    binds: &[PathBuf],
    allowed: &[PathBuf],
    fingerprinted: bool,
) -> Result<HostBase, SourceError> {
    let mut shown = Vec::new();
    let mut files = Files { root: root.to_owned(), found: Vec::new(), total_bytes: 0 };
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"] {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => {
                files.push(Path::new(name), HostContent::Symlink(read_link(&path)?));
            }
            Ok(meta) if meta.is_dir() => shown.push(Path::new("/").join(name)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SourceError::Read { path, source }),
        }
    }
    for bind in binds {
        check_bind(root, bind, allowed)?;
        if !shown.iter().any(|have| bind.starts_with(have)) {
            shown.push(bind.clone());
        }
    }
    shown.sort();
    for name in ETC {
        files.take_listed(Path::new("etc"), Path::new(name))?;
    }
    for entry in sorted_names(&root.join("etc"))? {
        if entry.to_string_lossy().starts_with("java-") {
            files.take_listed(Path::new("etc"), Path::new(&entry))?;
        }
    }
    files.push(Path::new("etc/passwd"), text(accounts(&root.join("etc/passwd"), PASSWD, Account::passwd)?));
    files.push(Path::new("etc/group"), text(accounts(&root.join("etc/group"), GROUP, Account::group)?));
    files.push(Path::new("root"), HostContent::Directory(0o700));
    files.push(Path::new("tmp"), HostContent::Directory(0o1777));
    files.push(Path::new("var/tmp"), HostContent::Directory(0o1777));
    files.found.sort();
    files.found.dedup();

    let mut hasher = Hasher::default();
    let packages = package_database(root)?;
    if packages.is_none() && !fingerprinted {
        return Err(SourceError::NoPackageDatabase);
    }
    field(&mut hasher, packages.map(|digest| digest.to_string()).unwrap_or_default().as_bytes());
    for bind in &shown {
        field(&mut hasher, bind.as_os_str().as_encoded_bytes());
    }
    for file in &files.found {
        field(&mut hasher, file.path.as_os_str().as_encoded_bytes());
        match &file.content {
            HostContent::File { executable, bytes } => {
                field(&mut hasher, if *executable { b"x" } else { b"f" });
                field(&mut hasher, bytes);
            }
            HostContent::Symlink(target) => {
                field(&mut hasher, b"l");
                field(&mut hasher, target.as_os_str().as_encoded_bytes());
            }
            HostContent::Directory(mode) => field(&mut hasher, format!("d{mode:o}").as_bytes()),
        }
    }
    Ok(HostBase { binds: shown, files: files.found, digest: hasher.finish().0 })
}

/// A path may be shown if it holds software by convention or the user allows it, both as it is called and as where its
/// symlinks lead; never the whole root.
fn check_bind(root: &Path, bind: &Path, allowed: &[PathBuf]) -> Result<(), SourceError> {
    let plain = bind.is_absolute()
        && bind.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && bind.components().count() > 1;
    let refused = || SourceError::Bind { path: bind.to_owned() };
    if !(plain && may_show(bind, allowed.iter())) {
        return Err(refused());
    }
    let read = |source| SourceError::Read { path: bind.to_owned(), source };
    let top = fs::canonicalize(root).map_err(read)?;
    let settle = |path: &Path| -> io::Result<Option<PathBuf>> {
        let real = fs::canonicalize(top.join(path.strip_prefix("/").unwrap_or(path)))?;
        Ok(real.strip_prefix(&top).ok().map(|inside| Path::new("/").join(inside)))
    };
    let real = settle(bind).map_err(read)?.ok_or_else(refused)?;
    // What the user allows may be a symlink itself; what is not there allows nothing.
    let allowed: Vec<PathBuf> = allowed.iter().filter_map(|path| settle(path).ok().flatten()).collect();
    let whole = real.components().count() < 2;
    if !whole && may_show(&real, allowed.iter()) { Ok(()) } else { Err(refused()) }
}

fn may_show<'a>(path: &Path, mut allowed: impl Iterator<Item = &'a PathBuf>) -> bool {
    SOFTWARE.iter().any(|folder| path.starts_with(folder)) || allowed.any(|folder| path.starts_with(folder))
}

/// Collects files of the host below `root`, by their paths from it.
struct Files {
    root: PathBuf,
    found: Vec<HostFile>,
    total_bytes: u64,
}

impl Files {
    fn push(&mut self, path: &Path, content: HostContent) {
        self.found.push(HostFile { path: Path::new("/").join(path), content });
    }

    /// Takes what is at `name` in a folder, if everyone may get there: a folder on the way that is closed closes what is in
    /// it, and one that is a link is taken as a link.
    fn take_listed(&mut self, folder: &Path, name: &Path) -> Result<(), SourceError> {
        let mut path = folder.to_owned();
        let mut parts = name.components().peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            match self.look(&path)? {
                Some(meta) if meta.is_dir() && meta.permissions().mode() & 0o001 != 0 => {}
                Some(meta) if meta.is_symlink() => break,
                _ => return Ok(()),
            }
        }
        self.take(&path)
    }

    fn look(&self, path: &Path) -> Result<Option<fs::Metadata>, SourceError> {
        let full = self.root.join(path);
        match fs::symlink_metadata(&full) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(source) => Err(SourceError::Read { path: full, source }),
        }
    }

    /// Takes a file, link or folder, if it is there and every user may read it.
    fn take(&mut self, path: &Path) -> Result<(), SourceError> {
        let Some(meta) = self.look(path)? else { return Ok(()) };
        let full = self.root.join(path);
        if meta.is_symlink() {
            self.push(path, HostContent::Symlink(read_link(&full)?));
        } else if meta.is_dir() && meta.permissions().mode() & 0o005 == 0o005 {
            for name in sorted_names(&full)? {
                self.take(&path.join(name))?;
            }
        } else if meta.is_file() && meta.permissions().mode() & 0o004 != 0 && meta.len() <= FILE_LIMIT_BYTES {
            self.take_file(path, &full)?;
        }
        Ok(())
    }

    fn take_file(&mut self, path: &Path, full: &Path) -> Result<(), SourceError> {
        let read = |source| SourceError::Read { path: full.to_owned(), source };
        let file = match open_regular(full) {
            Ok(file) => file,
            // It was replaced a moment ago.
            Err(error) if is_missing(&error) || error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
            Err(error) => return Err(read(error)),
        };
        // Of what was opened, not of what was looked at.
        let mode = file.metadata().map_err(read)?.permissions().mode();
        if mode & 0o004 == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes).map_err(read)?;
        self.total_bytes += bytes.len() as u64;
        if self.total_bytes > TOTAL_LIMIT_BYTES {
            return Err(read(io::Error::other(
                "the host's /etc holds more than 64 MiB of what toolchains need",
            )));
        }
        self.push(path, HostContent::File { executable: mode & 0o111 != 0, bytes });
        Ok(())
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn text(lines: String) -> HostContent {
    HostContent::File { executable: false, bytes: lines.into_bytes() }
}

fn read_link(path: &Path) -> Result<PathBuf, SourceError> {
    fs::read_link(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })
}

/// Returns the names in a folder, sorted; none if there is no such folder.
fn sorted_names(dir: &Path) -> Result<Vec<std::ffi::OsString>, SourceError> {
    let read = |source| SourceError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(source) => return Err(read(source)),
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(read)?;
    names.sort();
    Ok(names)
}

/// One line of passwd or group, reduced to what a step may know.
struct Account;

impl Account {
    fn passwd(fields: &[&str]) -> Option<String> {
        let [name, _, uid, gid, _, home, _] = fields else { return None };
        let (home, shell) = if *uid == "0" { ("/root", "/bin/sh") } else { (*home, "/usr/sbin/nologin") };
        Some(format!("{name}:x:{uid}:{gid}::{home}:{shell}"))
    }

    fn group(fields: &[&str]) -> Option<String> {
        let [name, _, gid, _] = fields else { return None };
        Some(format!("{name}:x:{gid}:"))
    }
}

/// Keeps the lines of system accounts (ids below 1000, and 65534), without anybody's names or secrets.
fn accounts(path: &Path, fallback: &str, line: fn(&[&str]) -> Option<String>) -> Result<String, SourceError> {
    let content = match fs::read(path) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(error) if is_missing(&error) => fallback.to_owned(),
        Err(source) => return Err(SourceError::Read { path: path.to_owned(), source }),
    };
    let lines = content.lines().filter_map(|text| {
        let fields: Vec<&str> = text.split(':').collect();
        let id = fields.get(2)?.parse::<u32>().ok()?;
        (id < 1000 || id == 65534).then(|| line(&fields)).flatten()
    });
    Ok(lines.fold(String::new(), |all, line| all + &line + "\n"))
}

/// Digests the first package database found: a file's bytes, or the names in a folder (Arch names package and version).
fn package_database(root: &Path) -> Result<Option<Digest>, SourceError> {
    for name in PACKAGE_DATABASES {
        let path = root.join(name);
        let read = |source| SourceError::Read { path: path.clone(), source };
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if is_missing(&error) => continue,
            Err(source) => return Err(read(source)),
        };
        let mut hasher = Hasher::default();
        if meta.is_dir() {
            for entry in sorted_names(&path)? {
                field(&mut hasher, entry.as_encoded_bytes());
            }
        } else {
            let mut file = fs::File::open(&path).map_err(read)?;
            io::copy(&mut file, &mut hasher).map_err(read)?;
        }
        return Ok(Some(hasher.finish().0));
    }
    Ok(None)
}

/// Adds bytes with their length before them, so that no two lists of fields read alike.
fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests;

//! Stores, trees written down, and what a view makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rb_snapshot::{
    ContentKey, DriverKind, Editor, FileType, Follow, SnapshotError, SnapshotId, Snapshots, View, diff,
};
use rb_store::Store;
use tempfile::TempDir;

/// What stands at a path, as far as both sides can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) body: String,
}

pub(crate) type Tree = BTreeMap<PathBuf, Node>;

/// A store of its own, removed at the end.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("rb-snapshot-").tempdir().unwrap();
        Self { store: Store::open(directory.path()).unwrap(), _directory: directory }
    }

    pub(crate) fn snapshots(&self, driver: DriverKind) -> Snapshots {
        Snapshots::new(self.store.clone(), driver).unwrap()
    }
}

/// Commits what `write` does on `parent`.
pub(crate) fn commit(
    snapshots: &Snapshots,
    parent: Option<(SnapshotId, ContentKey)>,
    write: impl FnOnce(&Editor<'_>),
) -> (SnapshotId, ContentKey) {
    let active = snapshots.prepare(parent.map(|(id, _)| id)).unwrap();
    write(&Editor::new(&active).unwrap());
    let diff = diff(&active).unwrap();
    let content = parent.map_or(ContentKey::empty(), |(_, content)| content);
    snapshots.commit(active, &diff, content).unwrap()
}

/// How many random cases: `few`, unless `RB_UPPER_CASES` asks for more.
pub(crate) fn cases(few: u32) -> u32 {
    asked("RB_UPPER_CASES").unwrap_or(few)
}

/// Reads the number in a variable.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
pub(crate) fn asked<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Tells whether this process may set `trusted.` attributes and make devices, and says so if not.
pub(crate) fn is_real_root() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let may = rustix::fs::setxattr(directory.path(), "trusted.rb-test", b"", flags).is_ok();
    if !may {
        eprintln!("stepping aside: `trusted.` attributes need the root of the machine");
    }
    may
}

/// Tells whether `path` below `root` leads through a symlink, which ordinary file calls would follow out of it.
pub(crate) fn through_a_link(root: &Path, path: &Path) -> bool {
    path.ancestors().skip(1).any(|above| !above.as_os_str().is_empty() && root.join(above).is_symlink())
}

/// Runs `check` on both drivers.
pub(crate) fn on_both(check: impl Fn(&Snapshots)) {
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        let fixture = Fixture::new();
        check(&fixture.snapshots(driver));
    }
}

/// Writes down what a view shows.
pub(crate) fn tree_of(view: &View) -> Tree {
    let mut first: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut tree = Tree::new();
    for entry in view.walk("").unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata;
        let mut body = match metadata.file_type {
            FileType::Directory => "directory".to_owned(),
            FileType::File => {
                use std::io::Read as _;
                let mut bytes = Vec::new();
                view.open(&entry).unwrap().read_to_end(&mut bytes).unwrap();
                format!("file {:?}", String::from_utf8_lossy(&bytes))
            }
            FileType::Symlink => format!("link {:?}", view.read_link(&entry).unwrap()),
            FileType::Fifo => "fifo".to_owned(),
            FileType::Socket => "socket".to_owned(),
            FileType::CharDevice => format!("char {:?}", metadata.device_number),
            FileType::BlockDevice => format!("block {:?}", metadata.device_number),
        };
        if metadata.links > 1 && metadata.file_type != FileType::Directory {
            let group = (metadata.device, metadata.inode);
            let first = first.entry(group).or_insert_with(|| entry.path.clone());
            if *first != entry.path {
                body.push_str(&format!(" = {}", first.display()));
            }
        }
        for (name, value) in view.xattrs(&entry).unwrap() {
            body.push_str(&format!(" {}={:?}", name.display(), value));
        }
        tree.insert(entry.path, Node { mode: metadata.mode, owner: (metadata.uid, metadata.gid), body });
    }
    tree
}

/// Writes down what ordinary file calls show at `root`.
pub(crate) fn tree_on_disk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        // The root is asked for with a slash: it may be a link in /proc.
        let full = root.join("").join(&path);
        let metadata =
            fs::symlink_metadata(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        let kind = metadata.file_type();
        let body = if kind.is_dir() {
            open.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("link {:?}", fs::read_link(&full).unwrap())
        } else if kind.is_file() {
            format!("file {:?}", String::from_utf8_lossy(&fs::read(&full).unwrap()))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else {
            let kind = if kind.is_char_device() { "char" } else { "block" };
            let number = metadata.rdev();
            format!("{kind} {:?}", (rustix::fs::major(number), rustix::fs::minor(number)))
        };
        let mode = metadata.permissions().mode() & 0o7777;
        tree.insert(path, Node { mode, owner: (metadata.uid(), metadata.gid()), body });
    }
    tree
}

/// The paths of a tree, the root left out.
pub(crate) fn names(view: &View) -> Vec<String> {
    tree_of(view).into_keys().map(|path| path.display().to_string()).filter(|path| !path.is_empty()).collect()
}

pub(crate) fn content(view: &View, path: &str) -> String {
    use std::io::Read as _;
    let entry = view.lookup(path, Follow::Yes).unwrap().unwrap_or_else(|| panic!("{path} is not there"));
    let mut text = String::new();
    view.open(&entry).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// A directory of files given as path and content; a path that ends in `/` is a directory, a content that begins with
/// `->` a symlink.
pub(crate) fn source(files: &[(&str, &str)]) -> (TempDir, View) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let full = directory.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        match (path.strip_suffix('/'), text.strip_prefix("->")) {
            (Some(_), _) => fs::create_dir_all(&full).unwrap(),
            (None, Some(target)) => std::os::unix::fs::symlink(target, &full).unwrap(),
            (None, None) => fs::write(&full, text).unwrap(),
        }
    }
    let view = View::of_directory(directory.path());
    (directory, view)
}

/// Insists on an error of one kind.
#[macro_export]
macro_rules! refuses {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err($pattern) => {}
            other => panic!("expected {}, got {:?}", stringify!($pattern), other.map(drop)),
        }
    };
}

/// The error type is used by the macro above.
pub(crate) type Error = SnapshotError;

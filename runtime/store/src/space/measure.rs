//! What the state directory really occupies: blocks, each inode once, all that is in it.
//!
//! In: the directory. Out: bytes by piece, and of all else. A file that several pieces link is nobody's own: it goes with the last
//! of them. **Invariant:** the sum is what `du` says, as long as nobody writes. What goes away meanwhile counts as gone; what this
//! process may not look into, by its outside only. Costs a look at each file.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rb_oci::Digest;

use super::items::Item;
use crate::builds::is_build_name;
use crate::{Result, SnapshotId, StoreError};

/// What a piece occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// What its removal frees.
    pub(crate) own_bytes: u64,
    /// What other pieces link too.
    pub(crate) shared_bytes: u64,
    /// When something in it was changed last, in seconds since 1970.
    pub(crate) modified_unix: i64,
}

/// What everything occupies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// By piece.
    pub(crate) items: BTreeMap<Item, Size>,
    /// All of it.
    pub(crate) all_bytes: u64,
}

/// A file of several names.
struct Linked {
    bytes: u64,
    /// The piece that was met first; none for what is no piece.
    first: Option<Item>,
    is_shared: bool,
}

/// Looks at everything below `root`.
pub(crate) fn measure(root: &Path) -> Result<Sizes> {
    let mut walk = Walk { root: root.to_owned(), sizes: Sizes::default(), linked: BTreeMap::new() };
    walk.below()?;
    let Walk { mut sizes, linked, .. } = walk;
    for Linked { bytes, first, is_shared } in linked.into_values() {
        if let Some(item) = first {
            let size = sizes.items.entry(item).or_default();
            if is_shared { size.shared_bytes += bytes } else { size.own_bytes += bytes }
        }
    }
    Ok(sizes)
}

struct Walk {
    root: PathBuf,
    sizes: Sizes,
    linked: BTreeMap<(u64, u64), Linked>,
}

impl Walk {
    fn below(&mut self) -> Result<()> {
        let root = self.root.clone();
        let failed = |source| StoreError::io("stat", &root, source);
        self.count(&fs::symlink_metadata(&root).map_err(failed)?, None);
        let mut folders = vec![(root.clone(), Vec::<String>::new(), None)];
        while let Some((path, names, item)) = folders.pop() {
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                // It has gone, or is deeper than a path can name, or its owner shut it: what is in it stays unseen.
                Err(_) if path != root => continue,
                Err(source) => return Err(StoreError::io("list", &path, source)),
            };
            for entry in entries.filter_map(io::Result::ok) {
                let Ok(metadata) = entry.metadata() else { continue };
                let mut names = names.clone();
                let item = match &item {
                    Some(item) => Some(Item::clone(item)),
                    None => {
                        names.push(entry.file_name().to_string_lossy().into_owned());
                        piece(&names, metadata.is_dir())
                    }
                };
                self.count(&metadata, item.as_ref());
                if metadata.is_dir() {
                    folders.push((entry.path(), names, item));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, metadata: &Metadata, item: Option<&Item>) {
        let bytes = metadata.blocks().saturating_mul(512);
        let size = item.map(|item| self.sizes.items.entry(item.clone()).or_default());
        if metadata.is_dir() || metadata.nlink() < 2 {
            self.sizes.all_bytes += bytes;
            if let Some(size) = size {
                size.own_bytes += bytes;
                size.modified_unix = size.modified_unix.max(metadata.mtime());
            }
            return;
        }
        let file = (metadata.dev(), metadata.ino());
        match self.linked.get_mut(&file) {
            Some(known) => known.is_shared |= known.first.as_ref() != item,
            None => {
                self.sizes.all_bytes += bytes;
                self.linked.insert(file, Linked { bytes, first: item.cloned(), is_shared: false });
            }
        }
    }
}

/// Tells which piece a path begins, by the names of which it is made.
fn piece(names: &[String], is_folder: bool) -> Option<Item> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["snapshots", id] => id.parse().ok().map(|id| Item::Layer(SnapshotId(id))),
        ["blobs", "sha256", hex] => format!("sha256:{hex}").parse::<Digest>().ok().map(Item::Blob),
        ["caches", id, seed, name] if is_folder => Some(Item::Mount(format!("{id}/{seed}/{name}"))),
        ["git", name] if is_folder && !name.contains('.') => Some(Item::Git((*name).to_owned())),
        ["logs", name] if is_folder && is_build_name(name) => Some(Item::Log((*name).to_owned())),
        ["builds", file] => {
            // A record, and lists that go with it.
            let name = file.split_once('.').map(|(name, _)| name).filter(|name| is_build_name(name));
            name.map(|name| Item::Log(name.to_owned()))
        }
        ["partial", name] if !is_folder => Some(Item::Download((*name).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn du(path: &Path) -> u64 {
        let output = Command::new("du").args(["-s", "-B1", "--"]).arg(path).output().expect("du starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("says a number")
    }

    #[test]
    fn the_sum_is_what_du_says_and_links_are_nobodys_own() {
        let root = tempfile::tempdir().expect("temp dir");
        let at = |path: &str| root.path().join(path);
        let digest = Digest::of("blob");
        let build = "000000000009000-1-ff";
        for folder in
            ["snapshots/1/fs", "snapshots/2/fs", "caches/ab/empty/common/x", "git/0123", "blobs/sha256"]
        {
            fs::create_dir_all(at(folder)).expect("makes");
        }
        fs::create_dir_all(at(&format!("logs/{build}"))).expect("makes");
        fs::create_dir_all(at("builds")).expect("makes");
        for (path, bytes) in [
            ("snapshots/1/fs/one".to_owned(), 50_000),
            ("snapshots/1/fs/own".to_owned(), 9000),
            ("caches/ab/empty/common/x/y".to_owned(), 30_000),
            ("caches/ab/empty/common.lock".to_owned(), 0),
            ("git/0123/pack".to_owned(), 20_000),
            (format!("blobs/sha256/{}", digest.hex()), 70_000),
            (format!("logs/{build}/1.log"), 5000),
            (format!("builds/{build}.json"), 100),
            ("rb.db".to_owned(), 40_000),
        ] {
            fs::write(at(&path), vec![7; bytes]).expect("writes");
        }
        fs::hard_link(at("snapshots/1/fs/one"), at("snapshots/2/fs/one")).expect("links");
        fs::hard_link(at("snapshots/1/fs/own"), at("snapshots/1/fs/twin")).expect("links");
        let sizes = measure(root.path()).expect("measures");
        assert_eq!(sizes.all_bytes, du(root.path()));
        let of = |item: Item| sizes.items.get(&item).copied().expect("is a piece");
        let (one, two) = (of(Item::Layer(SnapshotId(1))), of(Item::Layer(SnapshotId(2))));
        assert!(one.shared_bytes + two.shared_bytes >= 50_000 && one.shared_bytes.min(two.shared_bytes) == 0);
        assert!(one.own_bytes >= 9000 && one.own_bytes < 50_000, "{one:?}");
        assert!(two.own_bytes < 9000 * 2, "{two:?}");
        assert!(of(Item::Mount("ab/empty/common".to_owned())).own_bytes >= 30_000);
        assert!(of(Item::Blob(digest)).own_bytes >= 70_000);
        assert!(of(Item::Git("0123".to_owned())).own_bytes >= 20_000);
        let log = of(Item::Log(build.to_owned()));
        assert!(log.own_bytes >= 5100 && log.modified_unix > 0);
        assert_eq!(sizes.items.len(), 6);
    }
}

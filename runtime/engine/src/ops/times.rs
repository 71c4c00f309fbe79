//! Times of files in a step with cache mounts: one that is not what the cache last saw is newer than all in it.
//!
//! `make`, `cargo` and the like compare the times of sources with those of what they built. The trees of the store keep
//! the times of the day they were first made: a file that went back to older content comes with an older time, and what
//! was built from the content in between would be taken for current. So each cache remembers the files that its last
//! step saw, by content, and with which time; a file that is another one now, and not newer than that step, is shown
//! with the time of today. In: a tree, the caches. Out: a layer to be mounted above the tree's, for this run only.
//!
//! ```text
//! caches/<id>/<seed>/common.seen   path in the step → digest and time, of the files that copies and steps before brought
//!                    common.used   when the last step ended, with a checksum; not there while one runs, or after one that died
//!                    common.times  locked while both are read and written
//! ```
//!
//! **Invariants:** the layer changes nothing but times, and what a step leaves is compared with the tree without it: no
//! key and no result knows of it. What cannot be told (the memory is lost, a step died) counts as changed. Files to which
//! a copy gave one time for all keep that.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rb_snapshot::{Active, ContentDigest, DriverKind, Editor, Follow, Snapshots, View};

use crate::error::EngineError;
use crate::value::Tree;

/// What a cache remembers of a file.
type Seen = HashMap<PathBuf, (ContentDigest, i64)>;

/// The memories of the caches of one step.
pub(super) struct Times<'a> {
    snapshots: &'a Snapshots,
    memories: Vec<Memory>,
    now_ns: i64,
    /// Held until the step begins.
    locks: Vec<File>,
    shown: Vec<Shown>,
}

/// Files of a tree under the copy driver that were given another time, each with it and its own.
struct Shown {
    files: Vec<(PathBuf, i64, i64)>,
}

/// The memory of one cache.
struct Memory {
    /// The cache's directory; the files are named after it.
    directory: PathBuf,
    seen: Seen,
    used_ns: Option<i64>,
    /// All that it ever saw is in `seen`.
    whole: bool,
    /// Nothing can have been built in it.
    empty: bool,
    changed: bool,
}

impl<'a> Times<'a> {
    /// Reads what the caches in `directories` remember, and holds them for others to wait.
    pub(super) fn new<'d>(
        snapshots: &'a Snapshots,
        directories: impl IntoIterator<Item = &'d Path>,
    ) -> Result<Self, EngineError> {
        let mut directories: Vec<&Path> = directories.into_iter().collect();
        // Everybody locks in the same order.
        directories.sort_unstable();
        directories.dedup();
        let now_ns = i64::try_from(snapshots.store().clock().now().as_nanos()).unwrap_or(i64::MAX);
        let mut times =
            Self { snapshots, memories: Vec::new(), now_ns, locks: Vec::new(), shown: Vec::new() };
        for directory in directories {
            let failed = |source| failed(directory, source);
            times.locks.push(lock(directory).map_err(failed)?);
            times.memories.push(Memory::read(directory).map_err(failed)?);
        }
        Ok(times)
    }

    /// Returns the layer to be mounted above those of `tree`, which is mounted at `target`; none if no time differs.
    pub(super) fn layer(&mut self, tree: &Tree, target: &str) -> Result<Option<Active>, EngineError> {
        let snapshots = self.snapshots;
        if self.memories.is_empty() || snapshots.driver() == DriverKind::Copy {
            return Ok(None);
        }
        let view = snapshots.view(tree.snapshot)?;
        let stale = self.stale(tree, target, &view)?;
        if stale.is_empty() {
            return Ok(None);
        }
        let active = snapshots.prepare(tree.snapshot)?;
        let editor = Editor::new(&active)?;
        let mut above: BTreeMap<PathBuf, i64> = BTreeMap::new();
        for (path, shown_ns, _) in &stale {
            editor.set_metadata(path, None, None, Some(*shown_ns))?;
            for directory in path.ancestors().skip(1) {
                if above.contains_key(directory) {
                    break;
                }
                if let Some(entry) = view.lookup(directory, Follow::No)? {
                    above.insert(directory.to_owned(), entry.metadata.modified_ns);
                }
            }
        }
        // The innermost first: bringing one up moves the time of the one around it.
        for (directory, modified_ns) in above.into_iter().rev() {
            editor.set_metadata(&directory, None, None, Some(modified_ns))?;
        }
        drop(editor);
        Ok(Some(active))
    }

    /// Does to a tree of the copy driver what [`Self::layer`] does above one of layers.
    pub(super) fn show(&mut self, active: &Active, tree: &Tree, target: &str) -> Result<(), EngineError> {
        let mut files = Vec::new();
        if !self.memories.is_empty() && active.driver() == DriverKind::Copy {
            files = self.stale(tree, target, &self.snapshots.view(tree.snapshot)?)?;
            let editor = Editor::new(active)?;
            for (path, shown_ns, _) in &files {
                editor.set_metadata(path, None, None, Some(*shown_ns))?;
            }
        }
        self.shown.push(Shown { files });
        Ok(())
    }

    /// Takes back what [`Self::show`] did to the trees in `actives`, in the order it did it.
    pub(super) fn unshow<'t>(&self, actives: impl Iterator<Item = &'t Active>) -> Result<(), EngineError> {
        for (active, Shown { files }) in actives.zip(&self.shown) {
            if files.is_empty() {
                continue;
            }
            let editor = Editor::new(active)?;
            for (path, shown_ns, own_ns) in files {
                let found = editor.view().lookup(path, Follow::No)?;
                if found.is_some_and(|entry| entry.metadata.modified_ns == *shown_ns) {
                    editor.set_metadata(path, None, None, Some(*own_ns))?;
                }
            }
        }
        Ok(())
    }

    /// Returns the files to be shown with another time, with it and their own; notes what is seen of all.
    fn stale(
        &mut self,
        tree: &Tree,
        target: &str,
        view: &View,
    ) -> Result<Vec<(PathBuf, i64, i64)>, EngineError> {
        let base = Path::new(target.trim_start_matches('/'));
        let mut stale = Vec::new();
        for (path, digest, modified_ns) in brought(self.snapshots, tree)? {
            let named = base.join(&path);
            let memories = self.memories.iter().filter(|memory| !memory.empty);
            let wanted = memories.map(|memory| memory.time(&named, digest, modified_ns, self.now_ns));
            let mut shown_ns = wanted.fold(modified_ns, i64::max);
            if shown_ns != modified_ns {
                // A later step may have put another file there, and that has its own time.
                let found = view.lookup(&path, Follow::No)?;
                if found.is_some_and(|entry| entry.metadata.modified_ns == modified_ns) {
                    stale.push((path, shown_ns, modified_ns));
                } else {
                    shown_ns = modified_ns;
                }
            }
            for memory in &mut self.memories {
                let old = memory.seen.insert(named.clone(), (digest, shown_ns));
                memory.changed |= old != Some((digest, shown_ns));
            }
        }
        stale.sort_unstable();
        Ok(stale)
    }

    /// To be called right before the step runs: remembers what it is about to see.
    pub(super) fn begin(&mut self) -> Result<(), EngineError> {
        for memory in &mut self.memories {
            let kept = memory.keep(&self.snapshots.store().temp_path());
            kept.map_err(|source| failed(&memory.directory, source))?;
        }
        self.locks.clear();
        Ok(())
    }

    /// To be called when the step has ended, however it did.
    pub(super) fn end(&self) -> Result<(), EngineError> {
        let now_ns = i64::try_from(self.snapshots.store().clock().now().as_nanos()).unwrap_or(i64::MAX);
        for Memory { directory, used_ns, .. } in &self.memories {
            let note = || {
                let _lock = lock(directory)?;
                // Others may have ended meanwhile; and the clock may have been set back.
                let latest = [Some(now_ns), used_of(directory)?, *used_ns].into_iter().flatten().max();
                fs::write(beside(directory, "used"), text_of(latest.unwrap_or(now_ns)))
            };
            note().map_err(|source| failed(directory, source))?;
        }
        Ok(())
    }
}

impl Memory {
    fn read(directory: &Path) -> io::Result<Self> {
        let seen = match fs::read(beside(directory, "seen")) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let whole = seen.is_some();
        let empty = !whole && holds_no_file(directory)?;
        let used_ns = used_of(directory)?;
        let seen = seen.unwrap_or_default();
        Ok(Self { directory: directory.to_owned(), seen, used_ns, whole, empty, changed: false })
    }

    /// Returns the earliest time at which the file can be shown.
    fn time(&self, path: &Path, digest: ContentDigest, modified_ns: i64, now_ns: i64) -> i64 {
        match self.seen.get(path) {
            Some((seen, shown_ns)) if *seen == digest => modified_ns.max(*shown_ns),
            // Nothing was built from a file of that name.
            None if self.whole => modified_ns,
            // All in the cache is older.
            _ if self.used_ns.is_some_and(|used_ns| modified_ns > used_ns) => modified_ns,
            _ => now_ns.max(self.used_ns.map_or(now_ns, |used_ns| used_ns.saturating_add(1))),
        }
    }

    fn keep(&mut self, made: &Path) -> io::Result<()> {
        match fs::remove_file(beside(&self.directory, "used")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if self.changed || self.empty {
            fs::write(made, encode(&self.seen))?;
            fs::rename(made, beside(&self.directory, "seen"))?;
        }
        Ok(())
    }
}

/// Returns the files that copies with their own times and steps brought into the tree, with their content.
fn brought(snapshots: &Snapshots, tree: &Tree) -> Result<Vec<(PathBuf, ContentDigest, i64)>, EngineError> {
    let mut files = Vec::new();
    for id in snapshots.layer_tops(tree.snapshot)? {
        let Some(manifest) = snapshots.manifest(id)?.filter(|manifest| manifest.keeps_times) else {
            continue;
        };
        files.extend(
            manifest.files().map(|(path, digest, modified_ns)| (path.to_owned(), digest, modified_ns)),
        );
    }
    // Of one path, what the topmost layer has: it comes last, and the order among equals stays.
    files.reverse();
    files.sort_by(|(left, ..), (right, ..)| left.as_os_str().cmp(right.as_os_str()));
    files.dedup_by(|(later, ..), (first, ..)| later == first);
    Ok(files)
}

fn failed(directory: &Path, source: io::Error) -> EngineError {
    EngineError::Cache { action: "remember the files of", id: directory.display().to_string(), source }
}

fn beside(directory: &Path, what: &str) -> PathBuf {
    directory.with_extension(what)
}

fn lock(directory: &Path) -> io::Result<File> {
    let path = beside(directory, "times");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    Ok(file)
}

/// Tells whether there are only directories in a cache: nobody built anything in it, whatever it was made from.
fn holds_no_file(directory: &Path) -> io::Result<bool> {
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                return Ok(false);
            }
            open.push(entry.path());
        }
    }
    Ok(true)
}

fn used_of(directory: &Path) -> io::Result<Option<i64>> {
    match fs::read_to_string(beside(directory, "used")) {
        // What is damaged tells as little as what is not there.
        Ok(text) => {
            let used_ns = text.split_once(' ').and_then(|(number, _)| number.parse().ok());
            Ok(used_ns.filter(|used_ns| text_of(*used_ns) == text))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A time as it is written down: with a checksum, since one that is too early would make what is stale pass.
fn text_of(used_ns: i64) -> String {
    let checksum: String = ContentDigest::of(used_ns.to_string()).as_bytes()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{used_ns} {checksum}")
}

/// Path, digest and time of each, and a checksum: the machine may go down while it is written.
fn encode(seen: &Seen) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(seen.len() * 96 + 32);
    let files = seen.iter().map(|(path, (digest, shown_ns))| (path.as_os_str().as_bytes(), digest, shown_ns));
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    for (path, digest, shown_ns) in files {
        bytes.extend_from_slice(&(path.len() as u64).to_le_bytes());
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&shown_ns.to_le_bytes());
    }
    let checksum = ContentDigest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Seen> {
    let (mut rest, checksum) = bytes.split_last_chunk::<32>()?;
    if ContentDigest::of(rest).as_bytes() != checksum {
        return None;
    }
    let mut seen = Seen::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<8>()?;
        let (path, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (digest, after) = after.split_first_chunk::<32>()?;
        let (shown_ns, after) = after.split_first_chunk::<8>()?;
        let file = (ContentDigest::from_bytes(*digest), i64::from_le_bytes(*shown_ns));
        seen.insert(PathBuf::from(OsStr::from_bytes(path)), file);
        rest = after;
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let digest = ContentDigest::of("x");
        [(PathBuf::from("a/b"), (digest, 5)), (PathBuf::from(OsStr::from_bytes(b"\n\xff")), (digest, -1))]
            .into()
    }

    #[test]
    fn memories_round_trip_and_torn_ones_are_none() {
        let bytes = encode(&seen());
        assert_eq!(decode(&bytes), Some(seen()));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(decode(&encode(&Seen::new())), Some(Seen::new()));
    }

    #[test]
    fn a_damaged_time_of_last_use_is_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = folder.path().join("common");
        let used = |bytes: &[u8]| {
            fs::write(beside(&cache, "used"), bytes).expect("writes");
            used_of(&cache).expect("reads")
        };
        let whole = text_of(1_790_000_000_123_456_789);
        assert_eq!(used(whole.as_bytes()), Some(1_790_000_000_123_456_789));
        assert_eq!([used(b""), used(b"17"), used(b"17\xb77")], [None; 3]);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(used(&flipped), None, "bit {bit}");
        }
    }

    /// Runs a step on `tree` that builds something; returns the time that `/a` was shown with.
    fn step(snapshots: &Snapshots, tree: &Tree, cache: &Path) -> i64 {
        let mut times = Times::new(snapshots, [cache]).expect("reads");
        let layer = times.layer(tree, "/").expect("makes");
        let active = snapshots.prepare(tree.snapshot).expect("prepares");
        times.show(&active, tree, "/").expect("shows");
        times.begin().expect("writes");
        let mut layers = active.lowers().to_vec();
        layers.push(layer.as_ref().unwrap_or(&active).upper().to_owned());
        let view = View::new(layers);
        let shown = view.lookup("/a", Follow::No).expect("looks").expect("is there").metadata.modified_ns;
        fs::write(cache.join("object"), "").expect("writes");
        times.end().expect("writes");
        times.unshow([&active].into_iter()).expect("takes back");
        // Nothing of it is a change.
        assert_eq!(rb_snapshot::diff(&active).expect("compares").changes, []);
        shown
    }

    #[test]
    fn under_both_drivers_what_changed_is_new_and_the_tree_stays() {
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = rb_store::Store::open(folder.path()).expect("opens");
            let snapshots = Snapshots::new(store, driver).expect("opens");
            let tree = |text: &str, modified_ns| {
                let active = snapshots.prepare(None).expect("prepares");
                let editor = Editor::new(&active).expect("opens");
                editor.mkfile("/a", 0o644, text.as_bytes(), None, Some(modified_ns)).expect("writes");
                drop(editor);
                let diff = rb_snapshot::diff(&active).expect("compares");
                active.keep_manifest(&rb_snapshot::Manifest::of(&diff, true)).expect("writes");
                let empty = rb_snapshot::ContentKey::empty();
                let (snapshot, content) = snapshots.commit(active, &diff, empty).expect("commits");
                Tree { snapshot: Some(snapshot), content, host: None }
            };
            let (one, two) = (tree("1", 1_000_000_000), tree("2", 2_000_000_000));
            let cache = folder.path().join("caches/common");
            // A cache may be made with directories in it.
            fs::create_dir_all(cache.join("begin/deep")).expect("makes");
            // Nothing was built yet, so any time will do.
            assert_eq!(step(&snapshots, &one, &cache), 1_000_000_000, "{driver:?}");
            let mut last = 2_000_000_000;
            for tree in [&two, &one, &two] {
                let shown = step(&snapshots, tree, &cache);
                assert!(shown > last, "{driver:?}");
                assert_eq!(step(&snapshots, tree, &cache), shown, "{driver:?}");
                last = shown;
            }
        }
    }

    #[test]
    fn what_is_another_file_is_newer_than_all_in_the_cache() {
        let memory = |used_ns| Memory {
            directory: PathBuf::new(),
            seen: seen(),
            used_ns,
            whole: true,
            empty: false,
            changed: false,
        };
        let (same, other) = (ContentDigest::of("x"), ContentDigest::of("y"));
        let (path, new) = (Path::new("a/b"), Path::new("new"));
        // The same file keeps the time it was seen with, or its own if that is newer.
        assert_eq!(memory(Some(10)).time(path, same, 3, 20), 5);
        assert_eq!(memory(Some(10)).time(path, same, 7, 20), 7);
        // Another one keeps its own if nothing was built since, or else gets today's.
        assert_eq!(memory(Some(10)).time(path, other, 11, 20), 11);
        assert_eq!(memory(Some(10)).time(path, other, 10, 20), 20);
        // From one that was never seen, nothing was built; unless the memory was lost.
        assert_eq!(memory(Some(10)).time(new, other, 3, 20), 3);
        assert_eq!(Memory { whole: false, ..memory(Some(10)) }.time(new, other, 3, 20), 20);
        // After a step that died nothing is known; after the clock was set back, today is not new enough.
        assert_eq!(memory(None).time(path, other, 11, 20), 20);
        assert_eq!(memory(Some(30)).time(path, other, 11, 20), 31);
    }
}

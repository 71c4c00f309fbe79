//! What happens between the walk and the reading, which no test from outside can place.

use std::fs;
use std::path::Path;

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    request: LocalRequest,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("d")).expect("makes");
        fs::write(folder.path().join("d/f"), "before").expect("writes");
        let request = LocalRequest {
            folder: folder.path().to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            normalise_modes: true,
        };
        Self { folder, request }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Walks, lets `change` happen, and reads.
    fn read_after(&self, change: impl Fn()) -> Result<Digested, SourceError> {
        let filter = Filter::new(&[], &[])?;
        let folder = open_folder(&self.request.folder)?;
        let found = Walk::new(&self.request, &filter).run(&folder)?;
        let stamp = found.iter().find_map(|found| match &found.look {
            Look::File { stamp, .. } => Some(*stamp),
            Look::Directory { .. } | Look::Symlink { .. } => None,
        });
        change();
        let stamp = stamp.expect("found the file");
        digest(&folder, &self.request, Path::new("d/f"), &stamp, &StatCache::default(), &Tally::default())
    }
}

#[test]
fn what_changes_between_walk_and_reading_is_an_error() {
    let fixture = Fixture::new();
    let digest = *blake3::hash(b"before").as_bytes();
    assert_eq!(fixture.read_after(|| {}).expect("reads"), Digested::New(digest));
    let secret = tempfile::NamedTempFile::new().expect("a secret");
    let file = fixture.at("d/f");
    let remove = || fs::remove_file(&file).expect("removes");
    let changes: [(&str, &dyn Fn()); 6] = [
        ("written", &|| fs::write(&file, "after!").expect("writes")),
        ("gone", &remove),
        ("a link", &|| {
            remove();
            std::os::unix::fs::symlink(secret.path(), &file).expect("links");
        }),
        ("a pipe", &|| {
            remove();
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).expect("makes");
        }),
        ("a folder", &|| {
            remove();
            fs::create_dir(&file).expect("makes");
        }),
        ("elsewhere", &|| {
            fs::remove_dir_all(fixture.at("d")).expect("removes");
            std::os::unix::fs::symlink("/etc", fixture.at("d")).expect("links");
        }),
    ];
    for (what, change) in changes {
        let found = fixture.read_after(change);
        assert!(
            matches!(&found, Err(SourceError::Changed { path }) if path == Path::new("d/f")),
            "{what}: {found:?}"
        );
        assert!(
            found.is_err_and(|error| error.kind() == rb_diag::ErrorKind::Input && error.help().is_some())
        );
        // Back to the beginning.
        if fs::symlink_metadata(fixture.at("d")).expect("is there").is_symlink() {
            fs::remove_file(fixture.at("d")).expect("removes");
            fs::create_dir(fixture.at("d")).expect("makes");
        }
        if file.is_dir() {
            fs::remove_dir(&file).expect("removes");
        }
        drop(fs::remove_file(&file));
        fs::write(&file, "before").expect("writes");
    }
}

#[test]
fn only_settled_files_are_remembered() {
    let stamp = |changed_ns| FileStamp { changed_ns, ..FileStamp::default() };
    let found = |changed_ns| Found {
        path: PathBuf::from("f"),
        metadata: Metadata::of(&rustix::fs::stat("/").expect("is there")),
        look: Look::File { mode: 0o644, stamp: stamp(changed_ns) },
    };
    let remembered = |changed_ns, digested| {
        let now_ns = 10_000_000_000;
        changes(&[found(changed_ns)], &[Some(digested)], now_ns).len()
    };
    assert_eq!(remembered(8_000_000_000, Digested::New([1; 32])), 1);
    assert_eq!(remembered(8_000_000_000, Digested::Outdated([1; 32])), 1);
    assert_eq!(remembered(8_000_000_000, Digested::Known([1; 32])), 0);
    assert_eq!(remembered(8_000_000_001, Digested::New([1; 32])), 0);
    assert_eq!(remembered(i64::MAX, Digested::New([1; 32])), 0);
}

#[test]
fn what_was_remembered_wrongly_can_be_forgotten() {
    let fixture = Fixture::new();
    let state = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(state.path()).expect("opens");
    let key = cache_key(&fixture.request.folder);
    let stamp = FileStamp { inode: 1, ..FileStamp::default() };
    let change = |path: &[u8]| StatChange { path: path.to_vec(), stamp, digest: [7; 32] };
    store.update_stat_cache(&key, &[change(b"d/f"), change(b"g")], &[]).expect("writes");
    let tree = scan(&store, &fixture.request, &Tally::default()).expect("reads");
    tree.forget(&store, Path::new("/d/f")).expect("writes");
    let cache = store.stat_cache(&key).expect("loads");
    assert!(!cache.contains(b"d/f") && cache.contains(b"g"));
}

/// Looks run on all cores, where a thread that waits for another takes up more files, one on top of the other.
#[test]
fn a_file_is_read_with_little_of_the_stack() {
    let work = || Fixture::new().read_after(|| {}).map(drop);
    let thread = std::thread::Builder::new().stack_size(48 << 10).spawn(work).expect("starts");
    thread.join().expect("ends").expect("reads");
}

//! Any lines as what a daemon asks for of a folder: it is told of what lies in it, and not of what is not lent along.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path);
    std::fs::create_dir_all(at("a/b")).expect("is made");
    for path in ["hidden", "f", "a/f", "a/b/f"] {
        std::fs::write(at(path), path).expect("is written");
    }
    for (target, path) in
        [("hidden", "to-hidden"), ("a/b", "in"), ("../..", "a/out"), ("/etc", "root"), ("loop", "loop")]
    {
        std::os::unix::fs::symlink(target, at(path)).expect("links");
    }
    folder
});

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::folder(bytes, FOLDER.path()));

//! Places looked for while somebody else changes the directory.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// A neighbour in a shared directory puts a link in the place of what was just made: what it leads to keeps its mode.
#[test]
fn a_link_in_the_place_of_what_was_made_is_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let shared = scratch.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let victim = scratch.path().join("victim");
    std::fs::write(&victim, "").unwrap();
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (place, link, stop) = (shared.join("made"), shared.join("link"), AtomicBool::new(false));
    symlink(&victim, &link).unwrap();
    let mode = || std::fs::metadata(&victim).unwrap().permissions().mode() & 0o777;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = || renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE).is_ok();
            while !stop.load(Ordering::Relaxed) {
                if exchange() {
                    std::thread::yield_now();
                    assert!(exchange());
                    std::fs::remove_dir(&place).unwrap();
                }
            }
        });
        for _ in 0..20_000 {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(&shared, flags, Mode::empty()).unwrap();
            // Whether it is found is a matter of luck.
            Tree::new(root, None).place("/made", Kind::Directory).ok();
            if mode() != 0o600 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(mode(), 0o600);
}

/// Sandboxes that share their root begin at once: each finds its places, whoever made them.
#[test]
fn places_in_a_shared_directory_may_be_made_by_another() {
    let scratch = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let shared = scratch.path().join(round.to_string());
        std::fs::create_dir(&shared).unwrap();
        let begin = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let root = rustix::fs::open(&shared, flags, Mode::empty()).unwrap();
                    let mut tree = Tree::new(root, None);
                    begin.wait();
                    let file = tree.place("/etc/deep/hosts", Kind::File).unwrap();
                    assert_eq!(file.path(), b"etc/deep/hosts");
                    tree.place("/proc", Kind::Directory).unwrap();
                });
            }
        });
    }
}

//! Disks that are full, file systems that are read-only, directories of somebody else: what the store says then.
//!
//! Each test runs this binary again, in a mount namespace or as a user of its own.

#![allow(clippy::print_stderr, reason = "a test says why it steps aside")]

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_store::{Store, StoreError, Truth, Unsuitable};

/// Runs the test `name` of this binary in `command`, with `root` on its stdin. Returns whether it could be started.
fn run(mut command: Command, name: &str, root: &Path) -> bool {
    command.args(["--exact", name, "--ignored", "--nocapture", "--quiet"]).stdin(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{name} steps aside: cannot start it as another user: {error}");
            return false;
        }
    };
    writeln!(child.stdin.as_mut().expect("is piped"), "{}", root.display()).expect("writes");
    assert!(child.wait().expect("ends").success(), "{name} failed");
    true
}

/// A command that runs this binary below a mount of its own; `None` where mounting is not allowed.
fn with_mount(mount: &str, root: &Path) -> Option<Command> {
    let script = |then: &str| {
        let mut command = Command::new("unshare");
        let text = format!("mount {mount} \"$0\" && {then}");
        command.args(["--mount", "sh", "-c", &text]).arg(root);
        command
    };
    let tried = script("true").output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("steps aside: cannot mount in a namespace of its own: {tried:?}");
        return None;
    }
    let mut command = script("exec \"$@\"");
    command.arg(std::env::current_exe().expect("has a path"));
    Some(command)
}

/// The directory that [`run`] names; `None` where the test was started by hand.
fn root_from_stdin() -> Option<PathBuf> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("reads");
    (!line.is_empty()).then(|| PathBuf::from(line.trim()))
}

fn check_help(error: &StoreError, root: &Path, words: &str) {
    assert_eq!(error.kind(), ErrorKind::Environment);
    let help = error.help().expect("helps");
    assert!(help.contains(&root.display().to_string()) && help.contains(words), "{help}");
}

#[test]
fn a_full_disk_is_called_that() {
    let root = tempfile::tempdir().expect("temp dir");
    let Some(command) = with_mount("-t tmpfs -o size=2m none", root.path()) else { return };
    run(command, "fills_the_disk", root.path());
}

#[test]
#[ignore = "the other process of the test above"]
fn fills_the_disk() {
    let Some(mount) = root_from_stdin() else { return };
    let root = mount.join("state");
    let words = "or set RB_ROOT to another";
    let store = Store::open(&root).expect("creates");
    let error = store.put_blob(&vec![7; 4 << 20]).expect_err("has no room");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    check_help(&error, &root, words);
    // Written in pieces by somebody who only sees `Write`.
    let mut writer = store.blob_writer().expect("starts");
    let error = writer.write_all(&vec![7; 4 << 20]).expect_err("has no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
    assert!(matches!(inner, Some(StoreError::DiskFull { .. })), "{error:?}");
    // What could not be written leaves nothing.
    drop(writer);
    store.put_blob(b"small").expect("has room again");

    let put = |number: u32| store.put_record(&Digest::of(number.to_le_bytes()), &[7; 50_000], &[]);
    let error = (0..1000).find_map(|number| put(number).err()).expect("fills the disk");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    check_help(&error, &root, words);
    assert!(store.record(&Digest::of(0_u32.to_le_bytes())).expect("reads").is_some());

    // Nothing at all is left for another store.
    let filler = mount.join("filler");
    let mut file = std::fs::File::create(filler).expect("has an inode");
    while file.write_all(&[7; 512]).is_ok() {}
    let error = Store::open(&mount.join("other")).expect_err("has no room");
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.help().expect("helps").contains(words));
}

#[test]
fn what_frees_room_begins_where_none_is_left() {
    let root = tempfile::tempdir().expect("temp dir");
    let Some(command) = with_mount("-t tmpfs -o size=160m none", root.path()) else { return };
    run(command, "frees_a_full_disk", root.path());
}

#[test]
#[ignore = "the other process of the test above"]
fn frees_a_full_disk() {
    let Some(mount) = root_from_stdin() else { return };
    let root = mount.join("state");
    let store = Store::open(&root).expect("creates");
    let tree = store.new_snapshot(None).expect("has room");
    let mut file = std::fs::File::create(store.snapshot_dir(tree).join("fs/file")).expect("has an inode");
    let tree = store.commit_snapshot(tree, 4, Some([4; 32])).expect("commits");
    drop(store);
    while file.write_all(&[7; 512]).is_ok() {}
    for _ in 0..2 {
        let store = Store::open(&root).expect("opens all the same");
        assert!(store.check_space().is_err() && !root.join("reserve").exists());
        drop(store);
        while file.write_all(&[7; 512]).is_ok() {}
        // It is not there a second time: whoever needs it removes first.
        if let Err(error) = Store::open(&root) {
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        }
        file.set_len(0).expect("shortens");
        drop(Store::open(&root).expect("opens"));
        assert!(root.join("reserve").exists());
        while file.write_all(&[7; 512]).is_ok() {}
    }
    let store = Store::open(&root).expect("opens all the same");
    store.delete_snapshot(tree).expect("removes");
}

#[test]
fn work_is_not_begun_on_a_disk_that_is_almost_full() {
    let root = tempfile::tempdir().expect("temp dir");
    let Some(command) = with_mount("-t tmpfs -o size=160m none", root.path()) else { return };
    run(command, "almost_fills_the_disk", root.path());
}

#[test]
#[ignore = "the other process of the test above"]
fn almost_fills_the_disk() {
    let Some(mount) = root_from_stdin() else { return };
    let root = mount.join("state");
    let store = Store::open(&root).expect("creates");
    let tree = store.new_snapshot(None).expect("has room");
    std::fs::write(store.snapshot_dir(tree).join("fs/file"), "kept").expect("writes");
    let count = |name: &str| std::fs::read_dir(root.join(name)).expect("lists").count();
    let check = |error: StoreError| {
        assert!(matches!(error, StoreError::DiskFull { left_bytes: Some(1..), .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("the disk of the state directory has only "), "{text}");
        assert!(text.ends_with(" MiB left"), "{text}");
        check_help(&error, &root, "or set RB_ROOT to another");
    };
    // 160 MiB are enough for 96, less those below which nothing long goes on.
    check(store.put_blob(&vec![7; 120 << 20]).expect_err("is too long"));
    assert_eq!(count("tmp"), 0);

    let filler = mount.join("filler");
    std::fs::write(&filler, vec![7; 100 << 20]).expect("fits");
    check(store.new_snapshot(Some(tree)).expect_err("is almost full"));
    check(store.check_space().expect_err("is almost full"));
    // What was begun is ended, and something can be removed.
    let tree = store.commit_snapshot(tree, 4, Some([4; 32])).expect("commits");
    store.put_record(&Digest::of("key"), b"value", &[tree]).expect("puts");
    store.put_blob(b"small").expect("has room");

    // Then nothing at all is left, whatever is tried; what was there before stays.
    let mut file = std::fs::File::create(mount.join("more")).expect("has an inode");
    while file.write_all(&[7; 4096]).is_ok() {}
    let failures = (0..2000_u32).filter_map(|number| {
        let bytes = number.to_le_bytes();
        let record = store.put_record(&Digest::of(bytes), &[7; 5000], &[tree]).err();
        record.into_iter().chain(store.put_blob(&[7; 5000]).err()).next()
    });
    let failures: Vec<_> = failures.collect();
    assert!(!failures.is_empty());
    assert!(failures.iter().all(|error| matches!(error, StoreError::DiskFull { .. })), "{failures:?}");
    assert!(store.record(&Digest::of("key")).expect("reads").is_some());
    assert_eq!(count("tmp"), 0);

    drop(file);
    std::fs::remove_file(mount.join("more")).expect("removes");
    std::fs::remove_file(filler).expect("removes");
    let next = store.new_snapshot(Some(tree)).expect("has room again");
    store.commit_snapshot(next, 0, Some([5; 32])).expect("commits");
    drop(store);
    let store = Store::open(&root).expect("opens");
    assert_eq!(store.warnings(), [""; 0]);
    let verified = store
        .verify(&mut |_| -> Result<Truth, StoreError> { Ok(Truth::True) }, &mut |_| {})
        .expect("is whole");
    assert_eq!((verified.snapshots, verified.bad_snapshots, verified.damaged_blobs), (2, vec![], vec![]));
    assert!(store.record(&Digest::of("key")).expect("reads").is_some());
}

#[test]
fn a_disk_without_room_for_another_file_is_called_full() {
    let root = tempfile::tempdir().expect("temp dir");
    let Some(command) = with_mount("-t tmpfs -o size=160m,nr_inodes=80 none", root.path()) else { return };
    run(command, "uses_up_the_inodes", root.path());
}

#[test]
#[ignore = "the other process of the test above"]
fn uses_up_the_inodes() {
    let Some(mount) = root_from_stdin() else { return };
    let root = mount.join("state");
    let store = Store::open(&root).expect("creates");
    let mut made = Vec::new();
    let error = loop {
        match store.new_snapshot(None) {
            Ok(id) => made.push(id),
            Err(error) => break error,
        }
        assert!(made.len() < 80, "each takes three inodes");
    };
    assert!(matches!(error, StoreError::DiskFull { left_bytes: None, .. }), "{error:?}");
    check_help(&error, &root, "or set RB_ROOT to another");
    // The half-made one left neither row nor directory.
    let ids = || -> Vec<_> { store.snapshots().expect("reads").into_iter().map(|row| row.id).collect() };
    assert_eq!(ids(), made);
    assert_eq!(std::fs::read_dir(root.join("snapshots")).expect("lists").count(), made.len());
    let last = made.pop().expect("has one");
    store.delete_snapshot(last).expect("removes");
    store.new_snapshot(None).expect("has room again");
}

#[test]
fn a_file_system_that_cannot_hold_layers_is_refused() {
    // It can hold no extended attributes; tmpfs can.
    for (kind, test) in [("ramfs", "opens_what_lacks_attributes"), ("tmpfs", "opens_what_has_all")] {
        let root = tempfile::tempdir().expect("temp dir");
        let Some(command) = with_mount(&format!("-t {kind} none"), root.path()) else { return };
        run(command, test, root.path());
    }
}

#[test]
#[ignore = "the other process of the test above"]
fn opens_what_lacks_attributes() {
    let Some(root) = root_from_stdin() else { return };
    let error = Store::open(&root).expect_err("cannot hold layers");
    let StoreError::Unsuitable { reason: Unsuitable::Lacks { what }, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*what, "extended attributes for this user");
    check_help(&error, &root, "set RB_ROOT to a directory other than");
    assert!(!root.join("format").exists());
    assert_eq!(std::fs::read_dir(root.join("tmp")).expect("lists").count(), 0);
}

#[test]
#[ignore = "the other process of the test above"]
fn opens_what_has_all() {
    let Some(root) = root_from_stdin() else { return };
    drop(Store::open(&root).expect("creates"));
    Store::open(&root).expect("opens").new_snapshot(None).expect("starts");
}

#[test]
fn root_does_not_build_in_the_directory_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("steps aside: only root can give a directory away");
        return;
    }
    for made in [false, true] {
        let root = tempfile::tempdir().expect("temp dir");
        if made {
            drop(Store::open(root.path()).expect("creates"));
        }
        let before = std::fs::metadata(root.path()).expect("stats").permissions();
        if let Err(error) = std::os::unix::fs::chown(root.path(), Some(65534), None) {
            eprintln!("steps aside: cannot give a directory away: {error}");
            return;
        }
        let error = Store::open(root.path()).expect_err("is of another user");
        assert!(matches!(error, StoreError::NoPermission { .. }), "{error:?}");
        assert!(error.to_string().contains("the state directory of another user, /"), "{error}");
        check_help(&error, root.path(), "run as the user who owns");
        assert_eq!(std::fs::metadata(root.path()).expect("stats").permissions(), before);
        assert_eq!(root.path().join("rb.db").exists(), made);
    }
}

#[test]
fn a_read_only_state_directory_is_called_that() {
    let root = tempfile::tempdir().expect("temp dir");
    drop(Store::open(&root.path().join("state")).expect("creates"));
    // The mount is of the directory onto itself.
    let mount = format!("--bind -o ro '{}'", root.path().display());
    let Some(command) = with_mount(&mount, root.path()) else { return };
    run(command, "opens_what_is_read_only", root.path());
}

#[test]
#[ignore = "the other process of the test above"]
fn opens_what_is_read_only() {
    let Some(mount) = root_from_stdin() else { return };
    for root in ["state", "missing"].map(|name| mount.join(name)) {
        let error = Store::open(&root).expect_err("cannot write");
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        check_help(&error, &root, "set RB_ROOT to a directory on another");
    }
}

#[test]
fn another_users_state_directory_is_called_that() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("steps aside: only root runs as another user");
        return;
    }
    let root = tempfile::tempdir().expect("temp dir");
    drop(Store::open(root.path()).expect("creates"));
    // Not to be entered; to be entered and not written; all but the database to be written.
    for round in 0..3 {
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmods");
        };
        match round {
            0 => mode(root.path(), 0o700),
            1 => mode(root.path(), 0o755),
            _ => {
                mode(root.path(), 0o777);
                mode(&root.path().join("locks"), 0o777);
            }
        }
        let mut command = Command::new(std::env::current_exe().expect("has a path"));
        command.uid(65534).gid(65534).current_dir("/");
        if !run(command, "opens_what_is_forbidden", root.path()) {
            return;
        }
    }
}

#[test]
#[ignore = "the other process of the test above"]
fn opens_what_is_forbidden() {
    let Some(root) = root_from_stdin() else { return };
    // A database that can only be read opens as such.
    let error = Store::open(&root)
        .and_then(|store| store.put_record(&Digest::of("key"), b"value", &[]))
        .expect_err("may not");
    assert!(matches!(error, StoreError::NoPermission { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no permission to "), "{error}");
    check_help(&error, &root, "RB_ROOT");
}

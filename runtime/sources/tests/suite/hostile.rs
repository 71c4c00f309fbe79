//! What strangers put into images to get out of them: nothing is read or written outside, and each gives a typed error.
//!
//! The cases are in several places, each at the lowest level that shows them; `images` is the module below this one:
//!
//! | case | test |
//! | --- | --- |
//! | `..` in names; absolute names; NUL bytes; the root as a file | `unpack::names_stay_inside`, here `names_are_bounded` |
//! | files through links: absolute, climbing, of a lower layer, of the same | `unpack::parents_that_are_links_are_followed_inside` |
//! | loops of links | the same; `rb-snapshot`: `hostile::loops_end` |
//! | hard links to `..`, to nothing, to folders, onto their own folder | `unpack::hard_links_stay_inside` |
//! | hard links to `/etc/passwd`, to a link that leads out, written through | here `hard_links_to_links_are_not_written_through` |
//! | deletions and opaque marks through links, in files, of `..` | here `deletions_stay_inside`; `unpack::marks_that_name_nothing_are_refused` |
//! | bookkeeping of aufs | `unpack::marks_that_name_nothing_are_refused` |
//! | entries that change their kind on the way | `unpack::kinds_replace_one_another`, here `a_name_that_changes_its_kind_leads_nowhere` |
//! | device nodes; the device 0/0; pipes and devices written to | `unpack::devices_are_made_by_root_alone`, `nothing_of_the_host_is_opened` |
//! | setuid, setgid | `unpack::modes_owners_and_times_are_kept`; as artifacts: `tests/cli/strangers.rs` |
//! | overlay's attributes: opaque, redirect, metacopy, whiteout; SELinux labels | here `attributes_do_not_steer_this_machine` |
//! | attributes that no file system takes | the same |
//! | PAX: injected records, sizes that lie, NUL, huge values | `unpack::records_of_pax_say_what_the_header_cannot`, here `records_that_lie` |
//! | long names of GNU | `archive::everything_is_bounded`, here `records_that_lie` |
//! | sparse maps: overlapping, overflowing, backwards, endless | `unpack::sparse_files_have_their_holes`, `archive::sparse_maps_are_bounded`, here `maps_of_holes_that_lie` |
//! | cut off; garbage behind; lone blocks; wrong sums; kinds that are none | `unpack::what_the_archive_is_not_true_about_is_refused` |
//! | a second archive behind the end | here `what_stands_behind_the_end_is_not_unpacked` |
//! | bombs: holes, zeros in gzip, the window of zstd | `unpack::a_bomb_of_holes_takes_no_disk`, here `bombs_take_neither_disk_nor_memory` |
//! | entries, names and depth without end | `archive::everything_is_bounded`, `unpack::deep_names_cost_little_and_end_somewhere`, here `names_are_bounded` |
//! | wrong size, digest, diff id; packed otherwise than said | `layout::blobs_are_what_their_descriptors_say`, `unpack::blobs_prove_what_they_are` |
//! | blobs that are links, pipes, devices, folders | `layout::blobs_are_regular_files`, `a_folder_is_a_layout_or_not` |
//! | layers and diff ids that do not match; 10,000 layers; 5 MiB | `layout::manifests_and_configs_agree`, `images::manifests_are_bounded` |
//! | indexes: loops, depth, a thousand times a thousand | `layout::indexes_in_indexes_end` |
//! | one document that is two; a config or layer that is an index | `layout::manifests_and_configs_agree`, `images::a_part_is_of_its_kind` |
//! | digests: sha512, capitals, paths, too short | `images::digests_are_sha256_in_small_letters` |
//! | `urls`, `data`; keys that are there twice; JSON without end | `images::nothing_is_fetched_or_taken_from_elsewhere`, `images::json_says_one_thing` |
//! | archives of images: names, links, documents | `bundle` |
//! | registries: redirects, realms, tokens, uploads, pages, ranges, headers | `rb-registry`: `hostile`, `pull`, `auth`, `push`, `lists`, `images` |
//! | steps that break out, by CVE | `rb-exec`: `escapes`; `rb-engine`: `mounts::privileged` |
//! | definitions, contexts and build files of strangers | `tests/conformance`: `hostile`; `local`; `tests/cli/strangers.rs` |

use std::fs;
use std::path::Path;

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_snapshot::DriverKind;
use rb_sources::SourceError;

use super::support::{Machine, Tar, tree};

mod images;

use images::one_layer;

fn tar() -> Tar {
    Tar::default()
}

/// Unpacks on both drivers; what differs from a typed error about the user's input, with this in its text, fails.
#[track_caller]
fn refused(layers: &[Vec<u8>], reason: &str) {
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        let machine = Machine::new(driver);
        let error = machine.unpack(layers).err().unwrap_or_else(|| panic!("unpacks: {reason}"));
        let typed = matches!(error, SourceError::Entry { .. } | SourceError::Blob { .. });
        assert!(typed && error.kind() == ErrorKind::Input, "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        // An error is for people: one line of no more than a few.
        assert!(error.to_string().len() < 1500, "{}", error.to_string().len());
        assert_eq!(machine.store().snapshots().unwrap().len(), layers.len() - 1, "{error}");
    }
}

#[track_caller]
fn becomes(layers: &[Vec<u8>], expected: &[(&str, &str)]) {
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        assert_eq!(Machine::new(driver).unpack(layers).unwrap().tree(), tree(expected), "{driver:?}");
    }
}

/// A folder of this machine, and that nothing in it changed in the end.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "hunter2").unwrap();
        Self(folder)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Its path as the tree of a layer shows it.
    fn inside(&self) -> &str {
        &self.path()[1..]
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let names: Vec<_> =
            fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.0.path().join("secret")).unwrap(), "hunter2");
    }
}

#[test]
fn hard_links_to_links_are_not_written_through() {
    let outside = Outside::new();
    let secret = format!("{}/secret", outside.path());
    // Of a file of this machine there is none in the tree.
    refused(&[tar().hard("a", "/etc/passwd").end()], "does not exist");
    refused(&[tar().hard("a", &secret).end()], "does not exist");
    refused(&[tar().symlink("out", outside.path()).hard("a", "out/secret").end()], "does not exist");
    refused(&[tar().hard("a", "x/../../y").end()], "link out of the tree");
    refused(&[tar().pax(&[("linkpath", b"a\0b")]).hard("a", "x").end()], "link out of the tree");
    for lower in [true, false] {
        let links = || tar().symlink("out", outside.path()).symlink("to", &secret);
        let through = |tar: Tar| {
            tar.hard("folder", "out")
                .hard("file", "to")
                .file("folder/x", "in")
                .file("file", "own")
                .file("to", "own")
        };
        let layers =
            if lower { vec![links().end(), through(tar()).end()] } else { vec![through(links()).end()] };
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let found = Machine::new(driver).unpack(&layers).unwrap().tree();
            assert_eq!((found["file"].as_str(), found["to"].as_str()), ("own", "own"));
            assert_eq!(found[&format!("{}/x", outside.inside())], "in");
            assert_eq!(found["folder"], format!("-> {}", outside.path()));
        }
    }
}

#[test]
fn deletions_stay_inside() {
    let outside = Outside::new();
    let base =
        || tar().symlink("out", outside.path()).symlink("up", "../../../../../..").file("f", "f").end();
    let there = [("f", "f"), ("out", &*format!("-> {}", outside.path())), ("up", "-> ../../../../../..")];
    let marks = ["out/.wh.secret", "out/.wh..wh..opq", &format!("up{}/.wh.secret", outside.path())];
    for mark in marks {
        becomes(&[base(), tar().file(mark, "").end()], &there);
    }
    // Nor does one in a file.
    becomes(&[base(), tar().file("f/.wh..wh..opq", "").file("f/.wh.x", "").end()], &there);
    refused(&[base(), tar().file("a/../../.wh.etc", "").end()], "leads out of the tree");
    refused(&[base(), tar().pax(&[("path", b".wh.a/../../b")]).file("x", "").end()], "leads out of the tree");
    refused(&[base(), tar().pax(&[("path", b".wh.a\0b")]).file("x", "").end()], "has a NUL byte");
}

#[test]
fn a_name_that_changes_its_kind_leads_nowhere() {
    let outside = Outside::new();
    let inside = |name: &str| format!("{}/{name}", outside.inside());
    let check = |layers: &[Vec<u8>], name: &str| {
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let found = Machine::new(driver).unpack(layers).unwrap().tree();
            assert_eq!(found[name], "x", "{found:?}");
        }
    };
    // A folder, then a link in its place, then a file through it, while the writer still knows the folder.
    let turns = || tar().dir("d").file("d/a", "").symlink("d", outside.path()).file("d/secret", "x");
    check(&[turns().end()], &inside("secret"));
    check(
        &[tar().dir("d").file("d/a", "").end(), tar().symlink("d", outside.path()).file("d/new", "x").end()],
        &inside("new"),
    );
    // And back.
    check(&[turns().dir("d").file("d/b", "x").end()], "d/b");
    check(&[tar().symlink("d", outside.path()).end(), tar().file(".wh.d", "").file("d/b", "x").end()], "d/b");
    // By way of a hard link to it, or of another link.
    check(&[tar().symlink("l", outside.path()).dir("d").hard("d", "l").file("d/x", "x").end()], &inside("x"));
    check(&[tar().symlink("l", "m").symlink("m", outside.path()).file("l/x", "x").end()], &inside("x"));
    // What is written where a link lies takes its place, whatever it is.
    let secret = format!("{}/secret", outside.path());
    let link = || tar().symlink("l", &secret).end();
    check(&[link(), tar().file("l", "x").end()], "l");
    becomes(&[link(), tar().device(b'6', "l", 0, 0).end()], &[("l", "Fifo")]);
    becomes(&[link(), tar().dir("l").end()], &[("l", "/")]);
}

#[test]
fn names_are_bounded() {
    let long = |count: usize| "n".repeat(count);
    let named = |name: &str| tar().pax(&[("path", name.as_bytes())]).file("x", "").end();
    becomes(&[named(&long(255))], &[(&long(255), "")]);
    for name in
        [long(256), format!("{}/x", long(256)), format!("a/{}", long(300)), format!(".wh.{}", long(256))]
    {
        refused(&[tar().file("a/b", "").end(), named(&name)], "name");
    }
    let target = |name: &str| tar().pax(&[("linkpath", name.as_bytes())]);
    refused(&[target(&long(256)).hard("h", "x").end()], "name");
    refused(&[target(&long(5000)).hard("h", "x").end()], "link out of the tree");
    refused(&[target(&long(5000)).symlink("s", "x").end()], "too long a path");
    refused(&[target(&long(256)).symlink("s", "x").file("s/y", "").end()], "name");
    // Half a million folders in one name: more than any path.
    refused(&[named(&("d/".repeat(500_000) + "x"))], "4095");
    refused(&[named(&("d/".repeat(600_000) + "x"))], "more than 1 MiB");
    refused(&[named(&("/".repeat(4000) + &"./".repeat(100)))], "4095");
    for name in [".", "./", "/", "//", "././/"] {
        becomes(&[tar().dir(name).file("a", "").end()], &[("a", "")]);
        refused(&[tar().symlink(name, "/etc").end()], "the root is a directory");
        refused(&[tar().file("a", "").hard(name, "a").end()], "the root is a directory");
        refused(&[tar().device(b'3', name, 1, 3).end()], "the root is a directory");
    }
}

#[test]
fn records_that_lie() {
    for (size, reason) in [
        (&b"9223372036854775808"[..], "cannot be"),
        (b"18446744073709551615", "cannot be"),
        (b"18446744073709551616", "not a number"),
        (b"9223372036854775807", "more bytes of content"),
        (b"100000", "ends in the middle of a file"),
        (b"+1", "not a number"),
        (b" 1", "not a number"),
        (b"0x1", "not a number"),
        (b"1e3", "not a number"),
        (b"1\n", "not a number"),
    ] {
        refused(&[tar().pax(&[("size", size)]).file("a", "").end()], reason);
    }
    for time in ["99999999999999999999", "nan", "inf", "-", "1.5.5"] {
        refused(&[tar().pax(&[("mtime", time.as_bytes())]).file("a", "").end()], "not a number");
    }
    refused(&[tar().symlink("a", "").end()], "symlink to nothing");
    refused(&[tar().pax(&[("linkpath", b"a\0b")]).symlink("a", "x").end()], "NUL byte");
    // A value may hold a newline, and is one name all the same.
    becomes(&[tar().pax(&[("path", b"a\nb")]).file("x", "1").end()], &[("a\nb", "1")]);
    // Records in records: the second stays what it is.
    let nested = tar().pax(&[("comment", b"x\n17 path=../../evil\n"), ("path", b"good")]);
    becomes(&[nested.file("x", "1").end()], &[("good", "1")]);
    let name = |size: u64, bytes: &[u8]| tar().raw(Tar::header(b'L', "././@LongLink", size), bytes);
    refused(&[name(1 << 30, b"x").end()], "more than 1 MiB");
    refused(&[name(1 << 20, &vec![b'a'; 1 << 20]).file("x", "").end()], "4095");
    refused(&[name(1000, b"x").0], "ends in the middle");
    refused(&[name(5, b"../x\0").file("x", "").end()], "leads out of the tree");
    // Many of them take turns; the last one counts.
    let many = (0..1000).fold(tar(), |tar, _| tar.raw(Tar::header(b'L', "././@LongLink", 3), b"no\0"));
    becomes(
        &[many.raw(Tar::header(b'L', "././@LongLink", 4), b"yes\0").file("x", "1").end()],
        &[("yes", "1")],
    );
}

#[test]
fn maps_of_holes_that_lie() {
    let map = |map: &[u8], size: &[u8]| {
        tar().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).file("x", "12345678").end()
    };
    for (parts, size) in [
        (&b"0,4,18446744073709551615,4"[..], &b"5000"[..]),
        (b"18446744073709551612,8", b"18446744073709551615"),
        (b"100,4,0,4", b"5000"),
        (b"0,8,4,0", b"5000"),
        (b"0,8", b"4"),
        (b"4999,8", b"5000"),
    ] {
        refused(&[map(parts, size)], "overlap or lie outside");
    }
    for parts in [&b"0,-8"[..], b"0,8,", b",", b"0 8", b"0x0,8"] {
        refused(&[map(parts, b"5000")], "not a number");
    }
    for parts in [&b"0,4"[..], b"0", b"0,4,4,5", b"0,18446744073709551615"] {
        refused(&[map(parts, b"18446744073709551615")], "as long as its data");
    }
    refused(&[map(b"0,8", b"1099511627777")], "more bytes of content");
    refused(&[tar().pax(&[("GNU.sparse.map", b"0,8")]).file("x", "12345678").end()], "has no size");
    let version = tar().pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]).file("x", "").end();
    refused(&[version], "a format that is not known");
}

#[test]
fn what_stands_behind_the_end_is_not_unpacked() {
    // Two archives in a row: a scanner that reads on sees other files than those that are unpacked.
    let two = [tar().file("a", "1").end(), tar().file("a", "2").file("../b", "3").end()].concat();
    becomes(&[two], &[("a", "1")]);
    becomes(&[[tar().file("a", "1").end(), vec![0xff; 100_000]].concat()], &[("a", "1")]);
    becomes(&[[tar().file("a", "1").end(), vec![0; 3]].concat()], &[("a", "1")]);
    becomes(&[Vec::new()], &[]);
}

#[test]
fn bombs_take_neither_disk_nor_memory() {
    let machine = Machine::new(DriverKind::Overlay);
    // A thousand times as much as the blob is.
    let zeros = 1 << 27;
    let mut bomb = tar().raw(Tar::header(b'0', "zeros", zeros), b"").0;
    bomb.resize(bomb.len() + usize::try_from(zeros).unwrap() + 1024, 0);
    let found = machine.unpack(std::slice::from_ref(&bomb)).unwrap();
    let metadata = found.entry("zeros").metadata;
    assert_eq!(metadata.size_bytes, zeros);
    assert!(metadata.allocated_bytes < 1 << 20, "{metadata:?}");
    // Behind the end: read, for its digest, and not kept.
    let behind = [tar().file("a", "").end(), vec![0; 1 << 27]].concat();
    assert_eq!(machine.unpack(&[behind]).unwrap().tree(), tree(&[("a", "")]));
    // One that is not finished, in a blob that is.
    bomb.truncate(1 << 20);
    refused(&[bomb], "ends in the middle of a file");
    // A frame of zstd that wants 2 GiB to be held in memory.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let error =
        one_layer(&window, &Digest::of(""), "application/vnd.oci.image.layer.v1.tar+zstd").unwrap_err();
    assert!(matches!(error, SourceError::Blob { .. }), "{error:?}");
}

#[test]
fn attributes_do_not_steer_this_machine() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("steps aside: these attributes are root's alone");
        return;
    }
    let named = |names: &[(&str, &[u8])]| -> Vec<(String, Vec<u8>)> {
        names.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.to_vec())).collect()
    };
    let evil = named(&[
        ("trusted.overlay.opaque", b"y"),
        ("trusted.overlay.redirect", b"/etc"),
        ("trusted.overlay.metacopy", b""),
        ("trusted.overlay.whiteout", b""),
        ("trusted.overlay.origin", b"x"),
        ("trusted.overlay.overlay.opaque", b"y"),
        ("user.overlay.opaque", b"y"),
        ("user.overlay.redirect", b"/etc"),
        ("user.overlay.whiteout", b""),
        ("security.selinux", b"system_u:object_r:unconfined_t:s0"),
        ("security.ima", b"x"),
        ("security.evm", b"x"),
        ("user.kept", b"1"),
    ]);
    let records: Vec<(&str, &[u8])> =
        evil.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let layer = tar()
        .pax(&records)
        .dir("d")
        .pax(&records)
        .file("d/f", "text")
        .pax(&records)
        .symlink("l", "d")
        .pax(&records)
        .dir(".")
        .pax(&records)
        .device(b'6', "p", 0, 0)
        .pax(&records)
        .file("d/.wh.none", "");
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        let machine = Machine::new(driver);
        let layers = [tar().file("d/below", "").end(), layer.0.clone()];
        let found = machine.unpack(&layers).unwrap();
        // What is below shows: nothing became opaque or went elsewhere.
        assert!(found.tree().contains_key("d/below"), "{driver:?}");
        let upper = machine.snapshots.chain(Some(found.id)).unwrap();
        assert_eq!(upper.len(), 2);
        for folder in fs::read_dir(machine.store().root().join("snapshots")).unwrap() {
            for path in all(&folder.unwrap().path().join("fs")) {
                let mut names = vec![0; 4096];
                let length = rustix::fs::llistxattr(&path, names.as_mut_slice()).unwrap();
                let names = String::from_utf8_lossy(&names[..length]).into_owned();
                for name in names.split('\0').filter(|name| !name.is_empty()) {
                    assert!(
                        !name.contains("overlay") && !name.starts_with("security"),
                        "{name} at {}",
                        path.display()
                    );
                }
            }
        }
    }
    // What a file system cannot hold is the layer's fault, and what it does not know is left out.
    let odd =
        |name: &str, value: &[u8]| tar().pax(&[(&format!("SCHILY.xattr.{name}"), value)]).file("f", "").end();
    becomes(&[odd("nonsense", b"x")], &[("f", "")]);
    becomes(&[odd("system.nonsense", b"x")], &[("f", "")]);
    refused(&[odd(&format!("user.{}", "n".repeat(300)), b"x")], "attribute");
    refused(&[odd("user.huge", &vec![b'x'; 70_000])], "attribute");
    becomes(&[odd("system.posix_acl_access", b"nonsense")], &[("f", "")]);
    refused(&[odd("system.posix_acl_access", b"\x02\0\0\0nonsense")], "attribute");
    refused(&[odd("security.capability", b"nonsense")], "attribute");
}

/// Everything below a folder, and the folder.
fn all(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(all(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

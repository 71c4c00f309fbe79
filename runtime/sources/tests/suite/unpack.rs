//! Layers, hostile ones above all: a typed error and nothing kept, or a tree that stays inside itself.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_snapshot::{DriverKind, FileType};
use rb_sources::SourceError;
use rb_sources::layout::{self, Wanted};
use serde_json::json;

use super::support::{LAYER, Layout, Machine, Tar, amd64, gzip, tree};

fn tar() -> Tar {
    Tar::default()
}

/// Runs on both drivers.
fn on_both(check: impl Fn(&Machine)) {
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        check(&Machine::new(driver));
    }
}

/// Unpacks on both drivers and compares with what should be there.
fn becomes(layers: &[Vec<u8>], expected: &[(&str, &str)]) {
    on_both(|machine| {
        let found = machine.unpack(layers).unwrap();
        assert_eq!(found.tree(), tree(expected), "{:?}", machine.snapshots.driver());
    });
}

/// The last layer is refused with a typed error, and nothing of it is kept.
fn refused(layers: &[Vec<u8>], reason: &str) {
    on_both(|machine| {
        let error = machine.unpack(layers).err().unwrap_or_else(|| panic!("unpacks: {reason}"));
        let typed = matches!(error, SourceError::Entry { .. } | SourceError::Blob { .. });
        assert!(typed && error.to_string().contains(reason), "{error}");
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(machine.store().snapshots().unwrap().len(), layers.len() - 1, "{error}");
        let folders = fs::read_dir(machine.store().root().join("snapshots")).unwrap().count();
        assert_eq!(folders, layers.len() - 1, "{error}");
        assert_eq!(fs::read_dir(machine.store().root().join("tmp")).unwrap().count(), 0);
    });
}

fn usr() -> Vec<u8> {
    tar().dir("usr/").dir("usr/bin/").file("usr/bin/sh", "sh").symlink("bin", "usr/bin").end()
}

#[test]
fn names_stay_inside() {
    refused(&[tar().file("../x", "").end()], "leads out of the tree");
    refused(&[tar().file("a/../../x", "").end()], "leads out of the tree");
    refused(&[tar().pax(&[("path", b"a\0b")]).file("x", "").end()], "has a NUL byte");
    refused(&[tar().file("./", "").end()], "the root is a directory");
    becomes(
        &[tar().file("/etc/x", "in").file("././y", "in").end()],
        &[("etc", "/"), ("etc/x", "in"), ("y", "in")],
    );
}

#[test]
fn parents_that_are_links_are_followed_inside() {
    becomes(
        &[usr(), tar().file("bin/x", "x").end()],
        &[("bin", "-> usr/bin"), ("usr", "/"), ("usr/bin", "/"), ("usr/bin/sh", "sh"), ("usr/bin/x", "x")],
    );
    becomes(
        &[tar().symlink("l", "a/b").file("l/x", "x").end()],
        &[("a", "/"), ("a/b", "/"), ("a/b/x", "x"), ("l", "-> a/b")],
    );
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = "../../../../../../../../..";
    for target in [target.to_owned(), format!("{up}{target}")] {
        on_both(|machine| {
            let layers = [tar().symlink("out", &target).end(), tar().file("out/x", "x").end()];
            let found = machine.unpack(&layers).unwrap().tree();
            assert_eq!(found[&format!("{}/x", outside.path().to_str().unwrap()[1..].to_owned())], "x");
        });
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    refused(&[tar().symlink("a", "b").symlink("b", "a").file("a/x", "").end()], "symbolic links");
    refused(&[tar().file("a", "").file("a/x", "").end()], "not a directory");
}

#[test]
fn hard_links_stay_inside() {
    refused(&[tar().hard("a", "../etc/passwd").end()], "link out of the tree");
    refused(&[tar().hard("a", "missing").end()], "does not exist");
    refused(&[tar().dir("d").hard("a", "d").end()], "is a directory");
    refused(&[tar().hard("a", "").end()], "is a directory");
    refused(&[tar().file("d/x", "").hard("d", "d/x").end()], "replace the directory");
    on_both(|machine| {
        let above = tar().hard("x", "bin/sh").hard("y", "/x").hard("x", "x").hard("l", "bin").end();
        let found = machine.unpack(&[usr(), above]).unwrap();
        assert_eq!(found.tree()["x"], "sh");
        assert_eq!(found.tree()["l"], "-> usr/bin");
        let inode = |path: &str| found.entry(path).metadata.inode;
        assert_eq!((inode("x"), inode("y")), (inode("usr/bin/sh"), inode("usr/bin/sh")));
        assert_eq!(inode("l"), inode("bin"));
    });
}

#[test]
fn devices_are_made_by_root_alone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("steps aside: making devices takes root");
        return;
    }
    on_both(|machine| {
        let layer = tar().device(b'3', "null", 1, 3).device(b'4', "disk", 8, 0).device(b'6', "pipe", 0, 0);
        let found = machine.unpack(&[layer.end()]).unwrap();
        let device = |path: &str| {
            let metadata = found.entry(path).metadata;
            (metadata.file_type, metadata.device_number, metadata.mode)
        };
        assert_eq!(device("null"), (FileType::CharDevice, (1, 3), 0o644));
        assert_eq!(device("disk"), (FileType::BlockDevice, (8, 0), 0o644));
        assert_eq!(device("pipe").0, FileType::Fifo);
    });
    refused(&[tar().device(b'3', "gone", 0, 0).end()], "0/0");
}

#[test]
fn deletions_hide_what_is_below_and_only_that() {
    let base = || tar().file("d/old", "old").file("d/sub/old", "old").file("f", "old").end();
    let d = [("d", "/"), ("d/old", "old"), ("d/sub", "/"), ("d/sub/old", "old")];
    becomes(&[base(), tar().file(".wh.f", "").file("no/.wh.x", "").file(".wh.none", "").end()], &d);
    becomes(&[base(), tar().file(".wh.d", "").end()], &[("f", "old")]);
    becomes(&[base(), tar().file("d/.wh.sub", "").file("d/.wh.old", "").end()], &[("d", "/"), ("f", "old")]);
    // The same layer's own entries stay, in any order.
    let new = [("d", "/"), ("d/new", "new"), ("d/sub", "/"), ("d/sub/new", "new"), ("f", "new")];
    for mark in ["d/.wh..wh..opq", ".wh.d"] {
        let entries = |tar: Tar| tar.file("d/new", "new").file("d/sub/new", "new").file("f", "new");
        becomes(&[base(), entries(tar().file(mark, "").file(".wh.f", "")).end()], &new);
        becomes(&[base(), entries(tar()).file(mark, "").file(".wh.f", "").end()], &new);
        let between = tar().file("d/new", "new").file(mark, "").file("d/sub/new", "new").file("f", "new");
        becomes(&[base(), between.end()], &new);
    }
    becomes(&[base(), tar().file("x", "x").file(".wh..wh..opq", "").end()], &[("x", "x")]);
    becomes(
        &[usr(), tar().file("bin/.wh.sh", "").end()],
        &[("bin", "-> usr/bin"), ("usr", "/"), ("usr/bin", "/")],
    );
    becomes(
        &[usr(), tar().file("usr/.wh.bin", "").file("bin/new", "x").end()],
        &[("bin", "-> usr/bin"), ("usr", "/"), ("usr/bin", "/"), ("usr/bin/new", "x")],
    );
}

#[test]
fn marks_that_name_nothing_are_refused() {
    for name in [".wh.", "a/.wh.", "a/.wh..", "a/b/.wh..."] {
        refused(&[tar().file("a/b/c", "").end(), tar().file(name, "").end()], "nothing in particular");
    }
    refused(&[tar().file(".wh.a/x", "").end()], "said to be deleted");
    // The bookkeeping of aufs.
    let layer =
        tar().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "").file("a", "a");
    becomes(&[layer.end()], &[("a", "a")]);
}

#[test]
fn kinds_replace_one_another() {
    let base = || tar().file("d/x", "x").file("f", "f").symlink("l", "d").end();
    becomes(
        &[base(), tar().file("d", "file").dir("f").dir("l").end()],
        &[("d", "file"), ("f", "/"), ("l", "/")],
    );
    becomes(
        &[base(), tar().file("d", "file").dir("d").file("d/new", "new").file("l/y", "y").end()],
        &[("d", "/"), ("d/new", "new"), ("d/y", "y"), ("f", "f"), ("l", "-> d")],
    );
    becomes(
        &[tar().file("a", "1").file("a", "2").dir("b").file("b/x", "x").dir("b").end()],
        &[("a", "2"), ("b", "/"), ("b/x", "x")],
    );
    // A file that is written anew is not the one below, nor its other name.
    on_both(|machine| {
        let layers = [tar().file("a", "old").hard("b", "a").end(), tar().file("a", "new").end()];
        assert_eq!(machine.unpack(&layers).unwrap().tree(), tree(&[("a", "new"), ("b", "old")]));
        assert_eq!(machine.unpack(&layers[..1]).unwrap().tree(), tree(&[("a", "old"), ("b", "old")]));
    });
}

#[test]
fn what_the_archive_is_not_true_about_is_refused() {
    let plain = tar().file("a", "some text").end();
    refused(&[plain[..300].to_vec()], "ends in the middle of a header");
    refused(&[plain[..518].to_vec()], "ends in the middle of a file");
    // Nothing is missing but what fills the last block up.
    becomes(&[plain[..521].to_vec()], &[("a", "some text")]);
    refused(&[vec![1; 512]], "a number in a header is none");
    refused(&[vec![b'1'; 512]], "checksum");
    let skipped = tar().raw(Tar::header(b'g', "g", 1000), b"x").0;
    refused(&[skipped], "ends in the middle of an entry");
    let mut lone = tar().file("a", "").0;
    lone.resize(lone.len() + 512, 0);
    refused(&[[lone, tar().file("b", "").end()].concat()], "lone block");
    refused(&[tar().raw(Tar::header(b'9', "a", 0), b"").end()], "of a kind");
    refused(&[tar().pax(&[("path", b"x")]).end()], "describes the next entry");
    refused(&[tar().pax(&[("size", b"-1")]).file("a", "").end()], "not a number");
    refused(&[tar().pax(&[("uid", b"4294967296")]).file("a", "").end()], "32 bits");
    refused(&[tar().pax(&[("uid", b"4294967295")]).file("a", "").end()], "32 bits");
    refused(&[tar().raw(Tar::header(b'x', "x", 9), b"9 path=a\0").file("a", "").end()], "malformed");
    refused(&[tar().raw(Tar::header(b'x', "x", 9), b"99 path=a").file("a", "").end()], "malformed");
}

/// Puts one layer into a layout whose blob and config may lie.
fn forged(blob: &[u8], diff_id: &Digest, media_type: &str) -> Result<(), SourceError> {
    let layout = Layout::new();
    let layer = layout.put(media_type, blob);
    let config = json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]}});
    let config = layout.put_json("application/vnd.docker.container.image.v1+json", &config);
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    layout.index(&[layout.put_json(media_type, &manifest)]);
    let image = layout::find(layout.path(), &Wanted::Tag(None), &amd64()).unwrap();
    let machine = Machine::new(DriverKind::Overlay);
    let result = machine.unpack_image(&image).map(|_| ());
    assert_eq!(machine.store().snapshots().unwrap().len(), usize::from(result.is_ok()));
    result
}

#[test]
fn blobs_prove_what_they_are() {
    let tar = tar().file("a", &"text ".repeat(1000)).end();
    let (packed, id) = (gzip(&tar), Digest::of(&tar));
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    for media_type in [LAYER, docker, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"] {
        assert!(forged(&packed, &id, media_type).is_ok(), "{media_type}");
    }
    for media_type in
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"]
    {
        assert!(forged(&tar, &id, media_type).is_ok(), "{media_type}");
    }
    let blob = |result| matches!(result, Err(SourceError::Blob { .. }));
    assert!(blob(forged(&packed, &Digest::of("other"), LAYER)));
    assert!(blob(forged(&packed[..packed.len() / 2], &id, LAYER)));
    assert!(blob(forged(&[packed.as_slice(), b"garbage"].concat(), &id, LAYER)));
    // Garbage behind the end of the archive that the diff id does not know of.
    assert!(blob(forged(&gzip(&[tar.as_slice(), b"garbage"].concat()), &id, LAYER)));
    // How it is packed its first bytes say; that it is the right one, its diff id.
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    for (bytes, media_type) in
        [(&tar, LAYER), (&packed, "application/vnd.oci.image.layer.v1.tar"), (&packed, zstd)]
    {
        assert!(forged(bytes, &id, media_type).is_ok(), "{media_type}");
        assert!(blob(forged(bytes, &Digest::of("other"), media_type)));
    }
}

#[test]
fn records_of_pax_say_what_the_header_cannot() {
    let long = format!("long/{}", "n".repeat(200));
    let to = "t".repeat(300);
    // A capability with a newline byte in it: cap_net_raw and cap_net_bind_service, permitted and effective.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x0a, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    on_both(|machine| {
        let layer = tar()
            .pax(&[
                ("path", long.as_bytes()),
                ("size", b"4"),
                ("uid", b"3000000000"),
                ("gid", b"70000"),
                ("mtime", b"-1.5"),
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.user.note", b"a\n18 path=injected\n"),
                ("SCHILY.xattr.user.empty", b""),
                ("SCHILY.xattr.security.selinux", b"label"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ])
            .raw(Tar::header(b'0', "short", 0), b"1234")
            .pax(&[("linkpath", to.as_bytes()), ("path", b"l")])
            .symlink("x", "y")
            .raw(Tar::header(b'L', "././@LongLink", 4), b"gnu\0")
            .pax(&[("path", b"pax")])
            .file("ustar", "")
            .raw(Tar::header(b'g', "global", 14), b"14 path=all=1\n")
            .file("after", "x")
            .end();
        let found = machine.unpack(&[layer]).unwrap();
        let names: Vec<String> = found.tree().into_keys().collect();
        assert_eq!(names, ["after", "gnu", "l", "long", &long]);
        let entry = found.entry(&long);
        assert_eq!(found.bytes(&long), b"1234");
        assert_eq!((entry.metadata.uid, entry.metadata.gid), (3_000_000_000, 70_000));
        assert_eq!(entry.metadata.modified_ns, -1_500_000_000);
        assert_eq!(found.tree()["l"], format!("-> {to}"));
        let xattrs = found.view.xattrs(&entry).unwrap();
        assert_eq!(xattrs.keys().collect::<Vec<_>>(), ["security.capability", "user.empty", "user.note"]);
        assert_eq!(xattrs[std::ffi::OsStr::new("security.capability")], capability);
        assert_eq!(xattrs[std::ffi::OsStr::new("user.note")], b"a\n18 path=injected\n");
    });
}

#[test]
fn sparse_files_have_their_holes() {
    let mut expected = vec![0; 5000];
    expected[1000..1004].copy_from_slice(b"data");
    expected[4096..4100].copy_from_slice(b"more");
    let data = b"datamore";
    let mut old = Tar::header(b'S', "old", 8);
    let put = |bytes: &mut [u8], at: usize, text: &str| {
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    {
        let bytes = old.as_mut_bytes();
        bytes[257..265].copy_from_slice(b"ustar  \0");
        for (at, text) in
            [(386, "00000001750"), (398, "00000000004"), (410, "00000010000"), (422, "00000000004")]
        {
            put(bytes, at, text);
        }
        put(bytes, 483, "00000011610");
    }
    let mut extended = Tar::header(b'S', "extended", 8);
    extended.as_mut_bytes().copy_from_slice(&{
        let mut bytes = *old.as_bytes();
        bytes[..8].copy_from_slice(b"extended");
        bytes[410..434].fill(0);
        bytes[482] = 1;
        bytes
    });
    let mut block = [0; 512];
    put(&mut block, 0, "00000010000");
    put(&mut block, 12, "00000000004");
    let mut map = b"2\n1000\n4\n4096\n4\n".to_vec();
    map.resize(512, 0);
    on_both(|machine| {
        let mut layer = tar().raw(old.clone(), data);
        let mut header = extended.clone();
        header.set_cksum();
        layer.0.extend_from_slice(header.as_bytes());
        layer.0.extend_from_slice(&block);
        layer.0.extend_from_slice(data);
        layer.0.resize(layer.0.len().next_multiple_of(512), 0);
        let layer = layer
            .pax(&[
                ("GNU.sparse.map", b"1000,4,4096,4"),
                ("GNU.sparse.size", b"5000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.name", b"v01"),
            ])
            .raw(Tar::header(b'0', "GNUSparseFile.0/v01", 8), data)
            .pax(&[
                ("GNU.sparse.size", b"5000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"1000"),
                ("GNU.sparse.numbytes", b"4"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"4"),
            ])
            .raw(Tar::header(b'0', "v00", 8), data)
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"v10"),
                ("GNU.sparse.realsize", b"5000"),
            ])
            .raw(Tar::header(b'0', "GNUSparseFile.0/v10", 520), &[map.as_slice(), data].concat())
            .file("after", "x");
        let found = machine.unpack(&[layer.end()]).unwrap();
        for name in ["old", "extended", "v00", "v01", "v10"] {
            assert!(found.bytes(name) == expected, "{name}");
        }
        assert_eq!(found.bytes("after"), b"x");
    });
    refused(
        &[tar()
            .pax(&[("GNU.sparse.map", b"0,8,4,4"), ("GNU.sparse.size", b"5000")])
            .file("x", "12345678")
            .end()],
        "overlap",
    );
    refused(
        &[tar().pax(&[("GNU.sparse.map", b"0,9"), ("GNU.sparse.size", b"5000")]).file("x", "12345678").end()],
        "as long as",
    );
}

#[test]
fn a_bomb_of_holes_takes_no_disk() {
    on_both(|machine| {
        let size = (1_u64 << 27).to_string();
        let layer = tar()
            .pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", size.as_bytes())])
            .file("bomb", "x")
            .end();
        let found = machine.unpack(&[layer]).unwrap();
        let metadata = found.entry("bomb").metadata;
        assert_eq!(metadata.size_bytes, 1 << 27);
        assert!(metadata.allocated_bytes < 1 << 20);
        let row = machine.store().snapshot(found.id).unwrap().unwrap();
        assert!(row.size_bytes < 1 << 20);
    });
    let huge = (1_u64 << 41).to_string();
    let layer = tar().pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", huge.as_bytes())]).file("b", "x");
    refused(&[layer.end()], "more bytes of content");
}

#[test]
fn deep_names_cost_little_and_end_somewhere() {
    let started = std::time::Instant::now();
    let deep = "d/".repeat(50_000) + "x";
    refused(&[tar().pax(&[("path", deep.as_bytes())]).file("x", "").end()], "4095");
    let half = "d/".repeat(2_000) + "x";
    on_both(|machine| {
        let layer = tar().pax(&[("path", half.as_bytes())]).file("x", "deep").end();
        assert_eq!(machine.unpack(&[layer]).unwrap().bytes(&half), b"deep");
    });
    // Deeper by way of a link.
    let to = "d/".repeat(2_000);
    let layer = tar()
        .pax(&[("linkpath", to.as_bytes())])
        .symlink("l", "")
        .pax(&[("path", ("l/".to_owned() + &half).as_bytes())]);
    refused(&[layer.file("x", "").end()], "4095");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn modes_owners_and_times_are_kept() {
    let mut program = Tar::header(b'0', "bin/su", 0);
    program.set_mode(0o4755);
    program.set_uid(1);
    program.set_gid(2);
    let mut folder = Tar::header(b'5', "bin", 0);
    folder.set_mode(0o2751);
    folder.set_mtime(77);
    on_both(|machine| {
        let layers = [
            tar().raw(folder.clone(), b"").raw(program.clone(), b"").file("implied/x", "").end(),
            tar().file("bin/new", "").file("implied/y", "").file("bin/.wh.none", "").end(),
        ];
        let found = machine.unpack(&layers).unwrap();
        let (su, bin) = (found.entry("bin/su").metadata, found.entry("bin").metadata);
        assert_eq!((su.mode, su.uid, su.gid, su.modified_ns), (0o4755, 1, 2, 1_000_000_000_000_000_000));
        assert_eq!((bin.mode, bin.modified_ns), (0o2751, 77_000_000_000));
        let implied = found.entry("implied").metadata;
        assert_eq!((implied.mode, implied.uid, implied.gid, implied.modified_ns), (0o755, 0, 0, 0));
    });
    // A link that takes a directory's place does not carry its time elsewhere.
    on_both(|machine| {
        let layer = tar().dir("a").raw(folder.clone(), b"").symlink("bin", "a").end();
        assert_eq!(
            machine.unpack(&[layer]).unwrap().entry("a").metadata.modified_ns,
            1_000_000_000_000_000_000
        );
    });
}

#[test]
fn a_failing_image_keeps_only_whole_layers() {
    on_both(|machine| {
        let good = tar().file("a", "a").end();
        let error =
            machine.unpack(&[good.clone(), tar().file("b", "b").file("../x", "").end()]).err().unwrap();
        assert!(matches!(error, SourceError::Entry { .. }));
        let rows = machine.store().snapshots().unwrap();
        assert_eq!(rows.len(), 1);
        // What was whole is found again.
        let found = machine.unpack(&[good, tar().file("b", "b").end()]).unwrap();
        assert_eq!(found.tree(), tree(&[("a", "a"), ("b", "b")]));
        assert_eq!(machine.snapshots.chain(Some(found.id)).unwrap()[0], rows[0].id);
    });
}

#[test]
fn nothing_of_the_host_is_opened() {
    let outside = tempfile::tempdir().unwrap();
    let pipe = outside.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Writing where a pipe, a device or a link lies replaces it.
    on_both(|machine| {
        let layers = [
            tar().symlink("a", pipe.to_str().unwrap()).device(b'6', "p", 0, 0).device(b'3', "n", 1, 3).end(),
            tar().file("a", "1").file("p", "2").file("n", "3").end(),
        ];
        assert_eq!(machine.unpack(&layers).unwrap().tree(), tree(&[("a", "1"), ("n", "3"), ("p", "2")]));
    });
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert!(Path::new("/dev/null").exists());
}

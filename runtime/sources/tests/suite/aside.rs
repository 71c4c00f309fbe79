//! Layers that are unpacked at once become what they become one after the other.

use std::io::Read as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rb_oci::{Descriptor, Digest};
use rb_snapshot::{DriverKind, FileType, View};
use rb_sources::SourceError;
use rb_sources::layout::LayoutImage;
use rb_sources::unpack::{self, Ownership, PackedLayer};

use super::support::{Layout, Machine, Tar};

/// Everything there is of a tree, but the time of its root, which nobody says.
fn everything(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in view.walk("").unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata;
        let content = match metadata.file_type {
            FileType::Symlink => format!("{:?}", view.read_link(&entry).unwrap()),
            FileType::File => {
                let mut text = String::new();
                view.open(&entry).unwrap().read_to_string(&mut text).unwrap();
                text
            }
            _ => String::new(),
        };
        let is_root = entry.path.as_os_str().is_empty();
        let time = if is_root { 0 } else { metadata.modified_ns };
        lines.push(format!(
            "{:?} {:?} {:o} {}:{} {time} {content} {:?}",
            entry.path,
            metadata.file_type,
            metadata.mode,
            metadata.uid,
            metadata.gid,
            view.xattrs(&entry).unwrap(),
        ));
    }
    lines
}

/// Unpacks all layers on nothing first. Returns the tree, and how many could not be unpacked so.
fn all_aside(machine: &Machine, image: &LayoutImage) -> Result<(View, usize), SourceError> {
    let snapshots = &machine.snapshots;
    let keys = unpack::content_keys(&image.layers, Ownership::Kept);
    let packed: Vec<PackedLayer<'_>> = image
        .layers
        .iter()
        .zip(&keys)
        .map(|((descriptor, diff_id), content)| PackedLayer {
            descriptor,
            diff_id: *diff_id,
            content: *content,
        })
        .collect();
    let digest = |descriptor: &Descriptor| descriptor.digest().to_string().parse::<Digest>().unwrap();
    let mut written = Vec::new();
    for layer in &packed {
        unpack::keep_blob(machine.store(), &image.folder, layer.descriptor)?;
        let blob = machine.store().blob_reader(&digest(layer.descriptor)).unwrap();
        written.push(unpack::aside(snapshots, *layer, blob, Ownership::Kept, &|| false)?);
    }
    // All that follow one another are settled before any of them is committed.
    let (mut parent, mut dependent, mut open) = (None, 0, Vec::new());
    for (layer, aside) in packed.iter().zip(written) {
        let mut below = snapshots.layers(parent).unwrap();
        below.extend(open.iter().map(|settled: &unpack::Settled| settled.directory().to_owned()));
        let settled = aside.map(|aside| aside.settle(below)).transpose()?.flatten();
        let Some(settled) = settled else {
            for settled in open.drain(..) {
                parent = Some(settled.examine()?.commit(snapshots, parent)?);
            }
            dependent += 1;
            parent = Some(unpack::layer(snapshots, *layer, parent, Ownership::Kept, &|| false)?);
            continue;
        };
        open.push(settled);
    }
    for settled in open {
        parent = Some(settled.examine()?.commit(snapshots, parent)?);
    }
    Ok((snapshots.view(parent).unwrap(), dependent))
}

/// Compares both ways. Returns how many layers could not be unpacked on nothing.
fn compare(tars: &[Vec<u8>]) -> usize {
    let machines = [Machine::new(DriverKind::Overlay), Machine::new(DriverKind::Overlay)];
    let dependent = compare_on(&machines, tars);
    for machine in &machines {
        let rows = machine.store().snapshots().unwrap();
        assert_eq!(rows.len(), tars.len());
        // What they are compared with one day is what they are.
        for row in rows {
            assert_eq!(machine.snapshots.is_true(&row).unwrap(), rb_store::Truth::True);
        }
    }
    dependent
}

fn compare_on([one, other]: &[Machine; 2], tars: &[Vec<u8>]) -> usize {
    let layout = Layout::new();
    let image = layout.hold(tars);
    match (one.unpack_image(&image), all_aside(other, &image)) {
        (Ok(expected), Ok((view, dependent))) => {
            assert_eq!(everything(&expected.view), everything(&view));
            dependent
        }
        (Err(expected), Err(found)) => {
            assert_eq!(expected.to_string(), found.to_string());
            0
        }
        (expected, found) => panic!("{:?} and {:?}", expected.err(), found.err()),
    }
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn layers_as_tools_write_them_need_nothing_of_each_other() {
    let base = || {
        tar()
            .dir("usr/")
            .dir("usr/bin/")
            .file("usr/bin/sh", "sh")
            .symlink("bin", "usr/bin")
            .dir("etc/")
            .file("etc/passwd", "root")
            .dir("etc/old/")
            .file("etc/old/a", "a")
            .end()
    };
    for above in [
        tar().file("usr/bin/new", "new").file("etc/passwd", "other").end(),
        tar().dir("etc/").file("etc/.wh.passwd", "").file("etc/.wh.old", "").end(),
        tar().file("usr/bin/.wh.sh", "").file("var/lib/x", "x").file(".wh.none", "").end(),
        tar().dir("etc/old/").file("etc/old/.wh..wh..opq", "").file("etc/old/b", "b").end(),
        tar().file("etc/.wh..wh..opq", "").end(),
        tar().dir("./").file("x", "x").hard("y", "x").symlink("l", "y").hard("m", "l").end(),
        tar().end(),
    ] {
        let top = tar().file("etc/top", "top").file("usr/.wh.bin", "").end();
        assert_eq!(compare(&[base(), above, top]), 0);
    }
}

#[test]
fn a_layer_that_needs_those_below_gets_them() {
    let base = || tar().dir("usr/").dir("usr/lib/").file("usr/lib/a", "a").symlink("lib", "usr/lib").end();
    for above in [
        // Through a link below, through one of its own, onto what is below; what the order of entries decides.
        tar().file("lib/b", "b").end(),
        tar().symlink("own", "usr/lib").file("own/b", "b").end(),
        tar().hard("b", "usr/lib/a").end(),
        tar().dir("lib/").file("lib/b", "b").end(),
        tar().dir("usr/").file(".wh.usr", "").end(),
        tar().file("usr/lib/.wh..wh..opq", "").file("usr/.wh.lib", "").end(),
        tar().file("d/x", "x").file("d", "now a file").end(),
        tar().file("usr", "was a file").dir("usr/").end(),
    ] {
        assert_eq!(compare(&[base(), above]), 1);
    }
}

#[test]
fn two_are_in_the_midst_of_it_at_once() {
    let layout = Layout::new();
    let image = layout.hold(&[tar().file("a", "a").end(), tar().file("b", "b").end()]);
    let machine = Machine::new(DriverKind::Overlay);
    let keys = unpack::content_keys(&image.layers, Ownership::Kept);
    let both = Barrier::new(2);
    std::thread::scope(|threads| {
        for ((descriptor, diff_id), content) in image.layers.iter().zip(keys) {
            let (both, machine, folder) = (&both, &machine, &image.folder);
            threads.spawn(move || {
                unpack::keep_blob(machine.store(), folder, descriptor).unwrap();
                let digest: Digest = descriptor.digest().to_string().parse().unwrap();
                let blob = machine.store().blob_reader(&digest).unwrap();
                let met = AtomicBool::new(false);
                // Asked between the pieces: neither goes on before the other has begun.
                let meet = || {
                    if !met.swap(true, Ordering::Relaxed) {
                        both.wait();
                    }
                    false
                };
                let packed = PackedLayer { descriptor, diff_id: *diff_id, content };
                let aside = unpack::aside(&machine.snapshots, packed, blob, Ownership::Kept, &meet);
                assert!(aside.unwrap().is_some());
            });
        }
    });
    assert_eq!(machine.store().snapshots().unwrap().len(), 0, "what is given up goes");
}

/// One entry: its kind, where, and where a link leads.
fn entry() -> impl Strategy<Value = (u8, String, String)> {
    let path = || prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
    (0..8_u8, path(), path()).prop_map(|(kind, path, to)| (kind, path.join("/"), to.join("/")))
}

fn layer() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(entry(), 0..7).prop_map(|entries| {
        let mut tar = tar();
        for (number, (kind, path, to)) in entries.into_iter().enumerate() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let beside =
                |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let mut header = Tar::header(b'5', &path, 0);
            header.set_mode(0o700 + u32::try_from(number).unwrap());
            tar = match kind {
                0 | 1 => tar.file(&path, &format!("file {number}")),
                2 | 3 => tar.raw(header, b""),
                4 => tar.symlink(&path, &to),
                5 => tar.hard(&path, &to),
                6 => tar.file(&beside(&format!(".wh.{name}")), ""),
                _ => tar.file(&beside(".wh..wh..opq"), ""),
            };
        }
        tar.end()
    })
}

#[test]
fn whatever_they_hold() {
    let machines = [Machine::new(DriverKind::Overlay), Machine::new(DriverKind::Overlay)];
    let settings = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(settings);
    let layers = prop::collection::vec(layer(), 1..5);
    runner
        .run(&layers, |tars| {
            compare_on(&machines, &tars);
            Ok(())
        })
        .unwrap();
}

//! Layers as they lie on the disk: made at random, and written down.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink,
};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rb_snapshot::{Xattrs, make_whiteout, mark_opaque};
use rustix::fs::{AtFlags, CWD, FileType as Type, Mode, XattrFlags};

use crate::support::through_a_link;

/// Times of layers and material lie long before, those that operations give too.
pub(super) const OLD_NS: i64 = 1_500_000_000_000_000_000;

/// Something that lies in a layer.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Directory { opaque: bool },
    File { length: usize, hole: bool, capability: bool },
    Symlink(PathBuf),
    Fifo,
    Device,
    Whiteout,
    Link(PathBuf),
}

/// Where it lies, and its mode, owner and attribute.
#[derive(Clone, Debug)]
pub(super) struct Lying {
    pub(super) path: PathBuf,
    pub(super) raw: Raw,
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) attribute: bool,
    pub(super) seconds: i64,
}

pub(super) fn name() -> impl Strategy<Value = OsString> {
    let names = [&b"a"[..], b"b", b"c", b"n\n\xff"];
    prop::sample::select(names.map(|name| OsString::from_vec(name.to_vec())).to_vec())
}

pub(super) fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.into_iter().collect())
}

pub(super) fn target() -> impl Strategy<Value = PathBuf> {
    prop_oneof![
        path(),
        path().prop_map(|path| Path::new("/").join(path)),
        path().prop_map(|path| Path::new("..").join(path)),
        Just(PathBuf::from("../..")),
        Just(PathBuf::from("nowhere")),
        Just(PathBuf::from("a")),
    ]
}

pub(super) fn lying() -> impl Strategy<Value = Lying> {
    let raw = prop_oneof![
        4 => any::<bool>().prop_map(|opaque| Raw::Directory { opaque }),
        6 => (prop::sample::select(vec![0, 1, 3000, 9000]), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(length, hole, capability)| Raw::File { length, hole, capability }),
        2 => target().prop_map(Raw::Symlink),
        1 => Just(Raw::Fifo),
        1 => Just(Raw::Device),
        3 => Just(Raw::Whiteout),
        2 => path().prop_map(Raw::Link),
    ];
    let mode = prop::sample::select(vec![0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600]);
    (path(), raw, mode, 0..3_u32, prop::bool::weighted(0.3), 0..100_i64).prop_map(
        |(path, raw, mode, owner, attribute, seconds)| Lying { path, raw, mode, owner, attribute, seconds },
    )
}

pub(super) fn layer() -> impl Strategy<Value = Vec<Lying>> {
    prop::collection::vec(lying(), 0..14)
}

/// Writes a layer down; what does not fit what lies there already is passed over.
///
/// **Invariant:** nothing is read or written outside `root`, wherever the links of the layer lead.
pub(super) fn lay(root: &Path, layer: &[Lying], xattrs: Xattrs, bare: bool) {
    for Lying { path, raw, mode, owner, attribute, seconds } in layer {
        let full = root.join(path);
        // What goes through a link lies elsewhere, on this machine.
        if through_a_link(root, path)
            || fs::create_dir_all(full.parent().unwrap()).is_err()
            || fs::symlink_metadata(&full).is_ok()
        {
            continue;
        }
        let mut opened = true;
        match raw {
            Raw::Directory { .. } => fs::create_dir(&full).unwrap(),
            Raw::File { length, hole, .. } => {
                let file = fs::File::create(&full).unwrap();
                file.write_all_at(&vec![b'a' + u8::try_from(seconds % 20).unwrap(); *length], 0).unwrap();
                if *hole {
                    file.write_all_at(b"end", 40_000).unwrap();
                }
            }
            Raw::Symlink(target) => symlink(target, &full).unwrap(),
            Raw::Fifo | Raw::Device => {
                let (kind, number) = match raw {
                    Raw::Fifo => (Type::Fifo, 0),
                    _ => (Type::CharacterDevice, rustix::fs::makedev(1, 3)),
                };
                rustix::fs::mknodat(CWD, &full, kind, Mode::RUSR, number).unwrap();
                opened = false;
            }
            Raw::Whiteout => {
                if !bare {
                    let parent = fs::File::open(full.parent().unwrap()).unwrap();
                    make_whiteout(std::os::fd::AsFd::as_fd(&parent), full.file_name().unwrap()).unwrap();
                }
                continue;
            }
            Raw::Link(to) => {
                let elsewhere = through_a_link(root, to);
                let to = root.join(to);
                let file = fs::symlink_metadata(&to);
                if file.is_ok_and(|file| {
                    !(elsewhere || file.is_dir() || file.file_type().is_char_device() && file.rdev() == 0)
                }) {
                    fs::hard_link(to, &full).unwrap();
                }
                continue;
            }
        }
        lchown(&full, Some(*owner), Some(*owner)).unwrap();
        if matches!(raw, Raw::Symlink(_)) {
            set_time(&full, Some(OLD_NS + seconds * 1_000_000_000));
            continue;
        }
        fs::set_permissions(&full, fs::Permissions::from_mode(*mode)).unwrap();
        if *attribute && opened {
            rustix::fs::setxattr(&full, "user.note", b"layer", XattrFlags::empty()).unwrap();
        }
        if *attribute && *seconds % 3 == 0 && matches!(raw, Raw::Directory { .. }) {
            // What is made in it gets rights from it; a filesystem without them has none to give.
            rustix::fs::setxattr(&full, "system.posix_acl_default", RIGHTS, XattrFlags::empty()).ok();
        }
        if let Raw::File { capability: true, .. } = raw {
            rustix::fs::setxattr(&full, "security.capability", CAPABILITY, XattrFlags::empty()).unwrap();
        }
        if let Raw::Directory { opaque: true } = raw
            && !bare
        {
            mark_opaque(std::os::fd::AsFd::as_fd(&fs::File::open(&full).unwrap()), xattrs).unwrap();
        }
        set_time(&full, Some(OLD_NS + seconds * 1_000_000_000));
    }
    // Directories moved as they were filled.
    for path in everything(root) {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        if metadata.is_dir() {
            set_time(&full, Some(OLD_NS + i64::try_from(path.as_os_str().len()).unwrap() * 1_000_000_007));
        }
    }
}

/// `cap_net_raw+ep`, as the kernel keeps it.
pub(super) const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `u::rwx,u:5:r-x,g::r-x,m::r-x,o::---`, as the kernel keeps it.
pub(super) const RIGHTS: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 5, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
    0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

/// All paths below `root`, itself included, sorted.
pub(super) fn everything(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let full = root.join("").join(&path);
        // Of a directory in one layer alone the kernel lists the whiteouts too, though nothing is there.
        let Ok(metadata) = fs::symlink_metadata(&full) else { continue };
        if metadata.is_dir() {
            open.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        found.push(path);
    }
    found.sort();
    found
}

pub(super) fn set_time(path: &Path, time: Option<i64>) {
    let Some(time) = time else { return };
    let time = rustix::fs::Timespec {
        tv_sec: time.div_euclid(1_000_000_000),
        tv_nsec: time.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

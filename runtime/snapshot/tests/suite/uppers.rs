//! The upper directory itself, byte for byte: what the editor leaves behind is what a mount would have left.
//!
//! Random layers are written as they lie on the disk: whiteouts, opaque directories, links of both kinds, set-id bits,
//! owners, attributes, pipes, devices, holes, names of any bytes. Then random operations are done twice, by the editor and by
//! file calls in a real overlay mount, and compared after each: the merged trees as our view and as the kernel sees them
//! (names, types, modes, owners, lengths, contents, device numbers, attributes, which names are one file, times), and at
//! the end both upper directories as they lie there, and the keys of both diffs. `tests/soak uppers` asks for more cases.
//!
//! Equal up to these freedoms:
//! * an opaque mark on a directory below which nothing shows: the kernel sets it on every new directory, we where it matters;
//! * overlay's other attributes (`origin`, `impure`), which are its own notes, and whiteouts being links of one another;
//! * times of what is written now are "now"; every other time is equal. Times of last access are not compared;
//! * the names of whiteouts that the kernel lists in a directory that only one layer has: looked up, they are not there;
//! * the inode numbers, and how the blocks of a file lie on the disk.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};
use std::time::Instant;

use proptest::prelude::*;
use rb_snapshot::{
    ContentDigest, ContentKey, CopyOptions, DriverKind, Editor, FileType, Follow, Manifest, Reuse,
    SnapshotId, Snapshots, View, Xattrs, diff, layer_diff, make_whiteout, mark_opaque,
};
use rustix::fs::{AtFlags, CWD, FileType as Type, Mode, OFlags, ResolveFlags, XattrFlags};

use crate::kernel::Mounted;
use crate::support::{Fixture, cases, is_real_root, through_a_link};

/// Times of layers and material lie long before, those that operations give too.
const OLD_NS: i64 = 1_500_000_000_000_000_000;
/// What is later than this was written by the test.
const NOW_FROM_NS: i64 = 1_700_000_000_000_000_000;

/// Something that lies in a layer.
#[derive(Clone, Debug)]
enum Raw {
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
struct Lying {
    path: PathBuf,
    raw: Raw,
    mode: u32,
    owner: u32,
    attribute: bool,
    seconds: i64,
}

#[derive(Clone, Debug)]
enum Operation {
    Mkdir {
        path: PathBuf,
        mode: u32,
        parents: bool,
        given: Given,
    },
    Mkfile {
        path: PathBuf,
        length: usize,
        given: Given,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
        given: Given,
    },
    Remove {
        path: PathBuf,
        wildcard: bool,
    },
    Set {
        path: PathBuf,
        mode: Option<u32>,
        given: Given,
    },
    /// From the material, or from the tree itself.
    Copy {
        within: bool,
        from: PathBuf,
        to: PathBuf,
        contents: bool,
        replace: bool,
        link: bool,
        mode: Option<u32>,
        given: Given,
    },
    /// Removes what is there and makes something else of that name.
    Renew {
        path: PathBuf,
        directory: bool,
    },
}

/// Owner and time, where they are given.
#[derive(Clone, Copy, Debug)]
struct Given {
    owner: Option<(u32, u32)>,
    time: Option<i64>,
}

fn name() -> impl Strategy<Value = OsString> {
    let names = [&b"a"[..], b"b", b"c", b"n\n\xff"];
    prop::sample::select(names.map(|name| OsString::from_vec(name.to_vec())).to_vec())
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.into_iter().collect())
}

fn target() -> impl Strategy<Value = PathBuf> {
    prop_oneof![
        path(),
        path().prop_map(|path| Path::new("/").join(path)),
        path().prop_map(|path| Path::new("..").join(path)),
        Just(PathBuf::from("../..")),
        Just(PathBuf::from("nowhere")),
        Just(PathBuf::from("a")),
    ]
}

fn lying() -> impl Strategy<Value = Lying> {
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

fn layer() -> impl Strategy<Value = Vec<Lying>> {
    prop::collection::vec(lying(), 0..14)
}

fn given() -> impl Strategy<Value = Given> {
    (prop::option::weighted(0.3, (0..3_u32, 0..3_u32)), prop::option::weighted(0.3, 0..9_i64))
        .prop_map(|(owner, time)| Given { owner, time: time.map(|time| OLD_NS - time * 1_000_000_001) })
}

fn operation() -> impl Strategy<Value = Operation> {
    let mode = prop::sample::select(vec![0o755_u32, 0o700, 0o711]);
    let any_mode = prop::option::of(prop::sample::select(vec![0o4755_u32, 0o2750, 0o1777, 0o640]));
    let copied_mode = prop::option::weighted(0.2, prop::sample::select(vec![0o4755_u32, 0o750]));
    let length = prop::sample::select(vec![0_usize, 2, 5000]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => (path(), mode, any::<bool>(), given())
            .prop_map(|(path, mode, parents, given)| Operation::Mkdir { path, mode, parents, given }),
        4 => (path(), length, given()).prop_map(|(path, length, given)| Operation::Mkfile { path, length, given }),
        1 => (target(), path(), given())
            .prop_map(|(target, path, given)| Operation::Symlink { target, path, given }),
        4 => (path(), prop::bool::weighted(0.3))
            .prop_map(|(path, wildcard)| Operation::Remove { path, wildcard }),
        3 => (path(), any_mode, given()).prop_map(|(path, mode, given)| Operation::Set { path, mode, given }),
        6 => (flags, path(), path(), copied_mode, given()).prop_map(
            |((within, contents, replace, link), from, to, mode, given)| Operation::Copy {
                within, from, to, contents, replace, link, mode, given
            }
        ),
        2 => (path(), any::<bool>()).prop_map(|(path, directory)| Operation::Renew { path, directory }),
    ]
}

/// Writes a layer down; what does not fit what lies there already is passed over.
///
/// **Invariant:** nothing is read or written outside `root`, wherever the links of the layer lead.
fn lay(root: &Path, layer: &[Lying], xattrs: Xattrs, bare: bool) {
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
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `u::rwx,u:5:r-x,g::r-x,m::r-x,o::---`, as the kernel keeps it.
const RIGHTS: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 5, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
    0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

/// All paths below `root`, itself included, sorted.
fn everything(root: &Path) -> Vec<PathBuf> {
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

fn set_time(path: &Path, time: Option<i64>) {
    let Some(time) = time else { return };
    let time = rustix::fs::Timespec {
        tv_sec: time.div_euclid(1_000_000_000),
        tv_nsec: time.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

type Lines = BTreeMap<PathBuf, String>;

fn time_of(modified_ns: i64) -> String {
    if modified_ns > NOW_FROM_NS { "now".to_owned() } else { modified_ns.to_string() }
}

fn content(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), ContentDigest::of(bytes).as_bytes()[0])
}

/// Writes down what file calls show, and overlay's marks where `marks`.
fn lines_on_disk(root: &Path, marks: bool) -> Lines {
    let mut lines = Lines::new();
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in everything(root) {
        let full = root.join("").join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let kind = metadata.file_type();
        let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let mut line = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("symlink {:?}", fs::read_link(&full).unwrap())
        } else if kind.is_file() {
            format!("file {}", content(&fs::read(&full).unwrap()))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if number == (0, 0) {
            lines.insert(path, "whiteout".to_owned());
            continue;
        } else {
            format!("device {number:?}")
        };
        let modified_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
        line += &format!(
            " {:o} {}:{} {}",
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            time_of(modified_ns)
        );
        for (name, value) in attributes_on_disk(&full) {
            let own = name.to_str().is_some_and(|name| name.contains(".overlay."));
            if !own || (marks && name.to_str().is_some_and(|name| name.ends_with("opaque"))) {
                line += &format!(" {}={value:?}", name.display());
            }
        }
        if metadata.nlink() > 1 && !kind.is_dir() {
            let first = groups.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone());
            line += &format!(" = {first:?}");
        }
        lines.insert(path, line);
    }
    alone(lines)
}

/// Writes down what a view shows.
fn lines_of(view: &View) -> Lines {
    let mut lines = Lines::new();
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for entry in view.walk("").unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata;
        let mut line = match metadata.file_type {
            FileType::Directory => "directory".to_owned(),
            FileType::File => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut view.open(&entry).unwrap(), &mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, metadata.size_bytes);
                format!("file {}", content(&bytes))
            }
            FileType::Symlink => format!("symlink {:?}", view.read_link(&entry).unwrap()),
            FileType::Fifo => "fifo".to_owned(),
            FileType::Socket => "socket".to_owned(),
            FileType::CharDevice | FileType::BlockDevice => format!("device {:?}", metadata.device_number),
        };
        line += &format!(
            " {:o} {}:{} {}",
            metadata.mode,
            metadata.uid,
            metadata.gid,
            time_of(metadata.modified_ns)
        );
        for (name, value) in view.xattrs(&entry).unwrap() {
            line += &format!(" {}={value:?}", name.display());
        }
        if metadata.links > 1 && !metadata.is_directory() {
            let first = groups.entry((metadata.device, metadata.inode)).or_insert_with(|| entry.path.clone());
            line += &format!(" = {first:?}");
        }
        lines.insert(entry.path, line);
    }
    alone(lines)
}

/// A file that shares nothing with another of the same tree says nothing of it: its further names may be gone or in
/// another layer.
fn alone(mut lines: Lines) -> Lines {
    let firsts: Vec<String> =
        lines.values().filter_map(|line| Some(line.split_once(" = ")?.1.to_owned())).collect();
    for line in lines.values_mut() {
        if let Some((body, first)) = line.clone().split_once(" = ")
            && firsts.iter().filter(|other| *other == first).count() == 1
        {
            *line = body.to_owned();
        }
    }
    lines
}

fn attributes_on_disk(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = Vec::with_capacity(4096);
    let count = rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list));
    if count.is_err() {
        return BTreeMap::new();
    }
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .filter_map(|name| {
            let mut value = Vec::with_capacity(4096);
            let read = rustix::fs::lgetxattr(
                path,
                CString::new(name).unwrap(),
                rustix::buffer::spare_capacity(&mut value),
            );
            read.ok().map(|_| (OsString::from_vec(name.to_vec()), value))
        })
        .collect()
}

/// An upper directory as it lies there, without marks below which nothing shows.
fn lines_of_upper(upper: &Path, lowers: &View) -> Lines {
    let mut lines = lines_on_disk(upper, true);
    let mut opaque: Vec<PathBuf> = Vec::new();
    for (path, line) in &mut lines {
        let Some((body, _)) =
            line.split_once(" trusted.overlay.opaque").or(line.split_once(" user.overlay.opaque"))
        else {
            continue;
        };
        let hidden = opaque.iter().any(|above| path.starts_with(above));
        let below = lowers.lookup(path, Follow::No).unwrap();
        if !hidden && below.is_some_and(|below| below.metadata.is_directory()) {
            opaque.push(path.clone());
            // Attributes are sorted, and of the mark only one form is looked for.
            *line = format!("{body} opaque");
        } else {
            *line =
                line.replace(" trusted.overlay.opaque=[121]", "").replace(" user.overlay.opaque=[121]", "");
        }
    }
    lines
}

struct World<'a> {
    mounted: &'a Mounted,
    material: PathBuf,
    from: View,
    reuse: &'a Reuse,
    digests: &'a BTreeMap<PathBuf, ContentDigest>,
}

impl World<'_> {
    fn by_editor(
        &self,
        editor: &Editor<'_>,
        operation: &Operation,
    ) -> Result<(), rb_snapshot::SnapshotError> {
        match operation {
            Operation::Mkdir { path, mode, parents, given } => {
                editor.mkdir(path, *mode, *parents, given.owner, given.time)
            }
            Operation::Mkfile { path, length, given } => {
                editor.mkfile(path, 0o640, &vec![b'm'; *length], given.owner, given.time)
            }
            Operation::Symlink { target, path, given } => {
                editor.symlink(target, path, given.owner, given.time)
            }
            Operation::Remove { path, wildcard: false } => editor.remove(path, false, false),
            Operation::Remove { path, wildcard: true } => {
                editor.remove(path.parent().unwrap().join("[ab]"), true, true)
            }
            Operation::Set { path, mode, given } => editor.set_metadata(path, *mode, given.owner, given.time),
            Operation::Copy { within, from, to, contents, replace, link, mode, given } => {
                let verify = |path: &Path| self.digests.get(path).copied();
                let linked = *link && !within;
                let options = CopyOptions {
                    create_dest_path: true,
                    dir_copy_contents: *contents,
                    always_replace: *replace,
                    mode: *mode,
                    owner: given.owner,
                    timestamp: given.time,
                    verify: linked.then_some(&verify),
                    reuse: linked.then_some(self.reuse),
                    ..CopyOptions::default()
                };
                let view = if *within { editor.view() } else { self.from.clone() };
                editor.copy(&view, from, to, &options).map(drop)
            }
            Operation::Renew { path, directory } => {
                editor.remove(path, false, false)?;
                if *directory {
                    editor.mkdir(path, 0o755, false, None, None)
                } else {
                    editor.mkfile(path, 0o640, b"renewed", None, None)
                }
            }
        }
    }

    /// The real path of `path` inside the mount; `None` if nothing is there.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let handle =
            rb_sys::resolve::open_resolved(self.mounted.root(), path, flags, ResolveFlags::IN_ROOT).ok()?;
        let shown = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap();
        Some(self.mounted.path().join(shown.strip_prefix("/").unwrap()))
    }

    /// The real path of what is there, links followed, or of a free name in a directory that is there.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        if let Some(existing) = self.resolve(path) {
            return Some(existing);
        }
        let full = self.itself(path)?;
        fs::symlink_metadata(&full).is_err().then_some(full)
    }

    /// The real path of a name in a directory that is there, the name itself not followed.
    fn itself(&self, path: &Path) -> Option<PathBuf> {
        let parent = self.resolve(path.parent()?)?;
        parent.is_dir().then(|| parent.join(path.file_name().unwrap()))
    }

    /// The real path of something whose parents may be missing; `None` if anything else is in the way.
    fn reach(&self, path: &Path) -> Option<PathBuf> {
        match self.place(path) {
            Some(place) => Some(place),
            None => {
                let parent = self.reach(path.parent()?)?;
                (!parent.exists()).then(|| parent.join(path.file_name().unwrap()))
            }
        }
    }

    fn make_directories(&self, path: &Path, mode: u32, given: Given) {
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.iter().rev() {
            fs::create_dir(path).unwrap();
            own(path, given.owner);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        missing.iter().for_each(|path| set_time(path, given.time));
        missing.clear();
    }

    /// Does by file calls what can be done by them as by the editor; tells whether it did.
    fn by_kernel(&self, operation: &Operation) -> bool {
        self.try_by_kernel(operation).is_some()
    }

    fn try_by_kernel(&self, operation: &Operation) -> Option<()> {
        match operation {
            Operation::Mkdir { path, mode, parents, given } => {
                let place = if *parents { self.reach(path)? } else { self.place(path)? };
                if place.exists() {
                    return place.is_dir().then_some(());
                }
                self.make_directories(&place, *mode, *given);
            }
            Operation::Mkfile { path, length, given } => {
                let place = self.place(path)?;
                if place.exists() && !fs::symlink_metadata(&place).ok()?.is_file() {
                    return None;
                }
                write(&place, &vec![b'm'; *length]);
                own(&place, given.owner);
                set_time(&place, given.time);
            }
            Operation::Symlink { target, path, given } => {
                let place = self.place(path).filter(|place| fs::symlink_metadata(place).is_err())?;
                symlink(target, &place).unwrap();
                own(&place, given.owner);
                set_time(&place, given.time);
            }
            Operation::Remove { path, wildcard: false } => {
                let place = self.itself(path).filter(|place| fs::symlink_metadata(place).is_ok())?;
                remove(&place);
            }
            Operation::Remove { path, wildcard: true } => {
                // A name that is not text makes a path that is no pattern.
                path.parent()?.to_str()?;
                let parent = self.resolve(path.parent()?).filter(|parent| parent.is_dir())?;
                ["a", "b"].iter().for_each(|name| remove(&parent.join(name)));
            }
            Operation::Set { path, mode, given } => {
                let place = self.resolve(path)?;
                let metadata = fs::symlink_metadata(&place).unwrap();
                if !(metadata.is_file() || metadata.is_dir()) {
                    return None;
                }
                own(&place, given.owner);
                let mode = mode.unwrap_or(metadata.mode() & 0o7777);
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
                set_time(&place, given.time);
            }
            Operation::Copy { within, from, to, contents, replace, mode, given, .. } => {
                if !within && through_a_link(&self.material, from) {
                    return None;
                }
                let source = if *within { self.itself(from)? } else { self.material.join(from) };
                let kind = fs::symlink_metadata(&source).ok()?;
                if source.canonicalize().is_err() && !kind.is_symlink() {
                    return None;
                }
                let target = self.target(from, to, kind.is_dir(), *contents)?;
                let inside = |inner: &Path, outer: &Path| inner.starts_with(outer);
                if *within && (inside(&source, &target) || inside(&target, &source)) {
                    return None;
                }
                if !fits(&source, &target, *replace) {
                    return None;
                }
                // What is copied does not change meanwhile.
                let before = tempfile::tempdir().unwrap();
                let cloned = before.path().join("x");
                copy_tree(&source, &cloned, &Copying::default());
                let created = Given { owner: given.owner, time: given.time };
                let made = if kind.is_dir() && *contents { &*target } else { target.parent()? };
                let missing: Vec<PathBuf> =
                    made.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
                self.make_directories(made, mode.unwrap_or(0o755), created);
                let copying = Copying { mode: *mode, given: Some(*given) };
                copy_tree(&cloned, &target, &copying);
                missing.iter().for_each(|path| set_time(path, given.time));
            }
            Operation::Renew { path, directory } => {
                let place = self.itself(path)?;
                // A link, or a directory with links in it, may be on the way to itself: then the way goes with it.
                if !fs::symlink_metadata(&place).ok()?.is_file() && through_a_link(&self.mounted.path(), path)
                {
                    return None;
                }
                remove(&place);
                if *directory {
                    self.make_directories(&place, 0o755, Given { owner: None, time: None });
                } else {
                    write(&place, b"renewed");
                }
            }
        }
        Some(())
    }

    /// Where a copy goes; `None` where something that cannot be gone through is in the way.
    fn target(&self, from: &Path, to: &Path, is_directory: bool, contents: bool) -> Option<PathBuf> {
        let target = self.reach(to)?;
        let Ok(there) = fs::symlink_metadata(&target) else { return Some(target) };
        if is_directory && contents {
            return there.is_dir().then_some(target);
        }
        if there.is_dir() { Some(target.join(from.file_name()?)) } else { (!is_directory).then_some(target) }
    }
}

fn fits(source: &Path, target: &Path, replace: bool) -> bool {
    let Ok(there) = fs::symlink_metadata(target) else { return true };
    // A whiteout that is listed.
    let Ok(here) = fs::symlink_metadata(source) else { return true };
    if !here.is_dir() {
        // A file that would be copied onto itself, or another name of itself.
        return (replace || !there.is_dir()) && (here.dev(), here.ino()) != (there.dev(), there.ino());
    }
    if !there.is_dir() {
        return replace;
    }
    fs::read_dir(source).unwrap().all(|entry| {
        let entry = entry.unwrap();
        fits(&entry.path(), &target.join(entry.file_name()), replace)
    })
}

fn write(path: &Path, bytes: &[u8]) {
    let existed = path.exists();
    fs::write(path, bytes).unwrap();
    if !existed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }
}

fn own(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner {
        lchown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

#[derive(Default)]
struct Copying {
    mode: Option<u32>,
    given: Option<Given>,
}

/// Copies by file calls: directories are merged, hard links kept.
fn copy_tree(source: &Path, target: &Path, copying: &Copying) {
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut directories = Vec::new();
    for path in everything_at(source) {
        let (from, to) = (join(source, &path), join(target, &path));
        let metadata = fs::symlink_metadata(&from).unwrap();
        let owner = copying.given.and_then(|given| given.owner).unwrap_or((metadata.uid(), metadata.gid()));
        let time = copying.given.and_then(|given| given.time);
        let time = time.unwrap_or(metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
        let mode = fs::Permissions::from_mode(copying.mode.unwrap_or(metadata.mode() & 0o7777));
        let there = fs::symlink_metadata(&to);
        if metadata.is_dir() {
            let merged = there.as_ref().is_ok_and(fs::Metadata::is_dir);
            if !merged {
                remove(&to);
                fs::create_dir(&to).unwrap();
            }
            let attributes = attributes_on_disk(&from);
            let rights = attributes.get(&OsString::from("system.posix_acl_default")).cloned();
            if merged && path.as_os_str().is_empty() {
                directories.push((to.clone(), time, None));
                continue;
            }
            directories.push((to.clone(), time, rights));
            own(&to, Some(owner));
            fs::set_permissions(&to, mode).unwrap();
        } else {
            remove(&to);
            if metadata.nlink() > 1
                && let Some(first) = groups.get(&(metadata.dev(), metadata.ino()))
            {
                fs::hard_link(first, &to).unwrap();
                continue;
            }
            groups.insert((metadata.dev(), metadata.ino()), to.clone());
            let kind = metadata.file_type();
            if kind.is_symlink() {
                symlink(fs::read_link(&from).unwrap(), &to).unwrap();
                own(&to, Some(owner));
                set_time(&to, Some(time));
                continue;
            }
            if kind.is_file() {
                fs::write(&to, fs::read(&from).unwrap()).unwrap();
            } else {
                let kind = if kind.is_fifo() { Type::Fifo } else { Type::CharacterDevice };
                rustix::fs::mknodat(CWD, &to, kind, Mode::RUSR, metadata.rdev()).unwrap();
            }
            chown(&to, Some(owner.0), Some(owner.1)).unwrap();
            fs::set_permissions(&to, mode).unwrap();
        }
        for (name, value) in attributes_on_disk(&from) {
            // What a directory gives to what is made in it is set last: its copies are as they were.
            if !name.as_bytes().windows(9).any(|part| part == b".overlay.")
                && name != "system.posix_acl_default"
            {
                rustix::fs::setxattr(&to, &name, &value, XattrFlags::empty()).unwrap();
            }
        }
        set_time(&to, Some(time));
    }
    for (path, time, rights) in directories.iter().rev() {
        if let Some(rights) = rights {
            rustix::fs::setxattr(path, "system.posix_acl_default", rights, XattrFlags::empty()).unwrap();
        }
        set_time(path, Some(*time));
    }
}

fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn everything_at(root: &Path) -> Vec<PathBuf> {
    if fs::symlink_metadata(root).unwrap().is_dir() { everything(root) } else { vec![PathBuf::new()] }
}

/// Commits a layer that was written to its directory.
fn committed(
    snapshots: &Snapshots,
    parent: Option<(SnapshotId, ContentKey)>,
    layer: &[Lying],
    xattrs: Xattrs,
) -> (SnapshotId, ContentKey) {
    let active = snapshots.prepare(parent.map(|(id, _)| id)).unwrap();
    lay(active.upper(), layer, xattrs, false);
    let changes = diff(&active).unwrap();
    snapshots.commit(active, &changes, parent.map_or(ContentKey::empty(), |(_, content)| content)).unwrap()
}

fn compare(
    xattrs: Xattrs,
    layers: &[Vec<Lying>],
    material: &[Lying],
    operations: &[Operation],
) -> Result<Option<usize>, TestCaseError> {
    let fixture = Fixture::new();
    let snapshots = Snapshots::with_xattrs(fixture.store.clone(), DriverKind::Overlay, xattrs);
    let directory = tempfile::tempdir().unwrap();
    lay(directory.path(), material, xattrs, true);
    let from = View::of_directory(directory.path());
    let mut digests = BTreeMap::new();
    for path in everything(directory.path()) {
        let full = directory.path().join(&path);
        if fs::symlink_metadata(&full).unwrap().is_file() {
            digests.insert(path, ContentDigest::of(fs::read(&full).unwrap()));
        }
    }

    // An earlier copy of the material, which later ones take over.
    let earlier = snapshots.prepare(None).unwrap();
    let verify = |path: &Path| digests.get(path).copied();
    let options = CopyOptions { dir_copy_contents: true, verify: Some(&verify), ..CopyOptions::default() };
    Editor::new(&earlier).unwrap().copy(&from, "/", "/", &options).unwrap();
    let changes = diff(&earlier).unwrap();
    earlier.keep_manifest(&Manifest::of(&changes, true)).unwrap();
    let (earlier, _) = snapshots.commit(earlier, &changes, ContentKey::empty()).unwrap();
    let reuse = snapshots.reuse(earlier).unwrap().unwrap();
    let untouched = layer_diff(&snapshots.directory(earlier)).unwrap();

    let mut parent = None;
    for layer in layers {
        parent = Some(committed(&snapshots, parent, layer, xattrs));
    }
    let (parent, content) = parent.unwrap();
    let (ours, theirs) = (snapshots.prepare(Some(parent)).unwrap(), snapshots.prepare(Some(parent)).unwrap());
    let lowers = View::new(ours.lowers().to_vec());
    let editor = Editor::new(&ours).unwrap();
    let Some(mounted) = Mounted::new(theirs.lowers(), Some((theirs.upper(), theirs.work())), xattrs) else {
        return Ok(None);
    };
    let world = World {
        mounted: &mounted,
        material: directory.path().to_owned(),
        from,
        reuse: &reuse,
        digests: &digests,
    };
    prop_assert_eq!(lines_on_disk(&mounted.path(), false), lines_of(&editor.view()), "the layers alone");

    let mut done = 0;
    for operation in operations {
        if !world.by_kernel(operation) {
            continue;
        }
        done += 1;
        if let Err(error) = world.by_editor(&editor, operation) {
            return Err(TestCaseError::fail(format!("{operation:?} is refused: {error:?}")));
        }
        prop_assert_eq!(
            lines_on_disk(&mounted.path(), false),
            lines_of(&editor.view()),
            "after {:?}",
            operation
        );
    }

    let (our_diff, their_diff) = (diff(&ours).unwrap(), diff(&theirs).unwrap());
    prop_assert_eq!(our_diff.content_key(content), their_diff.content_key(content));
    let expected = lines_on_disk(&mounted.path(), false);
    drop(mounted);
    prop_assert_eq!(lines_of_upper(theirs.upper(), &lowers), lines_of_upper(ours.upper(), &lowers));
    prop_assert_eq!(
        untouched,
        layer_diff(&snapshots.directory(earlier)).unwrap(),
        "what is linked was written to"
    );
    // And the kernel reads ours as it reads its own.
    if let Some(remounted) = Mounted::new(ours.lowers(), Some((ours.upper(), ours.work())), xattrs) {
        prop_assert_eq!(lines_on_disk(&remounted.path(), false), expected);
    }
    Ok(Some(done))
}

#[test]
fn random_layers_and_operations() {
    if !is_real_root() {
        return;
    }
    let config = ProptestConfig {
        cases: cases(64),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::default()
    };
    let strategy = (
        prop::collection::vec(layer(), 1..5),
        layer(),
        prop::collection::vec(operation(), 1..16),
        any::<bool>(),
    );
    let (done, given) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let started = Instant::now();
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |(layers, material, operations, user)| {
            let xattrs = if user { Xattrs::User } else { Xattrs::Trusted };
            let count = compare(xattrs, &layers, &material, &operations)?;
            done.set(done.get() + count.unwrap_or(0));
            given.set(given.get() + operations.len());
            Ok(())
        },
    );
    let elapsed = started.elapsed();
    eprintln!("{} of {} operations in {elapsed:?}", done.get(), given.get());
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A snapshot on a layer that `make` wrote, all of it long ago.
fn on_a_layer(make: impl FnOnce(&Path)) -> (Fixture, rb_snapshot::Active) {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    make(active.upper());
    lay(active.upper(), &[], Xattrs::Trusted, false);
    let changes = diff(&active).unwrap();
    let (id, _) = snapshots.commit(active, &changes, ContentKey::empty()).unwrap();
    let active = snapshots.prepare(Some(id)).unwrap();
    (fixture, active)
}

#[test]
fn what_is_brought_up_leaves_the_times_around_it() {
    let (_fixture, active) = on_a_layer(|root| {
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        fs::write(root.join("usr/file"), "x").unwrap();
    });
    let editor = Editor::new(&active).unwrap();
    editor.mkfile("/usr/local/bin/tool", 0o755, b"", None, None).unwrap();
    editor.set_metadata("/usr/file", Some(0o600), None, None).unwrap();
    let lines = lines_of(&editor.view());
    let is_new = |path: &str| lines[Path::new(path)].ends_with("now");
    assert_eq!(
        ["", "usr", "usr/local", "usr/local/bin"].map(is_new),
        [false, false, false, true],
        "{lines:#?}"
    );
}

#[test]
fn a_file_below_that_is_emptied_is_changed() {
    let (_fixture, active) = on_a_layer(|root| {
        fs::write(root.join("empty"), "").unwrap();
        set_time(&root.join("empty"), Some(OLD_NS));
        // Where capabilities cannot be set there is none to lose.
        rustix::fs::setxattr(root.join("empty"), "security.capability", CAPABILITY, XattrFlags::empty()).ok();
    });
    let editor = Editor::new(&active).unwrap();
    editor.mkfile("/empty", 0o644, b"", None, None).unwrap();
    let lines = lines_of(&editor.view());
    assert!(lines[Path::new("empty")].ends_with("0:0 now"), "{lines:#?}");
}

#[test]
fn rights_that_directories_give_reach_no_copies() {
    let give = |path: &Path| {
        let given = rustix::fs::setxattr(path, "system.posix_acl_default", RIGHTS, XattrFlags::empty());
        given.inspect_err(|error| eprintln!("stepping aside: no access control lists here: {error}")).is_ok()
    };
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("d/s")).unwrap();
    fs::write(source.path().join("d/f"), "x").unwrap();
    if !give(&source.path().join("d")) {
        return;
    }
    let (_fixture, active) = on_a_layer(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/f"), "x").unwrap();
        give(&root.join("a"));
    });
    let editor = Editor::new(&active).unwrap();
    let from = View::of_directory(source.path());
    editor.copy(&from, "/d", "/d", &CopyOptions::default()).unwrap();
    // Both are brought up into a directory that gives rights.
    editor.set_metadata("/a/b", Some(0o700), None, None).unwrap();
    editor.set_metadata("/a/f", Some(0o600), None, None).unwrap();
    let view = editor.view();
    let attributes =
        |path: &str| view.xattrs(&view.lookup(path, Follow::No).unwrap().unwrap()).unwrap().len();
    assert_eq!(["d", "d/s", "d/f", "a", "a/b", "a/f"].map(attributes), [1, 0, 0, 1, 0, 0]);
}

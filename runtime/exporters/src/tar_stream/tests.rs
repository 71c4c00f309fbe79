use std::ffi::OsStr;

use proptest::prelude::*;

use super::*;
use crate::testing::{TarEntry, read_tar as read};

fn node<'a>(path: &'a [u8], kind: NodeKind<'a>) -> Node<'a> {
    let path = Path::new(OsStr::from_bytes(path));
    Node { path, kind, mode: 0o4755, uid: 1, gid: 2, modified: 3, xattrs: &NO_XATTRS }
}

fn stream(write: impl FnOnce(&mut TarStream<Vec<u8>>)) -> Vec<u8> {
    let mut stream = TarStream::new(Vec::new());
    write(&mut stream);
    stream.finish().expect("finishes")
}

#[test]
fn plain_entries_need_no_records() {
    let bytes = stream(|tar| {
        tar.entry(&node(b"dir", NodeKind::Directory)).expect("writes");
        tar.file(&node(b"dir/file", NodeKind::File { size_bytes: 3 }), &mut &b"abc"[..]).expect("writes");
        tar.entry(&node(b"dir/link", NodeKind::Symlink { target: Path::new("file") })).expect("writes");
        tar.entry(&node(b"dev", NodeKind::CharDevice { major: 5, minor: 1 })).expect("writes");
    });
    assert_eq!(bytes.len(), 512 * (1 + 2 + 1 + 1 + 2));
    let entries = read(&bytes);
    assert_eq!(entries[0].path, b"dir/");
    assert_eq!((entries[1].path.as_slice(), entries[1].content.as_slice()), (&b"dir/file"[..], &b"abc"[..]));
    assert_eq!(entries[2].link.as_deref(), Some(&b"file"[..]));
    assert!(entries.iter().all(|entry: &TarEntry| entry.records.is_empty()));
    let device = &entries[3].header;
    assert_eq!(device.device_major().expect("is a number"), Some(5));
    assert_eq!(device.device_minor().expect("is a number"), Some(1));
    assert_eq!((device.mode().expect("is a number"), device.mtime().expect("is a number")), (0o4755, 3));
}

#[test]
fn large_numbers_and_early_times_go_into_records() {
    let mut large = node(b"file", NodeKind::Fifo);
    (large.uid, large.gid, large.modified) = (u32::MAX, 0o777_7777, -5);
    let bytes = stream(|tar| tar.entry(&large).expect("writes"));
    let text = |text: &str| text.as_bytes().to_vec();
    let expected = [(text("mtime"), text("-5")), (text("uid"), text("4294967295"))];
    assert_eq!(read(&bytes)[0].records, BTreeMap::from(expected));

    let size_bytes = MAX_OCTAL_11 + 1;
    let (header, records) = encode(&node(b"file", NodeKind::File { size_bytes })).expect("encodes");
    assert_eq!(header.entry_size().expect("is a number"), 0);
    assert_eq!(records, b"19 size=8589934592\n");
}

#[test]
fn a_record_counts_its_own_digits() {
    for length in 1..2000 {
        let records = BTreeMap::from([(b"k".to_vec(), vec![b'x'; length])]);
        let bytes = encode_records(&records);
        let digits = bytes.iter().position(|byte| *byte == b' ').expect("has a space");
        let number: usize =
            std::str::from_utf8(&bytes[..digits]).expect("is text").parse().expect("is a number");
        assert_eq!(number, bytes.len());
    }
}

#[test]
fn attributes_of_this_machine_stay_here() {
    let all = [
        "user.mine",
        "security.capability",
        "user.overlay.opaque",
        "trusted.overlay.origin",
        "security.selinux",
    ];
    let xattrs: BTreeMap<OsString, Vec<u8>> =
        all.iter().map(|name| (OsString::from(name), vec![0, 10, 255])).collect();
    let mut with = node(b"file", NodeKind::File { size_bytes: 0 });
    with.xattrs = &xattrs;
    let bytes = stream(|tar| tar.entry(&with).expect("writes"));
    let entries = read(&bytes);
    let names: Vec<_> = entries[0].records.keys().map(|key| String::from_utf8_lossy(key)).collect();
    assert_eq!(names, ["SCHILY.xattr.security.capability", "SCHILY.xattr.user.mine"]);

    let odd = BTreeMap::from([(OsString::from("user.a=b"), Vec::new())]);
    with.xattrs = &odd;
    assert!(matches!(encode(&with), Err(ExportError::Unrepresentable { .. })));
}

#[test]
fn a_file_that_changes_is_an_error() {
    for size_bytes in [2, 4] {
        let mut tar = TarStream::new(Vec::new());
        let result = tar.file(&node(b"file", NodeKind::File { size_bytes }), &mut &b"abc"[..]);
        assert!(matches!(result, Err(ExportError::Changed { actual: 3, .. })), "{result:?}");
    }
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![8 => 1..=255_u8, 2 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'='), 1 => Just(b' ')];
    let part = proptest::collection::vec(byte.prop_filter("no slash", |byte| *byte != b'/'), 1..120);
    let part = part.prop_filter("no dots", |part| part != b"." && part != b"..");
    proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join(&b'/'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn odd_names_survive(
        files in proptest::collection::vec((any_name(), any::<Vec<u8>>(), any::<u32>()), 1..6),
        target in any_name(),
        attribute in any::<Vec<u8>>(),
    ) {
        let xattrs = BTreeMap::from([(OsString::from("user.x"), attribute.clone())]);
        let target_path = Path::new(OsStr::from_bytes(&target));
        let bytes = stream(|tar| {
            for (name, content, id) in &files {
                let mut file = node(name, NodeKind::File { size_bytes: content.len() as u64 });
                (file.uid, file.gid, file.xattrs) = (*id, *id, &xattrs);
                tar.file(&file, &mut content.as_slice()).expect("writes");
                tar.entry(&node(name, NodeKind::Symlink { target: target_path })).expect("writes");
                tar.entry(&node(&target, NodeKind::HardLink { to: Path::new(OsStr::from_bytes(name)) })).expect("writes");
            }
        });
        let entries = read(&bytes);
        prop_assert_eq!(entries.len(), files.len() * 3);
        for (three, (name, content, id)) in entries.chunks(3).zip(&files) {
            prop_assert_eq!(&three[0].path, name);
            prop_assert_eq!(&three[0].content, content);
            prop_assert_eq!(three[0].record("SCHILY.xattr.user.x"), Some(&attribute[..]));
            let recorded = (u64::from(*id) > MAX_OCTAL_7).then(|| id.to_string().into_bytes());
            prop_assert_eq!(three[0].record("uid"), recorded.as_deref());
            prop_assert_eq!(three[0].record("gid"), recorded.as_deref());
            if recorded.is_none() {
                prop_assert_eq!(three[0].header.uid().expect("is a number"), u64::from(*id));
            }
            prop_assert_eq!(three[1].link.as_ref(), Some(&target));
            prop_assert_eq!(three[2].link.as_ref(), Some(name));
            prop_assert_eq!(&three[2].path, &target);
        }
    }
}

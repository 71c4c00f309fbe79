//! Archives that lie, and ones made of noise.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { entries: 100, content_bytes: 1 << 20, name_bytes: 1 << 16 };

fn header(kind: u8, name: &str, size_bytes: u64) -> [u8; 512] {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).expect("a short name");
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size_bytes);
    header.set_mode(0o644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_cksum();
    *header.as_bytes()
}

/// Sets a field and makes the checksum right again.
fn with(mut block: [u8; 512], at: usize, field: &[u8]) -> [u8; 512] {
    block[at..at + field.len()].copy_from_slice(field);
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(&block);
    header.set_cksum();
    *header.as_bytes()
}

fn read(bytes: &[u8], limits: Limits) -> io::Result<Vec<(Member, Vec<u8>)>> {
    let mut archive = Archive::new(bytes, limits);
    let mut members = Vec::new();
    while let Some(member) = archive.next_member()? {
        let mut content = Vec::new();
        archive.read_to_end(&mut content)?;
        members.push((member, content));
    }
    Ok(members)
}

fn fails(bytes: &[u8], limits: Limits, reason: &str) {
    let error = read(bytes, limits).expect_err(reason);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(reason), "{error}");
}

fn one(block: [u8; 512]) -> Member {
    read(&block, LIMITS).expect("reads").remove(0).0
}

#[test]
fn everything_is_bounded() {
    let empty = header(b'0', "a", 0);
    assert_eq!(read(&empty.repeat(100), LIMITS).expect("reads").len(), 100);
    fails(&empty.repeat(101), LIMITS, "more entries");
    // Extensions count, even those without an entry behind them.
    fails(&header(b'g', "g", 0).repeat(101), LIMITS, "more entries");
    fails(&header(b'x', "x", 0).repeat(101), LIMITS, "more entries");
    fails(&header(b'0', "a", 2 << 20), LIMITS, "more bytes of content");
    let names = Limits { name_bytes: 3, ..LIMITS };
    fails(&[header(b'0', "ab", 0), header(b'0', "cd", 0)].concat(), names, "more bytes of names");
    for kind in [b'x', b'L', b'K'] {
        fails(&header(kind, "x", (1 << 20) + 1), LIMITS, "more than 1 MiB");
    }
    let large = with(empty, 124, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    fails(&large, LIMITS, "too large");
    let negative = with(empty, 124, &[0xff; 12]);
    fails(&negative, LIMITS, "cannot be negative");
}

#[test]
fn sparse_maps_are_bounded() {
    let endless = |block: [u8; 512]| {
        let first = with(with(block, 257, b"ustar  \0"), 482, &[1]);
        let mut more = [0; 512];
        more[504] = 1;
        [first.to_vec(), more.repeat(200)].concat()
    };
    fails(&endless(header(b'S', "s", 0)), LIMITS, "more entries");
    let records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n29 GNU.sparse.realsize=12345\n";
    let mut start = [header(b'x', "x", records.len() as u64).to_vec(), records.to_vec()].concat();
    start.resize(1024, 0);
    let with_map = |map: &[u8], size: u64| [start.as_slice(), &header(b'0', "s", size), map].concat();
    fails(&with_map(&[b'9'; 512], 512), LIMITS, "cut off");
    fails(&with_map(&[b'9'; 1024], 1024), LIMITS, "cut off");
    fails(&with_map(&b"999999999\n".repeat(100)[..512], 512), LIMITS, "cut off");
    fails(&with_map(&[b"x\n".as_slice(), &[0; 510]].concat(), 512), LIMITS, "not a number");
}

#[test]
fn numbers_are_octal_or_binary() {
    let block = header(b'0', "a", 0);
    let uid = |field: &[u8; 8]| Header(with(block, 108, field)).unsigned(108..116).ok();
    assert_eq!(uid(b"0000017\0"), Some(15));
    assert_eq!(uid(b"     17 "), Some(15));
    assert_eq!(uid(b"17\0 junk"), Some(15));
    assert_eq!(uid(b"        "), Some(0));
    assert_eq!(uid(&[0; 8]), Some(0));
    assert_eq!(uid(&[0x80, 0, 0, 0, 0xb2, 0xd0, 0x5e, 0]), Some(3_000_000_000));
    assert_eq!(uid(&[0xff; 8]), None);
    assert_eq!(uid(b"18\0\0\0\0\0\0"), None);
    assert_eq!(uid(b"-1\0\0\0\0\0\0"), None);
    // Before 1970, as GNU tar writes it.
    assert_eq!(one(with(block, 136, &[0xff; 12])).modified_ns, -1_000_000_000);
    let far = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(one(with(block, 136, &far)).modified_ns, i64::MAX);
}

#[test]
fn names_are_joined_as_their_format_says() {
    let block = with(header(b'0', "name", 0), 345, b"prefix");
    assert_eq!(one(block).name, b"prefix/name");
    assert_eq!(one(with(block, 257, b"ustar  \0")).name, b"name");
    assert_eq!(one(with(block, 257, &[0; 8])).name, b"name");
    assert_eq!(one(with(with(block, 476, b"12345"), 508, b"tar\0")).name, b"prefix/name");
    assert_eq!(one(with(header(b'0', "d/", 0), 156, &[0])).kind, MemberKind::Directory);
    assert_eq!(one(header(b'0', "d/", 0)).kind, MemberKind::File);
}

#[test]
fn links_and_directories_have_no_content() {
    for kind in b"123456" {
        let bytes = [header(*kind, "a", 512), header(b'0', "b", 0)].concat();
        let names: Vec<_> =
            read(&bytes, LIMITS).expect("reads").into_iter().map(|(member, _)| member.name).collect();
        assert_eq!(names, [b"a", b"b"], "{kind}");
    }
}

#[test]
fn checksums_of_both_kinds_are_right() {
    let mut block = with(header(b'0', "a", 0), 0, &[0xff; 10]);
    assert!(read(&block, LIMITS).is_ok());
    let sum: i64 = (0..512)
        .map(|at| if (148..156).contains(&at) { 32 } else { i64::from(block[at].cast_signed()) })
        .sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(read(&block, LIMITS).is_ok());
    block[148] ^= 1;
    fails(&block, LIMITS, "checksum");
}

#[test]
fn times_have_fractions() {
    for (text, expected) in [
        ("1700000000.25", 1_700_000_000_250_000_000),
        ("-1.5", -1_500_000_000),
        ("-0.5", -500_000_000),
        ("0", 0),
        ("1.0000000019", 1_000_000_001),
        ("99999999999999", i64::MAX),
        ("-99999999999999", -i64::MAX),
    ] {
        assert_eq!(parse_time(text.as_bytes()).expect(text), expected, "{text}");
    }
    for text in ["", "x", "1.x", "--1", "+1", "1e9"] {
        assert!(parse_time(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn an_empty_value_says_nothing() {
    let records = parse_records(b"8 path=\n12 path=abc\n8 path=\n").expect("records");
    assert_eq!(records.text("path"), None);
    assert_eq!(parse_records(b"12 path=abc\n").expect("records").text("path"), Some(b"abc".to_vec()));
    for bad in [
        b"12 path=abc".as_slice(),
        b"13 path=abc\n",
        b"11 path=abc\n",
        b"9 pathabc\n",
        b"4 =\n",
        b"1 ",
        b"0 a=b\n",
        b"-7 a=b\n",
        b"99999999999999999999 a=b\n",
        b"7 a\0=b\n",
        b"6 a=b\n\0\0",
    ] {
        assert!(parse_records(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_hold_any_value(
        pairs in prop::collection::vec(("[a-zA-Z.]{1,12}", prop::collection::vec(any::<u8>(), 0..200)), 0..8)
    ) {
        let mut bytes = Vec::new();
        for (key, value) in &pairs {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        let pairs = pairs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        prop_assert_eq!(parse_records(&bytes).unwrap(), Records(pairs));
    }

    #[test]
    fn noise_ends_without_a_panic(
        blocks in prop::collection::vec((any::<u8>(), prop::collection::vec((0_usize..500, any::<u8>()), 0..20)), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        // Headers that are nearly right, so that their checksums lead further in.
        let mut bytes = Vec::new();
        for (kind, changes) in blocks {
            let kind = b"0123456xgLKS\0"[usize::from(kind) % 13];
            let mut block = header(kind, "name", 100);
            for (at, byte) in changes {
                block = with(block, at, &[byte]);
            }
            bytes.extend(block);
            bytes.extend(b"30 mtime=1350244992.023960108\n22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.realsize=99\n".iter().copied().chain([0; 512]).take(512));
        }
        bytes.extend(noise);
        drop(read(&bytes, LIMITS));
        drop(parse_records(&bytes));
    }
}

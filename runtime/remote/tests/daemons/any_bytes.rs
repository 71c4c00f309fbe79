//! Any bytes as what a daemon answers: its status, what came of a build, why it failed, the archive of a layout, a tree.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use rb_remote::decoders;
use rb_wire::control::{StatusResponse, Vertex, VertexLog};
use rb_wire::files::packet::Type;
use rb_wire::files::{Packet, Stat};

proptest! {
    #[test]
    fn no_answer_breaks_who_reads_it(bytes in vec(any::<u8>(), 0..600), cut in 0_usize..600, flip in any::<u8>()) {
        let folder = tempfile::tempdir().expect("a folder");
        decoders::status(&bytes, &bytes);
        decoders::result(&bytes);
        decoders::failure(&bytes);
        decoders::unpacked(&bytes, folder.path());
        // And a status that is well formed but for a byte.
        let digest = rb_oci::Digest::of("a").to_string();
        let vertex = Vertex { digest: digest.clone(), name: "RUN".into(), ..Vertex::default() };
        let log = VertexLog { vertex: digest, msg: bytes.into(), ..VertexLog::default() };
        let status = StatusResponse { vertexes: vec![vertex], logs: vec![log], ..StatusResponse::default() };
        let mut good = status.encode_to_vec();
        decoders::status(&good, &good);
        let at = cut % good.len();
        good[at] ^= flip;
        decoders::status(&good, &good[..at]);
    }
}

/// A path of few letters, so that entries meet, climb and hide behind links.
fn path() -> impl Strategy<Value = String> {
    vec(prop_oneof!["[ab]", Just("..".to_owned()), Just(String::new()), Just(".".to_owned())], 1..4)
        .prop_map(|steps| steps.join("/"))
}

/// Modes of Go's: files, folders, symlinks, devices, pipes, sockets.
const KINDS: &[u32] = &[0, 0, 1 << 31, 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24];

/// A packet of an entry, as a daemon that means harm may send it.
fn entry() -> impl Strategy<Value = Packet> {
    (
        path(),
        prop_oneof![Just(String::new()), path(), Just("/etc".to_owned())],
        proptest::sample::select(KINDS),
        0_u32..0o1000,
        0_i64..9,
    )
        .prop_map(|(path, linkname, kind, mode, size)| {
            let stat = Stat { path, linkname, mode: kind | mode | 0o700, size, ..Stat::default() };
            Packet { r#type: Type::Stat.into(), stat: Some(stat), ..Packet::default() }
        })
}

proptest! {
    #[test]
    fn no_tree_leaves_its_folder(mut entries in vec(entry(), 0..8), data in vec((0_u32..9, vec(any::<u8>(), 0..9)), 0..9)) {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("a");
        std::fs::create_dir(&folder).expect("is made");
        std::fs::write(outer.path().join("b"), "mine").expect("is written");
        entries.push(Packet { r#type: Type::Stat.into(), ..Packet::default() });
        let pieces = data.into_iter().map(|(id, data)| Packet { r#type: Type::Data.into(), id, data: data.into(), ..Packet::default() });
        entries.extend(pieces);
        entries.push(Packet { r#type: Type::Fin.into(), ..Packet::default() });
        let packets = entries.iter().map(|packet| packet.encode_to_vec().into()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
        runtime.block_on(decoders::tree(packets, &folder));
        prop_assert_eq!(std::fs::read(outer.path().join("b")).expect("is there"), b"mine");
        let names = std::fs::read_dir(outer.path()).expect("is there").count();
        prop_assert_eq!(names, 2);
    }
}

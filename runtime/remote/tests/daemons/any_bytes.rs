//! Any bytes as what a daemon answers: its status, what came of a build, why it failed, the archive of a layout.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use rb_remote::decoders;
use rb_wire::control::{StatusResponse, Vertex, VertexLog};

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

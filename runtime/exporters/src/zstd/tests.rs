use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::blocks::Blocks;
use crate::gzip::tests::sample;

const BLOCK_BYTES: usize = Zstd::BLOCK_BYTES;

fn pack(bytes: &[u8], level: u32, threads: usize, piece: usize) -> Vec<u8> {
    let mut stream = Blocks::new(Zstd::new(level), Vec::new(), threads);
    bytes.chunks(piece).try_for_each(|piece| stream.write_all(piece)).expect("writes");
    stream.finish().expect("finishes")
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    ::zstd::decode_all(bytes).expect("is zstd")
}

#[test]
fn one_output_however_many_threads_and_pieces() {
    for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 12345] {
        let plain = sample(size);
        let once = pack(&plain, 3, 1, 1 << 20);
        assert_eq!(unpack(&once), plain, "{size}");
        for (threads, piece) in [(2, 1 << 20), (3, 100_000), (8, 1 << 30)] {
            assert!(
                pack(&plain, 3, threads, piece) == once,
                "{size} bytes, {threads} threads, pieces of {piece}"
            );
        }
    }
}

#[test]
fn frames_cost_little_and_every_level_is_zstd() {
    let plain = sample(4 * BLOCK_BYTES);
    let serial = ::zstd::encode_all(&plain[..], 3).expect("compresses").len();
    let ours = pack(&plain, 3, 2, 1 << 20).len();
    assert!(ours < serial + serial / 50, "{ours} against {serial}");
    for level in [0, 1, 9, 19, 22, 99] {
        assert_eq!(unpack(&pack(&plain[..100_000], level, 2, 4096)), plain[..100_000], "{level}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn small_inputs_survive(bytes: Vec<u8>, threads in 1_usize..4, piece in 1_usize..50) {
        prop_assert_eq!(unpack(&pack(&bytes, 3, threads, piece)), bytes);
    }
}

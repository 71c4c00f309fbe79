use std::io::{Read as _, Write};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::blocks::Blocks;

const BLOCK_BYTES: usize = Gzip::BLOCK_BYTES;
const LEVEL: u32 = rb_oci::Compression::GZIP_LEVEL;

/// Bytes that compress, though not to nothing.
pub(crate) fn sample(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let words: Vec<Vec<u8>> =
        (0..200).map(|_| (0..3 + next() % 9).map(|_| b'a' + (next() % 26) as u8).collect()).collect();
    let mut bytes = Vec::with_capacity(count + 16);
    while bytes.len() < count {
        bytes.extend_from_slice(&words[next() as usize % words.len()]);
        bytes.push(b' ');
    }
    bytes.truncate(count);
    bytes
}

fn gzip(bytes: &[u8], threads: usize, piece: usize) -> Vec<u8> {
    let mut stream = Blocks::new(Gzip::new(LEVEL), Vec::new(), threads);
    bytes.chunks(piece).try_for_each(|piece| stream.write_all(piece)).expect("writes");
    stream.finish().expect("finishes")
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).expect("is gzip");
    plain
}

#[test]
fn one_output_however_many_threads_and_pieces() {
    for size in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 12345] {
        let plain = sample(size);
        let once = gzip(&plain, 1, 1 << 20);
        assert_eq!(gunzip(&once), plain, "{size}");
        for (threads, piece) in [(1, 777), (2, 1 << 20), (2, 512), (3, 100_000), (8, 1 << 30)] {
            assert!(
                gzip(&plain, threads, piece) == once,
                "{size} bytes, {threads} threads, pieces of {piece}"
            );
        }
    }
}

#[test]
fn what_does_not_compress_is_stored_and_all_else_is_not() {
    let mut state = 7_u64;
    let mut noise = |count: usize| -> Vec<u8> {
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..count).map(|_| byte()).collect()
    };
    let random = noise(BLOCK_BYTES);
    let stored = Gzip::new(LEVEL).compress(&random, &[]).expect("compresses").0;
    let window = 1000..2000;
    assert!(stored.windows(1000).any(|part| *part == random[window.clone()]), "it is not stored");
    assert_eq!(gunzip(&gzip(&random, 2, 1 << 20)), random);
    // As even as noise, and not as dense.
    let repeated = noise(20_000).repeat(5);
    let mixed = [noise(500_000), sample(100_000), noise(400_000)].concat();
    for (bytes, most) in [(repeated, 25_000), (mixed, 960_000), (sample(BLOCK_BYTES), BLOCK_BYTES / 2)] {
        let packed = gzip(&bytes, 2, 1 << 20);
        assert!(packed.len() < most, "{} of {} bytes", packed.len(), bytes.len());
        assert_eq!(gunzip(&packed), bytes);
    }
}

#[test]
fn blocks_cost_little_and_what_does_not_compress_grows_little() {
    let plain = sample(4 * BLOCK_BYTES);
    let mut serial = flate2::write::GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    serial.write_all(&plain).expect("writes");
    let serial = serial.finish().expect("finishes").len();
    let ours = gzip(&plain, 2, 1 << 20).len();
    assert!(ours < serial + serial / 100, "{ours} against {serial}");
    let mut random = vec![0; 2 * BLOCK_BYTES + 1];
    let mut state = 7_u64;
    for byte in &mut random {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let packed = gzip(&random, 2, 1 << 20);
    assert_eq!(gunzip(&packed), random);
    assert!(packed.len() < random.len() + random.len() / 500, "{}", packed.len());
}

#[test]
fn every_level_is_gzip() {
    let plain = sample(BLOCK_BYTES + 5);
    for level in 0..=9 {
        let mut stream = Blocks::new(Gzip::new(level), Vec::new(), 2);
        stream.write_all(&plain).expect("writes");
        assert_eq!(gunzip(&stream.finish().expect("finishes")), plain, "{level}");
    }
}

#[test]
fn gunzip_reads_it() {
    let plain = sample(3 * BLOCK_BYTES + 99);
    let child = Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        eprintln!("steps aside: there is no gunzip");
        return;
    };
    let mut input = child.stdin.take().expect("is piped");
    let packed = gzip(&plain, 2, 4096);
    let feeder = std::thread::spawn(move || input.write_all(&packed).expect("writes"));
    let output = child.wait_with_output().expect("runs");
    feeder.join().expect("fed");
    assert!(output.status.success() && output.stdout == plain);
}

#[test]
fn a_full_disk_is_an_error_and_no_hang() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = bytes.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for threads in [1, 2] {
        let mut stream = Blocks::new(Gzip::new(LEVEL), Full(100_000), threads);
        let plain = sample(16 * BLOCK_BYTES);
        let result = stream.write_all(&plain).and_then(|()| stream.finish().map(drop));
        assert_eq!(result.expect_err("is full").kind(), io::ErrorKind::StorageFull);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn small_inputs_survive(bytes: Vec<u8>, threads in 1_usize..4, piece in 1_usize..50) {
        prop_assert_eq!(gunzip(&gzip(&bytes, threads, piece)), bytes);
    }
}

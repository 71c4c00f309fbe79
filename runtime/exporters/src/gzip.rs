//! Gzip by blocks.
//!
//! Each block of 1 MiB is deflated with the last 32 KiB of the block before it as dictionary and ends with a sync flush, so
//! the blocks make one deflate stream, about as small as a serial one. The checksums of the blocks are combined. A block
//! that deflate would not make smaller, such as one of a picture or an archive, is stored as it is: to look for repetitions in
//! it costs the most of all.
//! Source: RFC 1951, RFC 1952; the scheme is pigz's.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::blocks::Codec;

/// Magic, deflate, no flags, no time, no hint, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty last block with fixed codes.
const END: [u8; 2] = [0x03, 0x00];

/// Gzip at a level from 0 to 9.
#[derive(Clone, Copy)]
pub(crate) struct Gzip {
    level: u32,
}

impl Gzip {
    pub(crate) fn new(level: u32) -> Self {
        Self { level: level.min(9) }
    }
}

impl Codec for Gzip {
    type Note = Crc;

    const BLOCK_BYTES: usize = 1 << 20;

    /// How far back deflate looks.
    const WINDOW_BYTES: usize = 32 << 10;

    /// With all their blocks in flight they hold less than 100 MB.
    fn most_threads(&self) -> usize {
        16
    }

    /// Deflates one block to a byte boundary. A fresh compressor each time, so that nothing of another block is in it.
    fn compress(&self, block: &[u8], dictionary: &[u8]) -> io::Result<(Vec<u8>, Crc)> {
        let mut checksum = Crc::new();
        checksum.update(block);
        let level = if self.level > PROBE_LEVEL && is_dense(block)? { 0 } else { self.level };
        Ok((deflate(block, dictionary, level)?, checksum))
    }

    fn head(&self) -> Vec<u8> {
        HEADER.to_vec()
    }

    fn add(all: &mut Crc, next: &Crc) {
        all.combine(next);
    }

    fn tail(&self, all: &Crc) -> io::Result<Vec<u8>> {
        let (sum, amount) = (all.sum().to_le_bytes(), all.amount().to_le_bytes());
        Ok([&END[..], &sum, &amount].concat())
    }
}

/// The level that tells whether a block gets smaller at all.
const PROBE_LEVEL: u32 = 1;

/// Pieces of a block that are tried; each holds what deflate sees at once twice.
const PROBE_BYTES: usize = 64 << 10;

/// Blocks that are smaller are deflated without a look.
const LEAST_BYTES: usize = 16 << 10;

/// Says whether deflate would hardly save anything of a block. Where some bytes are more frequent than others it would: that
/// alone decides for most blocks, and two pieces of the others are tried.
fn is_dense(block: &[u8]) -> io::Result<bool> {
    if block.len() < LEAST_BYTES {
        return Ok(false);
    }
    let mut counts = [0_u64; 256];
    block.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = block.len() as u64;
    // As in the index of coincidence: 1 where all bytes are as frequent, 256 where there is but one.
    let evenness = counts.iter().map(|count| count * count).sum::<u64>() * 256;
    if evenness > total * total / 32 * 33 {
        return Ok(false);
    }
    let quarter = block.len() / 4;
    for begin in [quarter, 3 * quarter] {
        let begin = begin.min(block.len().saturating_sub(PROBE_BYTES));
        let piece = &block[begin..block.len().min(begin + PROBE_BYTES)];
        if deflate(piece, &[], PROBE_LEVEL)?.len() < piece.len() / 128 * 127 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deflates a block to a byte boundary.
fn deflate(block: &[u8], dictionary: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(Compression::new(level), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary)?;
    }
    let capacity = if level > PROBE_LEVEL { block.len() / 2 } else { block.len() + block.len() / 16 };
    let mut compressed = Vec::with_capacity(capacity + 4096);
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(block.len());
        let status = deflate.compress_vec(&block[consumed..], &mut compressed, FlushCompress::Sync)?;
        // Room left in the output: all is consumed and flushed.
        if status == Status::BufError || compressed.len() < compressed.capacity() {
            break;
        }
        compressed.reserve(compressed.capacity() / 2);
    }
    Ok(compressed)
}

#[cfg(test)]
pub(crate) mod tests;

//! Gzip by blocks.
//!
//! Each block of 1 MiB is deflated with the last 32 KiB of the block before it as dictionary and ends with a sync flush, so
//! the blocks make one deflate stream, about as small as a serial one. The checksums of the blocks are combined.
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
        let mut deflate = Compress::new(Compression::new(self.level), false);
        if !dictionary.is_empty() {
            deflate.set_dictionary(dictionary)?;
        }
        let mut compressed = Vec::with_capacity(block.len() / 2 + 4096);
        loop {
            let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(block.len());
            let status = deflate.compress_vec(&block[consumed..], &mut compressed, FlushCompress::Sync)?;
            // Room left in the output: all is consumed and flushed.
            if status == Status::BufError || compressed.len() < compressed.capacity() {
                break;
            }
            compressed.reserve(compressed.capacity() / 2);
        }
        Ok((compressed, checksum))
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

#[cfg(test)]
pub(crate) mod tests;

//! Zstandard by blocks.
//!
//! Each block of 2 MiB becomes a frame of its own that knows its size; frames one after another are one stream. That
//! costs a little of what zstd's own threads would save, and the bytes are the same on every machine: those of zstd's
//! threads depend on how it cuts its input into jobs. Source: RFC 8878, section 3.1.

use std::io;

use ::zstd::bulk::Compressor;

use crate::blocks::Codec;

/// Beyond this level one thread takes tens of megabytes.
const LIGHT: i32 = 12;

/// Zstandard at a level from 1 to 22.
#[derive(Clone, Copy)]
pub(crate) struct Zstd {
    level: i32,
}

impl Zstd {
    pub(crate) fn new(level: u32) -> Self {
        Self { level: i32::try_from(level.clamp(1, 22)).unwrap_or(22) }
    }
}

impl Codec for Zstd {
    /// There was a frame.
    type Note = bool;

    const BLOCK_BYTES: usize = 2 << 20;

    /// A frame knows nothing of others.
    const WINDOW_BYTES: usize = 0;

    fn most_threads(&self) -> usize {
        if self.level > LIGHT { 2 } else { 8 }
    }

    /// A fresh compressor each time, so that nothing of another block is in it.
    fn compress(&self, block: &[u8], _dictionary: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut compressor = Compressor::new(self.level)?;
        // Blobs are verified by their digests.
        compressor.include_checksum(false)?;
        Ok((compressor.compress(block)?, true))
    }

    fn head(&self) -> Vec<u8> {
        Vec::new()
    }

    fn add(all: &mut bool, next: &bool) {
        *all |= *next;
    }

    /// Nothing at all would not be zstd.
    fn tail(&self, is_there: &bool) -> io::Result<Vec<u8>> {
        if *is_there { Ok(Vec::new()) } else { self.compress(&[], &[]).map(|(frame, _)| frame) }
    }
}

#[cfg(test)]
mod tests;

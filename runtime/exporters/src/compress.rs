//! The bytes of a layer, compressed as asked, and read back.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use rb_oci::Compression;

use crate::blocks::Blocks;
use crate::gzip::Gzip;
use crate::zstd::Zstd;

/// Compresses what is written to it. Needs [`Encoder::finish`].
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    Gzip(Blocks<Gzip, W>),
    Zstd(Blocks<Zstd, W>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream that is compressed by as many threads.
    pub(crate) fn new(compression: Compression, out: W, threads: usize) -> Self {
        match compression {
            Compression::Uncompressed => Self::Plain(out),
            Compression::Gzip { level } => Self::Gzip(Blocks::new(Gzip::new(level), out, threads)),
            Compression::Zstd { level } => Self::Zstd(Blocks::new(Zstd::new(level), out, threads)),
        }
    }

    /// Ends the stream. Returns the output.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(blocks) => blocks.finish(),
            Self::Zstd(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(blocks) => blocks.write(bytes),
            Self::Zstd(blocks) => blocks.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(blocks) => blocks.flush(),
            Self::Zstd(blocks) => blocks.flush(),
        }
    }
}

/// Reads what was compressed by anybody.
pub(crate) fn decoder<'a>(compression: Compression, blob: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::Uncompressed => Box::new(blob),
        Compression::Gzip { .. } => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd { .. } => Box::new(::zstd::Decoder::new(blob)?),
    })
}

//! The uncompressed bytes of a layer or another archive, made ahead of who reads them.
//!
//! In: a blob, packed by gzip, zstd, bzip2, xz or not at all; its first bytes say which. Out: a reader. A thread of its own
//! reads, verifies and unpacks, some megabytes ahead. Several gzip members, zstd frames, bzip2 or xz streams in a row are one
//! stream, as their formats say. Layers are packed by the first two only: the others are for archives of the
//! user's. Dropping the reader ends the thread.
//!
//! bzip2 is unpacked by its translation to Rust. xz is by the original library, linked in: the translations at hand keep a
//! block in memory whole, and bound nothing.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

const BUFFER_BYTES: usize = 128 << 10;
/// How far the thread may be ahead, in buffers.
const AHEAD: usize = 32;
/// Window of a zstd stream that is unpacked, as its format wants decoders to bound it: 2^27 bytes, what `zstd --ultra`
/// uses at most without being told otherwise.
const WINDOW_LOG: u32 = 27;
/// Memory for an xz stream; `xz -9` needs 65 MiB.
const XZ_BYTES: u64 = 256 << 20;

/// How a blob may be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formats {
    /// As layers are: gzip, zstd, or not at all.
    Layer,
    /// As archives are: bzip2 and xz too.
    Archive,
}

/// What the thread says.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

/// A layer being unpacked.
pub(crate) struct Unpacked {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    ended: bool,
}

/// How a blob is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Packing {
    /// Tells it by the first bytes. Those of a tar archive are a name, which begins like none of the others.
    fn of(start: &[u8], formats: Formats) -> Self {
        match start {
            [b'B', b'Z', b'h', ..] if formats == Formats::Archive => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] if formats == Formats::Archive => Self::Xz,
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl Unpacked {
    /// Starts to unpack a layer.
    pub(crate) fn start(blob: impl Read + Send + 'static) -> io::Result<Self> {
        Self::start_as(Formats::Layer, blob)
    }

    /// Starts to unpack what may be packed in one of `formats`.
    pub(crate) fn start_as(formats: Formats, blob: impl Read + Send + 'static) -> io::Result<Self> {
        let (pieces, receiver) = sync_channel(AHEAD);
        let body = move || {
            let end = match pump(BufReader::with_capacity(BUFFER_BYTES, blob), formats, &pieces) {
                Ok(()) => Piece::End,
                Err(error) => Piece::Failed(error),
            };
            // Nobody may be reading any more.
            pieces.send(end).ok();
        };
        std::thread::Builder::new().name("rb-unpack".to_owned()).spawn(body)?;
        Ok(Self { pieces: receiver, current: Vec::new(), at: 0, ended: false })
    }
}

/// Unpacks until the end, or until nobody reads any more.
fn pump<R: Read>(mut blob: BufReader<R>, formats: Formats, pieces: &SyncSender<Piece>) -> io::Result<()> {
    match Packing::of(blob.fill_buf()?, formats) {
        Packing::Plain => send_all(blob, pieces),
        Packing::Gzip => send_all(MultiGzDecoder::new(blob), pieces),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(WINDOW_LOG)?;
            send_all(decoder, pieces)
        }
        Packing::Bzip2 => send_all(MultiBzDecoder::new(blob), pieces),
        Packing::Xz => {
            let stream = Stream::new_stream_decoder(XZ_BYTES, CONCATENATED)?;
            send_all(XzDecoder::new_stream(blob, stream), pieces)
        }
    }
}

fn send_all(mut input: impl Read, pieces: &SyncSender<Piece>) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(BUFFER_BYTES);
        let read = input.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut piece);
        // What was read before it failed counts: by it an archive is told that was cut short.
        let ended = piece.is_empty() || pieces.send(Piece::Bytes(piece)).is_err();
        read?;
        if ended {
            return Ok(());
        }
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => (self.current, self.at) = (bytes, 0),
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("the thread that unpacks it has died")),
            }
        }
        let rest = &self.current[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(blob: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Unpacked::start(io::Cursor::new(blob))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn however_it_is_packed_and_in_however_many_parts() {
        let (one, two) = (b"one".repeat(100_000), b"two".repeat(3));
        let whole = [one.clone(), two.clone()].concat();
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (what, blob) in [
            ("plain", whole.clone()),
            ("gzip", gzip(&whole)),
            ("members", [gzip(&one), gzip(&[]), gzip(&two)].concat()),
            ("zstd", zstd(&whole)),
            ("frames", [skipped.clone(), zstd(&one), skipped.clone(), zstd(&two), skipped].concat()),
        ] {
            assert_eq!(unpacked(blob).unwrap(), whole, "{what}");
        }
        assert!(unpacked(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn what_is_cut_or_wrong_is_an_error() {
        let bytes = b"some text ".repeat(1000);
        for mut blob in [gzip(&bytes), zstd(&bytes)] {
            let end = blob.len();
            unpacked(blob[..end - 5].to_vec()).unwrap_err();
            blob[end / 2] ^= 0xff;
            unpacked(blob).unwrap_err();
        }
        // A window of 2 GiB.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        unpacked(huge.to_vec()).unwrap_err();
    }

    #[test]
    fn who_stops_reading_ends_the_thread() {
        struct Endless(SyncSender<()>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'x');
                Ok(buffer.len())
            }
        }
        impl Drop for Endless {
            fn drop(&mut self) {
                self.0.send(()).ok();
            }
        }
        let (gone, waits) = sync_channel(1);
        let mut reader = Unpacked::start(Endless(gone)).unwrap();
        reader.read_exact(&mut [0; 1000]).unwrap();
        drop(reader);
        waits.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    }
}

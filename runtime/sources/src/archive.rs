//! Tar archives of strangers, read entry by entry.
//!
//! In: the uncompressed bytes of a layer. Out: [`Member`]s, with the records that describe them (PAX `x`, GNU `L` and
//! `K`) taken in, and their contents with holes filled in. Differences between readers are how an archive shows one
//! thing to a scanner and another to the unpacker, so questions left open by the formats are answered as Go's
//! archive/tar answers them, which wrote nearly all layers: GNU names win over PAX ones, an empty PAX value means the
//! header's, links and directories have no content, and global records (`g`) are skipped.
//! A reader of our own because that of the `tar` crate cuts PAX records at newlines, which values of
//! `security.capability` may contain, reads records of any size into memory, and knows no PAX sparse files.
//! **Invariant:** memory and the number of entries are bounded, whatever the archive says.
//! Source: POSIX pax, "pax Interchange Format"; the GNU tar manual, "Basic Tar Format" and "Sparse Formats".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};

mod header;
mod records;

use header::Header;
use records::{Records, parse_number, parse_records, parse_time};

/// How much of an archive is believed; more is taken for an attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Headers, those of extensions included.
    pub(crate) entries: u64,
    /// Bytes of all files once holes are filled in.
    pub(crate) content_bytes: u64,
    /// Bytes of all names.
    pub(crate) name_bytes: u64,
}

/// As Go bounds them: records of one entry, long names, the map of a sparse file.
const EXTENSION_BYTES: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 512;

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified_ns: i64,
    pub(crate) xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Other(u8),
}

/// An archive being read.
pub(crate) struct Archive<R> {
    input: R,
    limits: Limits,
    /// What is left of them.
    left: Limits,
    /// What of the current entry was not read yet: its data, and what fills its last block.
    data: u64,
    padding: u64,
    /// Where the current entry's data belongs, next part first, and where its content ends.
    fragments: std::vec::IntoIter<Fragment>,
    fragment: Option<Fragment>,
    at: u64,
    end: u64,
    /// Why reading failed last: tells a bad archive from a bad disk where both pass through one call.
    fault: Option<String>,
}

/// A part of a sparse file that is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fragment {
    offset: u64,
    length: u64,
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        let fragments = Vec::new().into_iter();
        Self {
            input,
            limits,
            left: limits,
            data: 0,
            padding: 0,
            fragments,
            fragment: None,
            at: 0,
            end: 0,
            fault: None,
        }
    }

    /// Returns the next entry, whose content is what [`Read`] gives until the one after it is asked for.
    pub(crate) fn next_member(&mut self) -> io::Result<Option<Member>> {
        let (mut records, mut long_name, mut long_link) = (None, None, None);
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return match (&records, &long_name, &long_link) {
                    (None, None, None) => Ok(None),
                    _ => Err(invalid("it ends after a header that describes the next entry")),
                };
            };
            spend(&mut self.left.entries, 1, (self.limits.entries, "entries"))?;
            match header.flag() {
                b'x' => records = Some(parse_records(&self.extension(&header)?)?),
                b'L' => long_name = Some(until_nul(&self.extension(&header)?).to_vec()),
                b'K' => long_link = Some(until_nul(&self.extension(&header)?).to_vec()),
                b'g' => self.expect(header.size()?)?,
                _ => {
                    return self.member(&header, records.unwrap_or_default(), long_name, long_link).map(Some);
                }
            }
        }
    }

    /// Returns how long the content of the current entry is.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.end
    }

    /// Returns why the last read failed, if it did.
    pub(crate) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    fn member(
        &mut self,
        header: &Header,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Member> {
        let mut name = long_name.or_else(|| records.text("path")).unwrap_or_else(|| header.name());
        let link = long_link.or_else(|| records.text("linkpath")).unwrap_or_else(|| header.link());
        let device = || Ok::<_, io::Error>((header.device(329)?, header.device(337)?));
        let kind = match header.flag() {
            0 if name.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' => device().map(|(major, minor)| MemberKind::CharDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| MemberKind::BlockDevice { major, minor })?,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            other => MemberKind::Other(other),
        };
        if let MemberKind::File = kind {
            let stored = records.number("size")?.map_or_else(|| header.size(), Ok)?;
            self.expect(stored)?;
            if header.flag() == b'S' {
                let (fragments, real) = self.old_sparse_map(header)?;
                self.set_sparse(fragments, real)?;
            } else if let Some((fragments, real)) = self.pax_sparse_map(&records)? {
                name = records.text("GNU.sparse.name").unwrap_or(name);
                self.set_sparse(fragments, real)?;
            }
            spend(&mut self.left.content_bytes, self.end, (self.limits.content_bytes, "bytes of content"))?;
        }
        spend(&mut self.left.name_bytes, name.len() as u64, (self.limits.name_bytes, "bytes of names"))?;
        let id = |key, at| records.number(key)?.map_or_else(|| header.unsigned(at), Ok);
        Ok(Member {
            kind,
            mode: u32::try_from(header.unsigned(100..108)? & 0o7777).unwrap_or(0),
            uid: id("uid", 108..116)?,
            gid: id("gid", 116..124)?,
            modified_ns: match records.text("mtime") {
                Some(text) => parse_time(&text)?,
                None => header.number(136..148)?.saturating_mul(1_000_000_000),
            },
            xattrs: records.xattrs(),
            name,
        })
    }

    /// Reads a header; none at the end of the archive, which is two blocks of zeros or simply the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let Some(header) = self.block()? else { return Ok(None) };
        if !header.is_blank() {
            header.check()?;
            return Ok(Some(header));
        }
        match self.block()? {
            Some(header) if !header.is_blank() => Err(invalid("there is a lone block of zeros in it")),
            // What comes after the two blocks is no part of the archive.
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK_BYTES as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(invalid("it ends in the middle of a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Header(block)))
    }

    /// Notes that so many bytes of data follow, all of them content.
    fn expect(&mut self, size_bytes: u64) -> io::Result<()> {
        if i64::try_from(size_bytes).is_err() {
            return Err(invalid(format!("an entry of {size_bytes} bytes cannot be")));
        }
        self.data = size_bytes;
        self.padding = size_bytes.wrapping_neg() % BLOCK_BYTES;
        self.set_sparse(vec![Fragment { offset: 0, length: size_bytes }], size_bytes)
    }

    fn set_sparse(&mut self, fragments: Vec<Fragment>, end: u64) -> io::Result<()> {
        let mut covered = 0_u64;
        let mut stored = 0_u64;
        for Fragment { offset, length } in &fragments {
            let stop = offset.checked_add(*length).filter(|stop| *offset >= covered && *stop <= end);
            covered =
                stop.ok_or_else(|| invalid("the parts of a sparse file overlap or lie outside of it"))?;
            stored += length;
        }
        if stored != self.data {
            return Err(invalid("the parts of a sparse file are not as long as its data"));
        }
        self.fragments = fragments.into_iter();
        self.fragment = self.fragments.next();
        (self.at, self.end) = (0, end);
        Ok(())
    }

    /// Skips what is left of the current entry.
    fn skip(&mut self) -> io::Result<()> {
        let left = self.data + self.padding;
        let skipped = io::copy(&mut (&mut self.input).take(left), &mut io::sink())?;
        if skipped < self.data {
            return Err(invalid("it ends in the middle of an entry"));
        }
        (self.data, self.padding, self.at, self.end) = (0, 0, 0, 0);
        (self.fragment, self.fragments) = (None, Vec::new().into_iter());
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size_bytes = header.size()?;
        if size_bytes > EXTENSION_BYTES {
            return Err(invalid(format!("a header of {size_bytes} bytes is more than 1 MiB")));
        }
        self.expect(size_bytes)?;
        self.take_data(size_bytes)
    }

    /// Takes raw bytes off the current entry's data.
    fn take_data(&mut self, count: u64) -> io::Result<Vec<u8>> {
        self.data = self.data.checked_sub(count).ok_or_else(|| invalid("a sparse map is cut off"))?;
        let mut bytes = Vec::new();
        (&mut self.input).take(count).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != count {
            return Err(invalid("it ends in the middle of a header"));
        }
        Ok(bytes)
    }

    /// GNU's first format: four parts in the header, more in blocks behind it, which are not counted as data.
    fn old_sparse_map(&mut self, header: &Header) -> io::Result<(Vec<Fragment>, u64)> {
        let mut fragments = Vec::new();
        let real = header.unsigned(483..495)?;
        header.sparse_parts(386, 4, &mut fragments)?;
        let mut more = header.0[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(|| invalid("a sparse map is cut off"))?;
            block.sparse_parts(0, 21, &mut fragments)?;
            more = block.0[504] != 0;
            if fragments.len() as u64 * 24 > EXTENSION_BYTES {
                return Err(invalid("a sparse file has too many parts"));
            }
            // A block without parts is no reason to go on for ever.
            spend(&mut self.left.entries, 1, (self.limits.entries, "entries"))?;
        }
        Ok((fragments, real))
    }

    /// The formats in PAX records: 0.0 and 0.1 have the map in the records, 1.0 has it before the data.
    fn pax_sparse_map(&mut self, records: &Records) -> io::Result<Option<(Vec<Fragment>, u64)>> {
        let version = (records.number("GNU.sparse.major")?, records.number("GNU.sparse.minor")?);
        let numbers = match version {
            (Some(1), Some(0)) => self.leading_numbers()?,
            (None | Some(0), None | Some(0 | 1)) => match records.sparse_map()? {
                Some(numbers) => numbers,
                None => return Ok(None),
            },
            _ => return Err(invalid("a sparse file has a format that is not known")),
        };
        let real = match records.number("GNU.sparse.realsize")? {
            Some(real) => real,
            None => records.number("GNU.sparse.size")?.ok_or_else(|| invalid("a sparse file has no size"))?,
        };
        let fragments =
            numbers.chunks(2).map(|pair| Fragment { offset: pair[0], length: *pair.get(1).unwrap_or(&0) });
        Ok(Some((fragments.collect(), real)))
    }

    /// Reads the map of format 1.0: a count and so many pairs, a line each, in blocks of their own.
    fn leading_numbers(&mut self) -> io::Result<Vec<u64>> {
        let mut text = Vec::new();
        let mut lines = 0;
        let mut wanted = None;
        loop {
            let start = text.len();
            text.extend(self.take_data(BLOCK_BYTES)?);
            lines += text[start..].iter().filter(|byte| **byte == b'\n').count() as u64;
            if text.len() as u64 > EXTENSION_BYTES {
                return Err(invalid("a sparse file has too many parts"));
            }
            let mut numbers = text.split(|byte| *byte == b'\n');
            if wanted.is_none() && lines > 0 {
                let count = parse_number(numbers.next().unwrap_or_default())?;
                wanted = count.checked_mul(2);
            }
            if wanted.is_some_and(|wanted| lines > wanted) {
                let wanted = usize::try_from(wanted.unwrap_or(0)).unwrap_or(usize::MAX);
                return text.split(|byte| *byte == b'\n').skip(1).take(wanted).map(parse_number).collect();
            }
        }
    }
}

/// The content of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.fragment.is_some_and(|fragment| self.at >= fragment.offset + fragment.length) {
            self.fragment = self.fragments.next();
        }
        let bounded = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let (count, is_hole) = match self.fragment {
            Some(part) if self.at >= part.offset => (bounded(part.offset + part.length - self.at), false),
            Some(part) => (bounded(part.offset - self.at), true),
            None => (bounded(self.end - self.at), true),
        };
        if count == 0 {
            return Ok(0);
        }
        let buffer = &mut buffer[..count];
        if is_hole {
            buffer.fill(0);
            self.at += count as u64;
            return Ok(count);
        }
        match self.input.read(buffer) {
            Ok(0) => {
                let error = invalid("it ends in the middle of a file");
                self.fault = Some(error.to_string());
                Err(error)
            }
            Ok(count) => {
                self.at += count as u64;
                self.data -= count as u64;
                Ok(count)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.fault = Some(error.to_string());
                }
                Err(error)
            }
        }
    }
}

/// Takes `amount` off what is left of a limit. What has more than that is read no further.
fn spend(left: &mut u64, amount: u64, (limit, what): (u64, &str)) -> io::Result<()> {
    let refused = || invalid(format!("it has more {what} than are taken of one archive: {limit}"));
    *left = left.checked_sub(amount).ok_or_else(refused)?;
    Ok(())
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;

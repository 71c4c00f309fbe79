//! The 512 bytes that begin an entry of an archive, and the numbers in them.
//!
//! In: a block. Out: its fields, read as Go's archive/tar reads them; nothing is looked at before the checksum is
//! right.
//! Source: the GNU tar manual, "Basic Tar Format"; POSIX pax, "ustar Interchange Format".

use std::io;
use std::ops::Range;

use super::{BLOCK_BYTES, Fragment, invalid, until_nul};

/// The 512 bytes that begin an entry.
pub(super) struct Header(pub(super) [u8; BLOCK_BYTES as usize]);

impl Header {
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        let bytes = || self.0[..148].iter().chain(&[b' '; 8]).chain(&self.0[156..]).copied();
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        let said = self.number(148..156)?;
        if said == unsigned || said == signed {
            Ok(())
        } else {
            Err(invalid("the checksum of a header is wrong"))
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        self.unsigned(124..136)
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = match (&self.0[257..263], &self.0[508..512]) {
            (b"ustar\0", b"tar\0") => until_nul(&self.0[345..476]),
            (b"ustar\0", _) => until_nul(&self.0[345..500]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn device(&self, at: usize) -> io::Result<u32> {
        // The oldest format has no such fields.
        let number = if &self.0[257..262] == b"ustar" { self.unsigned(at..at + 8)? } else { 0 };
        u32::try_from(number).map_err(|_| invalid("a device number is too large"))
    }

    pub(super) fn unsigned(&self, field: Range<usize>) -> io::Result<u64> {
        u64::try_from(self.number(field)?).map_err(|_| invalid("a number that cannot be negative is"))
    }

    /// Octal digits between blanks, or, where the first bit is set, the two's complement of the other bits.
    pub(super) fn number(&self, field: Range<usize>) -> io::Result<i64> {
        let field = &self.0[field];
        let too_large = || invalid("a number in a header is too large");
        if field[0] & 0x80 != 0 {
            // The second bit is the sign.
            let first = i64::from(field[0] & 0x7f) - i64::from(field[0] & 0x40) * 2;
            return field[1..]
                .iter()
                .try_fold(first, |number, byte| {
                    number.checked_mul(256).and_then(|number| number.checked_add(i64::from(*byte)))
                })
                .ok_or_else(too_large);
        }
        let blank = |byte: &u8| matches!(byte, b' ' | 0);
        let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
        let digits = until_nul(&field[start..]).trim_ascii_end();
        digits.iter().try_fold(0_i64, |number, digit| match digit {
            b'0'..=b'7' => {
                number.checked_mul(8).map(|number| number + i64::from(digit - b'0')).ok_or_else(too_large)
            }
            _ => Err(invalid("a number in a header is none")),
        })
    }

    pub(super) fn sparse_parts(
        &self,
        start: usize,
        count: usize,
        parts: &mut Vec<Fragment>,
    ) -> io::Result<()> {
        for at in (0..count).map(|index| start + index * 24) {
            if self.0[at] == 0 {
                break;
            }
            parts.push(Fragment {
                offset: self.unsigned(at..at + 12)?,
                length: self.unsigned(at + 12..at + 24)?,
            });
        }
        Ok(())
    }
}

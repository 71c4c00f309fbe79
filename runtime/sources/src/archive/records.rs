//! PAX records: what describes an entry beyond its header.
//!
//! In: the content of an `x` entry. Out: its records, in their order. Of two with one key the last counts, and an empty
//! value says nothing.
//! Source: POSIX pax, "pax Extended Header"; the GNU tar manual, "Sparse Formats".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use super::invalid;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// PAX records of one entry, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// The last value of a key; an empty one says nothing.
    pub(super) fn text(&self, key: &str) -> Option<Vec<u8>> {
        let found = self.0.iter().rev().find(|(known, _)| known == key.as_bytes());
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, key: &str) -> io::Result<Option<u64>> {
        self.text(key).map(|value| parse_number(&value)).transpose()
    }

    pub(super) fn xattrs(&self) -> BTreeMap<OsString, Vec<u8>> {
        let named = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let name = key.strip_prefix(XATTR).filter(|name| !name.is_empty())?;
            Some((OsString::from_vec(name.to_vec()), value.clone()))
        };
        self.0.iter().filter_map(named).collect()
    }

    /// The map of format 0.1, one record, or of 0.0, two for every part.
    pub(super) fn sparse_map(&self) -> io::Result<Option<Vec<u64>>> {
        if let Some(map) = self.text("GNU.sparse.map") {
            return map.split(|byte| *byte == b',').map(parse_number).collect::<io::Result<_>>().map(Some);
        }
        if self.text("GNU.sparse.numblocks").is_none() {
            return Ok(None);
        }
        let mut numbers = Vec::new();
        for (key, value) in &self.0 {
            let next =
                if numbers.len() % 2 == 0 { b"GNU.sparse.offset".as_slice() } else { b"GNU.sparse.numbytes" };
            match key.as_slice() {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" if key != next => {
                    return Err(invalid("the parts of a sparse file are out of order"));
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(parse_number(value)?),
                _ => {}
            }
        }
        Ok(Some(numbers))
    }
}

/// Parses `<length> <key>=<value>\n`, over and over. The length counts all of it, so a value may hold anything.
pub(super) fn parse_records(bytes: &[u8]) -> io::Result<Records> {
    let malformed = || invalid("a PAX record is malformed");
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length = usize::try_from(parse_number(&rest[..space])?).map_err(|_| malformed())?;
        let record = rest.get(space + 1..length).ok_or_else(malformed)?;
        rest = &rest[length..];
        let body = record.strip_suffix(b"\n").ok_or_else(malformed)?;
        let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(malformed());
        }
        records.push((key.to_vec(), value.to_vec()));
    }
    Ok(Records(records))
}

pub(super) fn parse_number(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(format!("`{}` is not a number", String::from_utf8_lossy(text))))
}

/// Parses `seconds[.fraction]`, both of any sign, into nanoseconds.
pub(super) fn parse_time(text: &[u8]) -> io::Result<i64> {
    let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let seconds = i64::try_from(parse_number(&digits[..point])?).unwrap_or(i64::MAX);
    let fraction: Vec<u8> =
        digits.get(point + 1..).unwrap_or_default().iter().copied().chain([b'0'; 9]).take(9).collect();
    let rest = i64::try_from(parse_number(&fraction)?).unwrap_or(0);
    let time = seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Ok(if negative { time.saturating_neg() } else { time })
}

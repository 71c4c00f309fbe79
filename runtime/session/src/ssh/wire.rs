//! The agent's protocol: messages, and the fields in them and in keys.
//!
//! A message is its length (4 bytes, the highest first) and so many bytes, of which the first is its kind. Fields are numbers
//! of 4 bytes and strings, which carry their length before them; a big number is a string whose highest bit is its sign.
//! Source: RFC 4251 section 5; draft-ietf-sshm-ssh-agent, section 3.

use std::io::{self, Read, Write};

/// Asks for the public keys.
pub(super) const LIST: u8 = 11;
/// The answer to it.
pub(super) const KEYS: u8 = 12;
/// Asks for a signature.
pub(super) const SIGN: u8 = 13;
/// The answer to it.
pub(super) const SIGNATURE: u8 = 14;
/// The answer to what is not done.
pub(super) const FAILURE: u8 = 5;

/// Largest message, as in OpenSSH.
const MOST_BYTES: u32 = 256 << 10;

/// Reads a message; nothing if the stream ends before it.
pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MOST_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of the ssh agent is too long, or empty",
        ));
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes a message.
pub(super) fn write(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    stream.write_all(&string(message))
}

/// Returns bytes with their length before them.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("messages are bounded");
    [&length.to_be_bytes(), bytes].concat()
}

/// Returns a number that is not negative as a field.
pub(super) fn number(magnitude: &[u8]) -> Vec<u8> {
    let magnitude = unsigned(magnitude);
    let is_high = magnitude.first().is_some_and(|byte| byte & 0x80 != 0);
    string(&[if is_high { [0].as_slice() } else { &[] }, magnitude].concat())
}

/// Returns a number without the zeros before it.
pub(super) fn unsigned(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Reads fields, one after another.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Reads so many bytes; nothing if there are fewer.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads a number of 4 bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// Reads a string.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).ok()?)
    }
}

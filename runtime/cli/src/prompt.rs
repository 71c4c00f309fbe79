//! Questions on the terminal.
//!
//! In: a question. Out: the line that was typed. The question goes to stderr, as stdout is data; the answer comes from
//! stdin, which has to be a terminal. What must not be seen is read with echo off, and the terminal is as it was
//! afterwards, also after Ctrl-C.

use std::io::{self, IsTerminal as _};

use rb_session::Secret;
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::report;

/// Longest answer.
const LIMIT_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The input ended before the line did.
    #[error("nothing was typed")]
    Ended,
    /// The line has no end.
    #[error("a line of more than {} KiB was typed", LIMIT_BYTES >> 10)]
    TooLong,
    #[error("the terminal cannot be read")]
    Terminal(#[source] io::Error),
}

/// Returns whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line.
pub(crate) fn ask(question: &str) -> Result<String, PromptError> {
    report::tell(question);
    let mut line = Line::default();
    while line.take(next_byte()?)? {}
    String::from_utf8(line.bytes.to_vec()).map_err(|_| {
        PromptError::Terminal(io::Error::new(io::ErrorKind::InvalidData, "what was typed is not UTF-8"))
    })
}

/// Asks for a line that is not shown as it is typed.
pub(crate) fn ask_hidden(question: &str) -> Result<Secret, PromptError> {
    // Before the question: whoever answers at once is not shown either.
    let quiet = Quiet::begin().map_err(PromptError::Terminal)?;
    report::tell(question);
    let mut line = Line { keys: true, ..Line::default() };
    let typed = loop {
        match next_byte().and_then(|byte| line.take(byte)) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(quiet);
    // The key that ended the line was not shown either.
    report::tell("\n");
    typed.map(|()| Secret::new(std::mem::take(&mut *line.bytes)))
}

/// A terminal without echo, whose keys are ours to read.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn begin() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin)?;
        let mut modes = before.clone();
        // Without its signals, Ctrl-C comes as a key, and cannot end us while the echo is off.
        modes
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed ahead counts.
        tcsetattr(stdin, OptionalActions::Now, &modes)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Where that fails, the terminal is gone.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before).ok();
    }
}

/// Reads one byte, so that what follows the line is left to who reads next.
fn next_byte() -> Result<Option<u8>, PromptError> {
    let mut byte = [0];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                let [found] = byte;
                byte.zeroize();
                return Ok(Some(found));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(PromptError::Terminal(error.into())),
        }
    }
}

/// A line as it is typed.
#[derive(Default)]
struct Line {
    bytes: Zeroizing<Vec<u8>>,
    /// Keys that edit are ours to obey.
    keys: bool,
}

impl Line {
    /// Takes a byte, or the end of the input. Returns whether the line goes on.
    fn take(&mut self, byte: Option<u8>) -> Result<bool, PromptError> {
        match byte {
            Some(b'\n' | b'\r') => return Ok(false),
            None if self.bytes.is_empty() => return Err(PromptError::Ended),
            None => return Ok(false),
            Some(0x03) if self.keys => return Err(PromptError::Interrupted),
            Some(0x04) if self.keys => {
                return if self.bytes.is_empty() { Err(PromptError::Ended) } else { Ok(true) };
            }
            // Backspace takes a character, which may be several bytes.
            Some(0x7f | 0x08) if self.keys => {
                while self.bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            // Ctrl-U takes all.
            Some(0x15) if self.keys => self.bytes.clear(),
            Some(0..0x20) if self.keys => {}
            Some(byte) => {
                if self.bytes.len() >= LIMIT_BYTES {
                    return Err(PromptError::TooLong);
                }
                if self.bytes.len() == self.bytes.capacity() {
                    // Grown by hand: a vector leaves what it held behind.
                    let mut larger = Vec::with_capacity((2 * self.bytes.len()).max(256));
                    larger.extend_from_slice(&self.bytes);
                    self.bytes = Zeroizing::new(larger);
                }
                self.bytes.push(byte);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: bool, text: &[u8]) -> Result<Vec<u8>, PromptError> {
        let mut line = Line { keys, ..Line::default() };
        for byte in text.iter().copied().map(Some).chain([None]) {
            if !line.take(byte)? {
                break;
            }
        }
        Ok(line.bytes.to_vec())
    }

    #[test]
    fn keys_edit_the_line() {
        for (text, expected) in [
            (&b"pass\nrest"[..], &b"pass"[..]),
            (b"pass\r", b"pass"),
            (b"pass", b"pass"),
            (b"pasx\x7fs\n", b"pass"),
            (b"p\xc3\xa9\x7fass\n", b"pass"),
            (b"\x7f\x08pass\n", b"pass"),
            (b"wrong\x15pass\n", b"pass"),
            (b"\x1apa\x04ss\n", b"pass"),
            (b"\n", b""),
        ] {
            assert_eq!(typed(true, text).expect("is a line"), expected, "{text:?}");
        }
        assert!(matches!(typed(true, b"pa\x03ss\n"), Err(PromptError::Interrupted)));
        assert!(matches!(typed(true, b"\x04"), Err(PromptError::Ended)));
        assert!(matches!(typed(true, b""), Err(PromptError::Ended)));
        assert!(matches!(typed(true, &[b'x'; LIMIT_BYTES + 1]), Err(PromptError::TooLong)));
        let long = [b'x'; 10_000];
        assert_eq!(typed(true, &long).expect("is a line"), long);
    }
}

//! One request to a socket of this machine: HTTP/1.1, sent in chunks, read to its end.
//!
//! In: a path, and a body as it is written. Out: status and body. The connection is closed after each answer.
//! **Invariant:** an answer of any length takes bounded memory; one that is cut off is an error. Source: RFC 9112.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Largest answer, and largest head of one.
const MAX_BODY_BYTES: u64 = 64 << 20;
const MAX_HEAD_BYTES: u64 = 64 << 10;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A body being sent.
pub(super) struct Body<'a>(&'a UnixStream);

impl Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An empty chunk would be the end.
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut out = self.0;
        write!(out, "{:x}\r\n", bytes.len())?;
        out.write_all(bytes)?;
        out.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks for something.
pub(super) fn get(socket: &Path, path: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    read(stream)
}

/// Sends what `write` writes.
pub(super) fn post(
    socket: &Path,
    path: &str,
    media_type: &str,
    write: &mut dyn FnMut(&mut Body<'_>) -> io::Result<()>,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )?;
    match write(&mut Body(&stream)).and_then(|()| stream.write_all(b"0\r\n\r\n")) {
        Ok(()) => read(stream),
        // It does not listen any longer: mostly it has said why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => read(stream).map_err(|_| error),
        Err(error) => Err(error),
    }
}

fn read(stream: impl Read) -> io::Result<Answer> {
    let mut input = BufReader::new(stream);
    let status_line = line(&mut input)?;
    let status = status_line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| malformed("it is not HTTP"))?;
    let (mut length, mut chunked) = (None, false);
    let mut head_bytes = 0;
    loop {
        let line = line(&mut input)?;
        head_bytes += line.len() as u64;
        if head_bytes > MAX_HEAD_BYTES {
            return Err(malformed("its head is too long"));
        }
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(&mut input)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size_bytes = u64::from_str_radix(digits, 16).map_err(|_| malformed("a chunk has no size"))?;
            if size_bytes == 0 {
                break;
            }
            take(&mut input, size_bytes, &mut body)?;
            line(&mut input)?;
        }
    } else if let Some(length) = length {
        take(&mut input, length, &mut body)?;
    } else {
        input.take(MAX_BODY_BYTES).read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

fn take(input: &mut impl Read, size_bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + size_bytes > MAX_BODY_BYTES {
        return Err(malformed("it is too long"));
    }
    let count = input.take(size_bytes).read_to_end(body)?;
    if (count as u64) < size_bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads a line without its end.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    input.take(MAX_HEAD_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| malformed("it is not text"))
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer cannot be read: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> io::Result<Answer> {
        read(text.as_bytes())
    }

    #[test]
    fn answers_of_every_length_are_read() {
        let body = |body: &str, status| Answer { status, body: body.as_bytes().to_vec() };
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", body("ok", 200)),
            ("HTTP/1.1 404 Not Found\r\n\r\nno", body("no", 404)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                body("abcde", 200),
            ),
        ] {
            assert_eq!(answer(text).expect(text), expected);
        }
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "what\r\n\r\n",
        ] {
            answer(cut).expect_err(cut);
        }
    }
}

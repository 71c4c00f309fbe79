//! Netlink: asks the kernel about networks, and changes them.
//!
//! In: a [`Batch`] of messages, each a family's fixed header and attributes. Out: nothing, or the first refusal with the
//! number of the message that was refused; or the answer to a question. What the messages say is the caller's business.
//! A refusal is always told, so of a batch only the last change is asked to say that it was heeded.
//! **Invariant:** a socket belongs to the network of the thread that opened it, for good; nothing waits longer than a few
//! seconds for an answer.
//! Source: netlink(7), rtnetlink(7), linux/netlink.h, linux/netfilter/nfnetlink.h.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Offset of `nlmsg_flags` in it.
const FLAGS: usize = 6;
/// Messages and attributes start at multiples of this.
const ALIGNMENT: usize = 4;
/// `NLMSG_ERROR`: an answer that says whether a message was heeded.
const ERROR: u16 = 2;
const FLAG_REQUEST: u16 = 0x01;
const FLAG_ACK: u16 = 0x04;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Longer answers to single questions there are none.
const MAX_ANSWER: usize = 64 << 10;
/// A refusal repeats the message, none of which is as long.
const MAX_REFUSAL: usize = 16 << 10;
/// The kernel answers before it returns from what was sent; who must wait this long waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which part of the kernel is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Interfaces, addresses, routes.
    Route,
    /// Rules for packets.
    Netfilter,
}

/// A message was refused, or could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Refused {
    /// The number of the message within its batch.
    pub message: usize,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// A connection with the kernel about one network.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens a connection about the network that this thread is in.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let protocol = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Sends a batch and waits until the last change of it was heeded, or refused. Those after a refused one are tried all
    /// the same, unless the family takes all or none.
    pub fn change(&self, batch: &Batch) -> Result<(), Refused> {
        let refused = |message| move |source: io::Error| Refused { message, source };
        self.send(&batch.bytes).map_err(refused(0))?;
        let Some(last) = batch.last else { return Ok(()) };
        let mut buffer = vec![0; MAX_REFUSAL];
        let mut first = None;
        // All is read, also after a refusal: what is left would be taken for an answer to the next batch.
        loop {
            let length = self.receive(&mut buffer).map_err(refused(0))?;
            for answer in messages(buffer.get(..length).unwrap_or_default()) {
                if answer.kind != ERROR {
                    continue;
                }
                let message = answer.sequence as usize;
                if let Some(source) = error_of(answer.body) {
                    first.get_or_insert(Refused { message, source });
                }
                // Of a family that takes all or none, the refusal of what frames the batch is the end of it.
                if message == last.number || batch.frames.contains(&message) {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends the only message of `batch` and returns the body of the answer.
    pub fn ask(&self, batch: &Batch) -> io::Result<Vec<u8>> {
        self.send(&batch.bytes)?;
        let mut buffer = vec![0; MAX_ANSWER];
        let length = self.receive(&mut buffer)?;
        let answer = messages(buffer.get(..length).unwrap_or_default()).next();
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match (answer.kind, error_of(answer.body)) {
            (ERROR, Some(error)) => Err(error),
            (ERROR, None) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.body.to_vec()),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = sendto(&self.socket, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| recv(&self.socket, &mut *buffer, RecvFlags::empty()))?.0)
    }
}

/// Messages on their way to the kernel.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The change that was added last, which alone is answered when it is heeded.
    last: Option<Change>,
    /// Numbers of the messages that are no changes.
    frames: Vec<usize>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    number: usize,
    /// Where its flags are.
    flags: usize,
}

impl Batch {
    /// Returns a batch without messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change; returns its number. `flags` beside those that every request has; `fixed` is the family's header.
    pub fn change(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: &Attributes) -> usize {
        self.mark_last(|flags| flags & !FLAG_ACK);
        let flags_at = self.bytes.len() + FLAGS;
        let number = self.add(kind, flags, fixed, attributes);
        self.last = Some(Change { number, flags: flags_at });
        self.mark_last(|flags| flags | FLAG_ACK);
        number
    }

    /// Adds a message that is answered otherwise, or not at all.
    pub fn push(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: &Attributes) -> usize {
        let number = self.add(kind, flags, fixed, attributes);
        self.frames.push(number);
        number
    }

    fn mark_last(&mut self, mark: impl FnOnce(u16) -> u16) {
        let Some(Change { flags, .. }) = self.last else { return };
        if let Some(place) = self.bytes.get_mut(flags..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *place = mark(u16::from_ne_bytes(*place)).to_ne_bytes();
        }
    }

    fn add(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: &Attributes) -> usize {
        let number = self.count;
        let length = HEADER + fixed.len().next_multiple_of(ALIGNMENT) + attributes.0.len();
        self.bytes.extend((length as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | FLAG_REQUEST).to_ne_bytes());
        self.bytes.extend((number as u32).to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(fixed);
        pad(&mut self.bytes);
        self.bytes.extend(&attributes.0);
        self.count += 1;
        number
    }
}

/// Attributes of a message, or within one.
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// Returns none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        pad(&mut self.0);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// Adds one that holds attributes.
    #[must_use]
    pub fn with_nested(self, kind: u16, inner: &Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }

    /// Returns the bytes, for a value that begins with something else.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, _, _, g, h, i, j, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes([e, f]), sequence: u32::from_ne_bytes([g, h, i, j]), body })
    })
}

/// What an answer of the kind [`ERROR`] says; `None` is that all is well.
fn error_of(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(*body.first_chunk::<4>()?);
    (code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_know_their_length() {
        let inner = Attributes::new().with(2, b"x");
        let bytes = Attributes::new().with_text(1, "eth").with_nested(3, &inner).0;
        let length = 8u16.to_ne_bytes();
        let mut expected = [length, 1u16.to_ne_bytes()].concat();
        expected.extend(b"eth\0");
        expected.extend([12u16.to_ne_bytes(), (3 | NESTED).to_ne_bytes()].concat());
        expected.extend([5u16.to_ne_bytes(), 2u16.to_ne_bytes()].concat());
        expected.extend(b"x\0\0\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_kernel_answers_and_refuses() {
        const GET_LINK: u16 = 18;
        const GET_ROUTE: u16 = 26;
        let netlink = Netlink::open(Protocol::Route).expect("every machine has it");
        // struct ifinfomsg of the loopback, which is always the first.
        let loopback = [[0; 4], 1i32.to_ne_bytes(), [0; 4], [0; 4]].concat();
        let mut batch = Batch::new();
        batch.push(GET_LINK, 0, &loopback, &Attributes::new());
        assert_eq!(
            netlink.ask(&batch).expect("there is a loopback").get(4..8),
            Some(&1i32.to_ne_bytes()[..])
        );
        // No family is that one, and the second message is the wrong one.
        let mut batch = Batch::new();
        batch.change(GET_ROUTE, 0, &[255; 12], &Attributes::new());
        assert!(netlink.change(&batch).is_err());
    }

    #[test]
    fn only_the_last_change_is_answered() {
        let flags = |batch: &Batch| {
            let mut found = Vec::new();
            let mut rest = &batch.bytes[..];
            while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
                found.push(u16::from_ne_bytes([header[6], header[7]]));
                rest = &rest[u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize..];
            }
            found
        };
        let none = Attributes::new();
        let mut batch = Batch::new();
        batch.push(1, 0, &[0; 4], &none);
        batch.change(2, 0x400, &[0; 4], &none);
        batch.change(3, 0x400, &[0; 4], &none);
        batch.push(4, 0, &[0; 4], &none);
        assert_eq!(flags(&batch), [1, 0x401, 0x405, 1]);
    }

    #[test]
    fn the_first_refusal_is_told_and_no_answer_is_left_for_the_next() {
        const GET_LINK: u16 = 18;
        const SET_LINK: u16 = 19;
        let netlink = Netlink::open(Protocol::Route).expect("every machine has it");
        let interface = |index: i32| [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
        // There are no such interfaces.
        let mut batch = Batch::new();
        batch.change(SET_LINK, 0, &interface(i32::MAX), &Attributes::new());
        batch.change(SET_LINK, 0, &interface(i32::MAX - 1), &Attributes::new());
        for _ in 0..3 {
            assert_eq!(netlink.change(&batch).expect_err("is refused").message, 0);
        }
        let mut question = Batch::new();
        question.push(GET_LINK, 0, &interface(1), &Attributes::new());
        let answer = netlink.ask(&question).expect("there is a loopback");
        assert_eq!(answer.get(4..8), Some(&1i32.to_ne_bytes()[..]));
    }

    #[test]
    fn what_was_cut_off_is_no_message() {
        let header = |length: u32| [&length.to_ne_bytes()[..], &[0; 12]].concat();
        assert_eq!(messages(&header(16)).count(), 1);
        for bytes in [header(15), header(17), header(u32::MAX), vec![0; 15], Vec::new()] {
            assert_eq!(messages(&bytes).count(), 0, "{bytes:?}");
        }
    }
}

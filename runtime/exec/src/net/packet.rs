//! First packets of connections: which are seen, who wants to connect to whom, and how one is sent again.
//!
//! In: a frame as a member sent it. Out: a [`First`], and the same frame with a [`Mark`] and a checksum that holds: what
//! was seen on its way had left that to the hardware.
//! Source: RFC 791, RFC 8200, RFC 9293, RFC 1071; linux/filter.h.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rb_sys::network::Version;
use rb_sys::seccomp::Instruction;

use super::rules::Mark;

/// Length of a frame's header of the link.
const LINK: usize = 14;
const HEADER_V6: usize = 40;
const TCP: u8 = 6;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// Who wants to connect.
    pub(super) from: SocketAddr,
    /// To whom.
    pub(super) to: SocketAddr,
    frame: Vec<u8>,
    /// Where its segment begins.
    segment: usize,
}

impl First {
    /// Reads a frame; nothing if it is none of these.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(LINK..)?;
        let version = packet.first()? >> 4;
        let (from, to, header, length): (IpAddr, IpAddr, usize, usize) = match version {
            4 => {
                let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
                let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
                let header = usize::from(packet.first()? & 0x0f) * 4;
                let length = usize::from(number(packet, 2)?);
                let is_whole = number(packet, 6)? & 0x3fff == 0;
                (header >= 20 && is_whole && packet.get(9) == Some(&TCP)).then_some(())?;
                (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), header, length)
            }
            6 => {
                let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
                let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
                (packet.get(6) == Some(&TCP)).then_some(())?;
                let length = HEADER_V6 + usize::from(number(packet, 4)?);
                (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), HEADER_V6, length)
            }
            _ => return None,
        };
        let frame = frame.get(..LINK + length)?.to_vec();
        let segment = LINK + header;
        let at = |offset| number(&frame, segment + offset);
        let (from, to) = (SocketAddr::new(from, at(0)?), SocketAddr::new(to, at(2)?));
        let flags = frame.get(segment + 13)?;
        // Its checksum has to be within.
        frame.get(segment + 16..segment + 18)?;
        (flags & 0x12 == 0x02).then_some(Self { from, to, frame, segment })
    }

    /// Whether it was sent by us, or by one who says so.
    pub(super) fn is_marked(&self) -> bool {
        let source = self.frame.get(6..12);
        [Mark::Open, Mark::Refused, Mark::Unreachable].iter().any(|mark| source == Some(&mark.hardware()))
    }

    /// Returns the frame as it is sent again.
    pub(super) fn marked(&self, mark: Mark) -> Vec<u8> {
        let mut frame = self.frame.clone();
        if let Some(source) = frame.get_mut(6..12) {
            source.copy_from_slice(&mark.hardware());
        }
        let checksum = self.checksum();
        if let Some(place) = frame.get_mut(self.segment + 16..self.segment + 18) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
        frame
    }

    /// The checksum of the segment, with what it says of its header of the network.
    fn checksum(&self) -> u16 {
        let segment = self.frame.get(self.segment..).unwrap_or_default();
        let mut covered = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            _ => Vec::new(),
        };
        covered.extend((segment.len() as u32).to_be_bytes());
        covered.extend(u32::from(TCP).to_be_bytes());
        let (before, after) = segment.split_at_checked(16).unwrap_or_default();
        covered.extend(before);
        covered.extend([0, 0]);
        covered.extend(after.get(2..).unwrap_or_default());
        let mut sum = 0u64;
        for pair in covered.chunks(2) {
            let [high, low] = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or_default());
            sum += u64::from(u16::from_be_bytes([high, low]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

/// The program by which the kernel picks these packets out of all others: nothing else is copied to us.
pub(super) fn filter(version: Version) -> Vec<Instruction> {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE_AFTER: u16 = 0x50;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const AND: u16 = 0x54;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let plain = |code, value: usize| Instruction { code, jump_true: 0, jump_false: 0, value: value as u32 };
    let branch = |code, value: u32, jump_true, jump_false| Instruction { code, jump_true, jump_false, value };
    match version {
        Version::V4 => vec![
            plain(LOAD_BYTE, LINK + 9),
            branch(JUMP_EQUAL, TCP.into(), 0, 7),
            plain(LOAD_HALF, LINK + 6),
            branch(JUMP_SET, 0x1fff, 5, 0),
            plain(LOAD_HEADER_LENGTH, LINK),
            plain(LOAD_BYTE_AFTER, LINK + 13),
            plain(AND, 0x12),
            branch(JUMP_EQUAL, 0x02, 0, 1),
            plain(RETURN, 0xffff),
            plain(RETURN, 0),
        ],
        Version::V6 => vec![
            plain(LOAD_BYTE, LINK + 6),
            branch(JUMP_EQUAL, TCP.into(), 0, 4),
            plain(LOAD_BYTE, LINK + HEADER_V6 + 13),
            plain(AND, 0x12),
            branch(JUMP_EQUAL, 0x02, 0, 1),
            plain(RETURN, 0xffff),
            plain(RETURN, 0),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A first packet as it is on a wire: from 10.0.0.2:4660 to 192.0.2.1:80, without options.
    fn v4() -> Vec<u8> {
        let mut frame = vec![0; LINK];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 2, 192, 0, 2, 1]);
        frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 9, 9, 0, 0]);
        frame
    }

    #[test]
    fn a_first_packet_is_read_and_marked() {
        let mut padded = v4();
        padded.extend([7; 6]);
        let first = First::read(&padded).expect("it is one");
        assert_eq!(
            (first.from, first.to),
            ("10.0.0.2:4660".parse().unwrap(), "192.0.2.1:80".parse().unwrap())
        );
        assert!(!first.is_marked());
        let sent = first.marked(Mark::Open);
        assert_eq!(sent.len(), v4().len());
        let again = First::read(&sent).expect("it is still one");
        assert!(again.is_marked());
        // With the right checksum the sum over all is zero: summing up again changes nothing.
        assert_eq!(again.marked(Mark::Open), sent);
        // By hand: 0x0a00+0x0002+0xc000+0x0201+0x0006+0x0014 and the words of the segment.
        assert_eq!(first.checksum(), {
            let words = [0x0a00u32, 2, 0xc000, 0x0201, 6, 20, 0x1234, 80, 0, 1, 0, 0, 0x5002, 0xffff, 0];
            let sum: u32 = words.iter().sum();
            !(((sum & 0xffff) + (sum >> 16)) as u16)
        });
        let mut answer = v4();
        answer[LINK + 20 + 13] = 0x12;
        assert_eq!(First::read(&answer), None);
        let mut part = v4();
        part[LINK + 6] = 0x20;
        assert_eq!(First::read(&part), None);
    }

    proptest! {
        #[test]
        fn no_frame_is_too_strange(mut frame in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
            if let Some(first) = frame.get_mut(LINK) {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            if let Some(first) = First::read(&frame) {
                prop_assert!(first.marked(Mark::Refused).len() <= frame.len());
            }
        }
    }
}

//! Names: the router answers as this machine's resolver would, and for members that share a network.
//!
//! In: questions to the router's address, port 53. Out: the answer of the first server of this machine's
//! `/etc/resolv.conf` that has one, which may listen on its loopback; for the name of a member on the asker's own network,
//! its address. The file is read at each question: it changes as machines move.
//! Source: RFC 1035; resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;

use super::members::Members;
use super::{DOMAIN, reach, wires};
use crate::resolver;

/// How long a server may take; those who ask wait five seconds by default.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longer answers come by connection.
const MAX_ANSWER: usize = 64 << 10;

/// Answers a question of the one at `asked_by`; nothing if nobody does.
pub(super) async fn answer(question: &[u8], asked_by: IpAddr, members: &Members) -> Option<Vec<u8>> {
    if let Some(answer) = of_member(question, asked_by, members) {
        return Some(answer);
    }
    let mut last = None;
    for server in servers() {
        match tokio::time::timeout(PATIENCE, ask(server, question)).await {
            Ok(Ok(answer)) if is_settled(&answer) => return Some(answer),
            Ok(Ok(answer)) => last = Some(answer),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    last
}

/// Connects to the first server that can be connected to.
pub(super) async fn connect() -> Option<TcpStream> {
    for server in servers() {
        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, TcpStream::connect(server)).await {
            return Some(stream);
        }
    }
    None
}

async fn ask(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = reach::datagrams_to(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        // It is an answer, and to this question.
        if answer.get(..2) == question.get(..2) && answer.get(2).is_some_and(|flags| flags & 0x80 != 0) {
            return Ok(answer.to_vec());
        }
    }
}

/// Whether an answer is one, be it that there is none such: a server that failed or refused has not answered.
fn is_settled(answer: &[u8]) -> bool {
    const SERVER_FAILED: u8 = 2;
    const NOT_IMPLEMENTED: u8 = 4;
    const REFUSED: u8 = 5;
    let code = answer.get(3).map_or(SERVER_FAILED, |flags| flags & 0x0f);
    ![SERVER_FAILED, NOT_IMPLEMENTED, REFUSED].contains(&code)
}

/// Whom this machine asks. Where nobody is named, its own loopback.
fn servers() -> Vec<SocketAddr> {
    let text = resolver::of_this_machine(Path::new(resolver::FILE)).unwrap_or_default();
    servers_in(&String::from_utf8_lossy(&text))
}

fn servers_in(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let servers: Vec<SocketAddr> = named.filter_map(server).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, DOMAIN).into()] } else { servers }
}

/// An address, with the interface it is at behind `%`, if it is one of a link.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, DOMAIN));
    };
    let index = std::fs::read_to_string(format!("/sys/class/net/{scope}/ifindex")).ok();
    let index = index.and_then(|index| index.trim().parse().ok()).or_else(|| scope.parse().ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, DOMAIN, 0, index).into())
}

/// Answers a question for the name of a member; nothing if it is not one.
fn of_member(question: &[u8], asked_by: IpAddr, members: &Members) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const INTERNET: u16 = 1;
    const ADDRESS: u16 = 1;
    const ADDRESS_V6: u16 = 28;
    let number = |at: usize| question.get(at..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair));
    let is_question = question.get(2)? & 0xf8 == 0 && number(4)? == 1;
    let (name, end) = name_at(question, HEADER)?;
    let (kind, class) = (number(end)?, number(end + 2)?);
    if !is_question || class != INTERNET {
        return None;
    }
    let (v4, v6) = wires::addresses(members.called(&name, asked_by)?);
    // An answer without an address is that there is none of this kind.
    let data = match kind {
        ADDRESS => Some(v4.octets().to_vec()),
        ADDRESS_V6 if asked_by.is_ipv6() => Some(v6.octets().to_vec()),
        _ => None,
    };
    let mut answer = question.get(..2)?.to_vec();
    // An answer; recursion was asked for as it may be, and is available.
    answer.extend([0x84 | (question.get(2)? & 1), 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    answer.extend(question.get(HEADER..end + 4)?);
    if let Some(data) = data {
        // The name of the question, its kind and class, for no time at all.
        answer.extend([0xc0, HEADER as u8]);
        answer.extend([kind.to_be_bytes(), class.to_be_bytes(), [0, 0], [0, 0]].concat());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// Reads a name without pointers, and where it ends.
fn name_at(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        match length {
            0 => return Some((name, at)),
            1..=63 => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(bytes.get(at..at + length)?).ok()?);
                at += length;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
        bytes
    }

    #[test]
    fn servers_are_read_as_a_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 127.0.0.53\n nameserver 2001:db8::1 # x\nnameserver no\n";
        let told: Vec<String> = servers_in(text).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["127.0.0.53:53", "[2001:db8::1]:53"]);
        assert_eq!(servers_in("options edns0\n"), ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(server("fe80::1%7"), Some("[fe80::1%7]:53".parse().unwrap()));
        assert_eq!(server("fe80::1%lo"), Some("[fe80::1%1]:53".parse().unwrap()));
    }

    #[test]
    fn names_are_read_to_their_end() {
        assert_eq!(name_at(&question("a.bc", 1), 12), Some(("a.bc".to_owned(), 18)));
        assert_eq!(name_at(&[0xc0, 12], 0), None);
        assert_eq!(name_at(&[3, b'a'], 0), None);
    }

    #[test]
    fn only_failures_are_no_answers() {
        let with = |code: u8| [0, 0, 0x80, 0x80 | code];
        assert!(is_settled(&with(0)) && is_settled(&with(3)));
        assert!(!is_settled(&with(2)) && !is_settled(&with(5)) && !is_settled(&[0]));
    }

    proptest! {
        #[test]
        fn no_question_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let asked_by = wires::addresses(2).0.into();
            prop_assert_eq!(of_member(&bytes, asked_by, &Members::default()), None);
        }
    }
}

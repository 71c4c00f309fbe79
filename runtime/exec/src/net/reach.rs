//! What may be reached outside, from this machine's own network: everything but this machine.
//!
//! In: an address a step asks for. Out: a connection as of any program here, or a [`Refusal`]. An address is this machine's
//! if the kernel would deliver to it here: every loopback, every address of an interface, a bridge's of other containers
//! included, and whatever else is routed locally.
//! **Invariant:** no connection that came out of here ends on this machine, save at the resolver it asks names of.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rb_sys::netlink::{Attributes, Batch, Netlink, Protocol};
use tokio::net::{TcpStream, UdpSocket};

use super::wires;

/// How long somebody outside may take to answer.
const PATIENCE: Duration = Duration::from_secs(130);

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody may go there, or who is there refused.
    Refused,
    /// Nobody is there, or there is no way.
    Unreachable,
}

/// Asks the kernel, and connects.
#[derive(Debug)]
pub(super) struct Reach {
    netlink: Netlink,
}

impl Reach {
    /// To be called in this machine's network.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open(Protocol::Route)? })
    }

    /// Whether this machine has a way to the internet of version 6.
    pub(super) fn has_v6(&self) -> bool {
        // Any address of the part that is given out; nothing is sent there.
        let somewhere = IpAddr::from([0x2000, 0, 0, 0, 0, 0, 0, 1]);
        matches!(self.kind_of_route(somewhere), Ok(kind) if kind == UNICAST)
    }

    /// Connects to `to`.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<TcpStream, Refusal> {
        self.allow(to.ip())?;
        let stream = connect(TcpStream::connect(to)).await?;
        // Should an address have become this machine's in between: who connects to himself does so from where he is.
        match stream.local_addr() {
            Ok(own) if own.ip() != to.ip() => Ok(stream),
            Ok(_) | Err(_) => Err(Refusal::Refused),
        }
    }

    /// Returns a socket for datagrams to and from `to` alone.
    pub(super) async fn datagrams(&self, to: SocketAddr) -> Result<UdpSocket, Refusal> {
        self.allow(to.ip())?;
        let socket = datagrams_to(to).await.map_err(|_| Refusal::Unreachable)?;
        match socket.local_addr() {
            Ok(own) if own.ip() != to.ip() => Ok(socket),
            Ok(_) | Err(_) => Err(Refusal::Refused),
        }
    }

    fn allow(&self, to: IpAddr) -> Result<(), Refusal> {
        if is_never_outside(to) {
            return Err(Refusal::Refused);
        }
        match self.kind_of_route(to) {
            Ok(UNICAST) => Ok(()),
            Ok(_) => Err(Refusal::Refused),
            Err(_) => Err(Refusal::Unreachable),
        }
    }

    /// Asks the kernel how it would send to `address`.
    fn kind_of_route(&self, address: IpAddr) -> io::Result<u8> {
        const GET_ROUTE: u16 = 26;
        const DESTINATION: u16 = 1;
        const FAMILY_V4: u8 = 2;
        const FAMILY_V6: u8 = 10;
        /// Offset of `rtm_type` in `struct rtmsg`.
        const KIND: usize = 7;
        let (family, bits, bytes) = match address {
            IpAddr::V4(address) => (FAMILY_V4, 32, address.octets().to_vec()),
            IpAddr::V6(address) => (FAMILY_V6, 128, address.octets().to_vec()),
        };
        let mut batch = Batch::new();
        let header = [family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        batch.push(GET_ROUTE, 0, &header, &Attributes::new().with(DESTINATION, &bytes));
        let answer = self.netlink.ask(&batch)?;
        answer.get(KIND).copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// `RTN_UNICAST`
const UNICAST: u8 = 1;

/// Waits for a connection, and says what came of it.
pub(super) async fn connect(
    connecting: impl Future<Output = io::Result<TcpStream>>,
) -> Result<TcpStream, Refusal> {
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Refusal::Refused),
        Ok(Err(_)) | Err(_) => Err(Refusal::Unreachable),
    }
}

/// Makes a socket for datagrams to `to`, whoever that is.
pub(super) async fn datagrams_to(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0u16; 8]) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Addresses that mean this machine, one of ours, many, or nothing without an interface: whatever routes say.
fn is_never_outside(address: IpAddr) -> bool {
    let is_here = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    let is_here = is_here || wires::is_ours(address);
    match address {
        IpAddr::V4(address) => is_here || address.is_broadcast() || address.octets()[0] == 0,
        // An address of version 4 in disguise would be connected to as what it is.
        IpAddr::V6(address) => is_here || address.to_ipv4().is_some() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disguises_of_this_machine_are_known() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "198.18.7.7",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:8.8.8.8",
            "ff02::1",
            "fe80::1",
            "fd72:6200::1",
        ] {
            assert!(is_never_outside(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "10.0.0.1", "169.254.169.254", "2001:db8::1", "fd00::1"] {
            assert!(!is_never_outside(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn every_address_of_this_machine_is_refused() {
        let reach = Reach::new().unwrap();
        let addresses = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        // Lines of `|-- ADDRESS` and, after it, what it is.
        let text = addresses("/proc/net/fib_trie");
        let mut last = None;
        let mut tried = 0;
        for line in text.lines().map(str::trim) {
            if let Some(address) = line.strip_prefix("|-- ") {
                last = address.parse::<IpAddr>().ok();
            } else if line.ends_with("host LOCAL") {
                let address = last.expect("it was named before");
                assert_eq!(reach.allow(address), Err(Refusal::Refused), "{address}");
                tried += 1;
            }
        }
        assert!(tried > 0, "{text}");
    }
}

//! Sockets that std and rustix do not offer: those that answer for addresses which are not ours, and those that see and
//! send whole packets; and networks of a thread's own.
//!
//! **Invariant:** a socket belongs to the network of the thread that made it, for good. All sockets here are non-blocking
//! and closed on execution.
//! Source: network_namespaces(7), packet(7), ip(7), ipv6(7), linux/filter.h.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

use crate::seccomp::Instruction;

/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 4096;
/// What comes in at once when hundreds of sandboxes begin to speak, beyond which it is lost and has to be sent again.
const RECEIVED_BYTES: libc::c_int = 4 << 20;
/// linux/in6.h
const IPV6_RECVORIGDSTADDR: libc::c_int = 74;
const IPV6_TRANSPARENT: libc::c_int = 75;

/// Moves this thread into a new network, which has nothing but a loopback that is down.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: unshare(2) takes flags only; this one concerns the calling thread alone.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Version of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

impl Version {
    fn any(self, port: u16) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }
}

/// Listens on `port` for connections to any address that are led here.
pub fn listen_for_all(version: Version, port: u16) -> io::Result<TcpListener> {
    let socket = transparent(version, libc::SOCK_STREAM)?;
    bind(&socket, version.any(port))?;
    // SAFETY: listen(2) takes numbers only.
    done(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket.into())
}

/// Receives on `port` datagrams to any address that are led here; see [`receive_for_all`].
pub fn datagrams_for_all(version: Version, port: u16) -> io::Result<UdpSocket> {
    let socket = transparent(version, libc::SOCK_DGRAM)?;
    match version {
        Version::V4 => set(&socket, libc::SOL_IP, libc::IP_RECVORIGDSTADDR)?,
        Version::V6 => set(&socket, libc::SOL_IPV6, IPV6_RECVORIGDSTADDR)?,
    }
    widen(&socket)?;
    bind(&socket, version.any(port))?;
    Ok(socket.into())
}

/// Makes a socket that answers to `to` as if it were `from`.
pub fn datagrams_as(from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let version = if from.is_ipv4() { Version::V4 } else { Version::V6 };
    let socket = transparent(version, libc::SOCK_DGRAM)?;
    // The socket for all has the port already, if that is the one.
    set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    bind(&socket, from)?;
    let (address, length) = encode(to);
    // SAFETY: connect(2) reads `length` bytes of the address, which it has.
    done(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket.into())
}

/// Receives a datagram of a socket of [`datagrams_for_all`]: its length, who sent it and whom it was for.
pub fn receive_for_all(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
    /// Room for control messages, aligned as they have to be.
    #[repr(C, align(8))]
    struct Control([u8; 128]);
    let mut control = Control([0; 128]);
    let mut from = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a struct of integers and pointers, for which zeros are a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: recvmsg(2): all that the message points to outlives the call and is as long as it says.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and whatever the kernel wrote is a value of integers.
    let from = decode(&unsafe { from.assume_init() });
    let mut to = None;
    // SAFETY: cmsg(3): the message is as recvmsg left it, its control buffer is alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: cmsg(3): the pointer is null or to a header within the control buffer.
    while let Some(control) = unsafe { header.as_ref() } {
        // How long the address is that the kernel puts behind such a header.
        let length = match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_IP, libc::IP_ORIGDSTADDR) => Some(size_of::<libc::sockaddr_in>()),
            (libc::SOL_IPV6, IPV6_RECVORIGDSTADDR) => Some(size_of::<libc::sockaddr_in6>()),
            _ => None,
        };
        if let Some(length) = length {
            let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
            // SAFETY: cmsg(3), ip(7): so many bytes follow the header, and an address has room for them.
            to = unsafe {
                let bytes = address.as_mut_ptr().cast::<u8>();
                std::ptr::copy_nonoverlapping(libc::CMSG_DATA(header), bytes, length);
                decode(&address.assume_init())
            };
        }
        // SAFETY: cmsg(3): as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    match (from, to) {
        (Some(from), Some(to)) => Ok((length, from, to)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a datagram of nobody, or to nobody")),
    }
}

/// A packet that a [`PacketSocket`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its length.
    pub length: usize,
    /// The interface it came in by.
    pub interface: u32,
}

/// Sees, or sends, frames with their header of the link. Nobody waits when it is closed, whoever ends with it open.
#[derive(Debug)]
pub struct PacketSocket {
    // Fields are dropped in order, and this must not be the last reference.
    socket: OwnedFd,
    closing: ClosedByKernel,
}

/// Has the kernel close a socket when everybody else has. Whoever closes a packet socket waits until no processor can be
/// at work on one of its packets, some 20 ms, an ending process too. A socket that is under way in a queue to which only
/// that queue refers is found by the kernel's collector, which waits on a thread of its own; before Linux 6.8 on ours, as
/// without this.
/// Source: unix(7), net/unix/garbage.c.
#[derive(Debug)]
pub struct ClosedByKernel {
    /// Its queue holds the socket, and itself. Without it, as where this user has too much under way, closing waits.
    _queue: Option<OwnedFd>,
}

impl ClosedByKernel {
    fn new(socket: &OwnedFd) -> Self {
        Self { _queue: Self::queue(socket).ok() }
    }

    fn queue(socket: &OwnedFd) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (into, queue) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let both = [socket.as_fd(), queue.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(&both)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&into, &[io::IoSlice::new(b"\0")], &mut control, SendFlags::empty())?;
        Ok(queue)
    }
}

impl PacketSocket {
    /// Sees what comes in of `version` and passes `filter`, which returns how many bytes are kept.
    pub fn seeing(version: Version, filter: &[Instruction]) -> io::Result<Self> {
        let protocol = match version {
            Version::V4 => libc::ETH_P_IP,
            Version::V6 => libc::ETH_P_IPV6,
        };
        // It is bound to a protocol after it has its filter: it is to see nothing else.
        let socket = socket(libc::AF_PACKET, libc::SOCK_RAW)?;
        widen(&socket)?;
        let instruction = |one: &Instruction| libc::sock_filter {
            code: one.code,
            jt: one.jump_true,
            jf: one.jump_false,
            k: one.value,
        };
        let mut program: Vec<libc::sock_filter> = filter.iter().map(instruction).collect();
        let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
        // SAFETY: setsockopt(2), socket(7): the program and the instructions it points to outlive the call.
        done(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        })?;
        let mut address = link_address(0);
        address.sll_protocol = (protocol as u16).to_be();
        // SAFETY: bind(2) reads a whole `sockaddr_ll`, which this is.
        done(unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as _)
        })?;
        Ok(Self::of(socket))
    }

    /// Sends only.
    pub fn sending() -> io::Result<Self> {
        Ok(Self::of(socket(libc::AF_PACKET, libc::SOCK_RAW)?))
    }

    fn of(socket: OwnedFd) -> Self {
        Self { closing: ClosedByKernel::new(&socket), socket }
    }

    /// Returns it as std's type for sockets of datagrams, of which it is one, to wait on it; see [`receive_frame`]. The
    /// other part is to be dropped after it.
    pub fn into_socket(self) -> (UdpSocket, ClosedByKernel) {
        (self.socket.into(), self.closing)
    }

    /// Sends a frame out of an interface of the socket's network.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let address = link_address(interface);
        // SAFETY: sendto(2) reads the frame and a whole `sockaddr_ll`, which this is.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Receives a frame of a socket of [`PacketSocket::seeing`], if there is one.
pub fn receive_frame(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Seen> {
    let mut from = link_address(0);
    let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: recvfrom(2) writes at most as many bytes as the buffer and the address have.
    let received = unsafe {
        libc::recvfrom(
            socket.as_fd().as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut from_length,
        )
    };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    Ok(Seen { length, interface: u32::try_from(from.sll_ifindex).unwrap_or_default() })
}

fn link_address(interface: u32) -> libc::sockaddr_ll {
    // SAFETY: a struct of integers, for which zeros are a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = interface as i32;
    address.sll_halen = 6;
    address
}

fn socket(family: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes numbers only.
    let made = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    done(made)?;
    // SAFETY: socket(2) just opened this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Makes a socket that may answer for addresses that are not this network's.
fn transparent(version: Version, kind: libc::c_int) -> io::Result<OwnedFd> {
    let socket = match version {
        Version::V4 => {
            let socket = socket(libc::AF_INET, kind)?;
            set(&socket, libc::SOL_IP, libc::IP_TRANSPARENT)?;
            socket
        }
        Version::V6 => {
            let socket = socket(libc::AF_INET6, kind)?;
            set(&socket, libc::SOL_IPV6, IPV6_TRANSPARENT)?;
            set(&socket, libc::SOL_IPV6, libc::IPV6_V6ONLY)?;
            socket
        }
    };
    Ok(socket)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    set_to(socket, level, option, 1)
}

/// Makes room for [`RECEIVED_BYTES`]; where this user may not, for as much as the machine lets everybody have.
fn widen(socket: &OwnedFd) -> io::Result<()> {
    set_to(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVED_BYTES)
        .or_else(|_| set_to(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVED_BYTES))
}

fn set_to(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads an int, which this is.
    done(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) })
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (address, length) = encode(address);
    // SAFETY: bind(2) reads `length` bytes of the address, which it has.
    done(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

fn done(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn encode(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let length = match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_storage` is larger than every address and aligned for each.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(value) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: it was zeroed, for which every field has a value.
    (unsafe { storage.assume_init() }, length as libc::socklen_t)
}

fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: `sockaddr_storage` is larger than every address and aligned for each; the family says which it is.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Some(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["192.0.2.7:53", "[2001:db8::1]:443", "[fe80::1%4]:9"] {
            let address: SocketAddr = text.parse().expect(text);
            assert_eq!(decode(&encode(address).0), Some(address));
        }
    }

    #[test]
    fn the_kernel_closes_packet_sockets() {
        let apart = std::thread::spawn(|| {
            if let Err(error) = enter_new_network() {
                eprintln!("stepping aside: this user may make no network ({error})");
                return;
            }
            // A line for each, under a header.
            let open =
                || std::fs::read_to_string("/proc/thread-self/net/packet").unwrap().lines().count() - 1;
            let sending = PacketSocket::sending().unwrap();
            assert!(sending.closing._queue.is_some(), "whoever closes it waits");
            let (socket, closing) = sending.into_socket();
            assert!(open() > 0);
            drop(socket);
            assert!(open() > 0, "it was closed by whoever closed it last");
            drop(closing);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
            while open() > 0 {
                assert!(std::time::Instant::now() < deadline, "the kernel has not closed it");
                // It looks for what nobody holds whenever a socket of this kind is closed; one look may have come too early.
                drop(std::os::unix::net::UnixStream::pair());
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        });
        apart.join().expect("no panic");
    }

    #[test]
    fn a_network_of_a_threads_own_answers_for_every_address() {
        let apart = std::thread::spawn(|| -> io::Result<Vec<SocketAddr>> {
            if let Err(error) = enter_new_network() {
                eprintln!("stepping aside: this user may make no network ({error})");
                return Ok(Vec::new());
            }
            let there: SocketAddr = (Ipv4Addr::new(192, 0, 2, 9), 53).into();
            let mut found = vec![listen_for_all(Version::V6, 700)?.local_addr()?];
            found.push(listen_for_all(Version::V4, 700)?.local_addr()?);
            let all = datagrams_for_all(Version::V4, 701)?;
            let mut buffer = [0; 8];
            let nothing = receive_for_all(&all, &mut buffer).expect_err("nobody sent anything");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            // There is no way to there, but an answer as from there may be had.
            assert!(datagrams_as(there, (Ipv4Addr::new(198, 51, 100, 1), 1).into()).is_err());
            Ok(found)
        });
        let found = apart.join().expect("no panic").expect("sockets of its own");
        assert!(found.is_empty() || found == ["[::]:700".parse().unwrap(), "0.0.0.0:700".parse().unwrap()]);
    }
}

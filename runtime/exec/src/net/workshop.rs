//! The threads in the router's network: one makes networks for members, the other makes sockets.
//!
//! In: orders. Out: networks with a wire to the router's, and sockets that are the router's.
//! How: to make a network takes the kernel about a millisecond, to take one down as long, and who asks for one may wait for
//! those of others to be taken down. So some are made ahead, as many as were lacking; and one that comes back *as new* is
//! given again. It is as new if its member could not change it and not a packet was sent or received in it, be it on its
//! loopback: most steps say nothing.
//! **Invariants:** a member never notices whether its network had others before it; a thread makes what belongs to the network
//! it is in, and the one for sockets never waits for a network.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};

use rb_sys::netlink::{Batch, Netlink, Protocol, Refused};
use rb_sys::network::{self, PacketSocket, Version};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::members::Members;
use super::wires::Place;
use super::{NetworkError, failed, gone, packet, rules, spawn, wires};

/// The port of our own sockets in the router's network. Whom it is meant for is known before a port is looked at, so a
/// member may connect to this one as to any other.
const PORT: u16 = 1;

/// Networks made ahead at most.
const MOST_AHEAD: usize = 4;

/// Networks kept for those to come at most, those that came back included.
const MOST_SPARE: usize = 32;

/// A network for a member. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) place: Place,
    pub(super) network: Arc<OwnedFd>,
    routes: Arc<Netlink>,
}

impl Made {
    /// Whether nothing was said in it. Where the kernel does not tell, something was.
    fn is_silent(&self) -> bool {
        let count = |interface| wires::counted(&self.routes.ask(&wires::count(interface)).ok()?);
        [wires::LOOPBACK, wires::OWN].into_iter().all(|interface| count(interface) == Some(0))
    }
}

enum Order {
    Join { answer: SyncSender<Result<Made, NetworkError>> },
    Back { made: Made },
}

/// Asks the thread that makes networks. Its orders wait for as long as there are any; who gives them mostly waits, too.
#[derive(Clone, Debug)]
pub(super) struct Maker(Sender<Order>);

impl Maker {
    /// Returns a maker, and what its orders arrive at.
    pub(super) fn new() -> (Self, Orders) {
        let (sender, orders) = channel();
        (Self(sender), Orders(orders))
    }

    /// Waits for a network.
    pub(super) fn join(&self) -> Result<Made, NetworkError> {
        const ACTION: &str = "make the network of a sandbox";
        let (answer, come) = sync_channel(1);
        self.0.send(Order::Join { answer }).map_err(|_| gone(ACTION))?;
        come.recv().unwrap_or_else(|_| Err(gone(ACTION)))
    }

    /// Gives a network back, in which nobody is any more and which nobody could change. Does not wait.
    pub(super) fn give_back(&self, made: Made) {
        // Without the thread it is nobody's any more.
        self.0.send(Order::Back { made }).ok();
    }
}

/// Orders for networks.
pub(super) struct Orders(Receiver<Order>);

enum Wanted {
    Connector { to: SocketAddr, answer: oneshot::Sender<io::Result<TcpSocket>> },
    Datagrams { from: SocketAddr, to: SocketAddr, answer: oneshot::Sender<io::Result<UdpSocket>> },
}

/// Asks the thread that makes sockets.
#[derive(Clone, Debug)]
pub(super) struct Inside(Sender<Wanted>);

impl Inside {
    /// Makes a socket that connects to a member.
    pub(super) async fn connector(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        self.order(|answer| Wanted::Connector { to, answer }).await
    }

    /// Makes a socket that answers to `to` as if it were `from`.
    pub(super) async fn datagrams(&self, from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
        self.order(|answer| Wanted::Datagrams { from, to, answer }).await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Wanted) -> io::Result<T> {
        let (answer, come) = oneshot::channel();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.send(order(answer)).map_err(|_| gone())?;
        come.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Makes sockets until nobody can want any.
fn make_sockets(wanted: &Receiver<Wanted>) {
    for wanted in wanted {
        // Who does not wait for one does not get it.
        match wanted {
            Wanted::Connector { to, answer } => {
                drop(answer.send(if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }));
            }
            Wanted::Datagrams { from, to, answer } => drop(answer.send(network::datagrams_as(from, to))),
        }
    }
}

/// The sockets to which the rules lead, and who makes more.
pub(super) struct Sockets {
    pub(super) connections: Vec<TcpListener>,
    pub(super) datagrams: Vec<UdpSocket>,
    pub(super) firsts: Vec<PacketSocket>,
    pub(super) inside: Inside,
}

/// What the thread that makes networks works with.
pub(super) struct Workshop {
    own: OwnedFd,
    members: Arc<Members>,
    v6: bool,
    /// Whether interfaces take it that they have no address of the link.
    quiet: bool,
    routes: Netlink,
}

impl Workshop {
    /// Moves this thread into a new network and makes it the router's.
    pub(super) fn open(v6: bool, members: Arc<Members>) -> Result<(Self, Sockets), NetworkError> {
        network::enter_new_network().map_err(failed("make a network"))?;
        let own = here().map_err(failed("find a network"))?;
        let routes = Netlink::open(Protocol::Route).map_err(failed("configure a network"))?;
        let rules = Netlink::open(Protocol::Netfilter).map_err(without_rules)?;
        let quiet = routes.change(&wires::no_address_of_link(wires::LOOPBACK)).is_ok();
        change(&routes, &wires::router(v6), "route in a network")?;
        rules.change(&rules::router(PORT)).map_err(|refused| without_rules(refused.source))?;
        let (sender, wanted) = channel();
        // In the network of the thread that starts it.
        spawn("network-in", move || make_sockets(&wanted))?;
        let mut sockets = Sockets {
            connections: Vec::new(),
            datagrams: Vec::new(),
            firsts: Vec::new(),
            inside: Inside(sender),
        };
        let versions = [Some(Version::V4), v6.then_some(Version::V6)].into_iter().flatten();
        for version in versions {
            let open = failed("listen in a network");
            sockets.connections.push(network::listen_for_all(version, PORT).map_err(open)?);
            sockets.datagrams.push(network::datagrams_for_all(version, PORT).map_err(open)?);
            sockets.firsts.push(PacketSocket::seeing(version, &packet::filter(version)).map_err(open)?);
        }
        Ok((Self { own, members, v6, quiet, routes }, sockets))
    }

    /// Heeds orders until nobody can give any.
    pub(super) fn serve(self, Orders(orders): &Orders) {
        let mut spare: Vec<Made> = Vec::new();
        let mut lacked = 0;
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) if spare.len() < ahead(lacked) => {
                    match self.join() {
                        Ok(made) => spare.push(made),
                        // Then so will the next, which is waited for.
                        Err(_) => lacked = 0,
                    }
                    continue;
                }
                Err(_) => match orders.recv() {
                    Ok(order) => order,
                    Err(_) => return,
                },
            };
            match order {
                Order::Join { answer } => {
                    let made = spare.pop().map_or_else(
                        || {
                            lacked += 1;
                            self.join()
                        },
                        Ok,
                    );
                    drop(answer.send(made));
                }
                Order::Back { made } if spare.len() < MOST_SPARE && made.is_silent() => spare.push(made),
                // Its wire goes with its network.
                Order::Back { made } => self.members.leave(made.place.number),
            }
        }
    }

    fn join(&self) -> Result<Made, NetworkError> {
        let failed = failed("make the network of a sandbox");
        let number = self.members.take().ok_or_else(|| failed(io::ErrorKind::QuotaExceeded.into()))?;
        let made = self.make(Place { number, v6: self.v6, quiet: self.quiet });
        made.inspect_err(|_| self.members.leave(number))
    }

    fn make(&self, place: Place) -> Result<Made, NetworkError> {
        let failed = failed("make the network of a sandbox");
        network::enter_new_network().map_err(failed)?;
        let entered = (|| Ok((here()?, Netlink::open(Protocol::Route)?)))();
        let back = move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Network));
        // What this thread opens from now on must be the router's.
        back.expect("a thread may go back to the network it came from");
        let (network, routes) = entered.map_err(failed)?;
        change(&self.routes, &place.in_router(network.as_fd()), "connect the network of a sandbox")?;
        change(&routes, &place.in_member(), "route in the network of a sandbox")?;
        Ok(Made { place, network: Arc::new(network), routes: Arc::new(routes) })
    }
}

/// How many networks are made ahead, when one was lacking so often. The first lacks one: many a build has no other step, or
/// its steps say nothing.
fn ahead(lacked: usize) -> usize {
    lacked.saturating_sub(1).min(MOST_AHEAD)
}

/// Returns a descriptor of the network that this thread is in.
fn here() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn change(netlink: &Netlink, batch: &Batch, action: &'static str) -> Result<(), NetworkError> {
    netlink.change(batch).map_err(|Refused { message, source }| {
        tracing::debug!(message, action, "a message about networks was refused");
        let is_unknown = source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error());
        let remedy = is_unknown.then_some("as root: modprobe veth");
        NetworkError { action, remedy, source }
    })
}

fn without_rules(source: io::Error) -> NetworkError {
    let remedy = Some("as root: modprobe -a nf_tables nft_tproxy nft_reject_inet");
    NetworkError { action: "make rules for packets (nf_tables)", remedy, source }
}

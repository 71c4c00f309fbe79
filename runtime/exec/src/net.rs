//! A network for sandboxes that leads outside and not to this machine.
//!
//! For what: a step reaches the internet and the neighbourhood as this machine does, but no service of this machine, no
//! other build and, unless they share a network, no other step. In: [`Router::start`], then a [`Member`] for each sandbox,
//! alone or in a [`SharedNetwork`]. Out: a network to run in, and the address of whom to ask names.
//!
//! How: a thread moves into a network of its own, the router's. Each member is one more, with a wire to it, and none is
//! used twice. In the router's every address counts as its own, so whatever a member sends ends there: the [rules] lead
//! connections and datagrams to sockets of ours. Another thread, in this machine's network, connects outside on their
//! behalf ([`reach`] says where to), and carries what is said: [`gate`] connections, [`datagrams`] all else; [`names`]
//! answers for names.
//!
//! **What always holds.** It is the same for root and for users in a user namespace. Nothing of this machine is changed:
//! no interface, rule, route or setting, and what there is lives in networks that end with this process, however it ends.
//! Taking one down takes the kernel long; neither the end of a step nor that of this process waits for it.
//! The kernel's part is veth and nf_tables with its tproxy; nobody is asked for programs.
//! What is not carried: anything but TCP and UDP, so `ping` is told that it is prohibited.
//!
//! Weighed: a bridge with NAT on the host leaves rules and a setting behind when it is killed, and needs root; pasta and
//! slirp4netns are programs to install and have a TCP of their own. A bridge between members of one network would be carried
//! by the kernel, but its frames pass the rules twice or not at all, as br_netfilter is loaded or not.

mod datagrams;
mod gate;
mod members;
mod names;
mod packet;
mod reach;
mod rules;
mod wires;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_sys::netlink::{Batch, Netlink, Protocol, Refused};
use rb_sys::network::{self, PacketSocket, Version};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;
use tokio::sync::{oneshot, watch};

use datagrams::Datagrams;
use gate::Gate;
use members::{Members, Seat};
use reach::Reach;
use wires::Place;

/// Where names are asked for.
const DOMAIN: u16 = 53;

/// The port of our own sockets in the router's network. Whom it is meant for is known before a port is looked at, so a
/// member may connect to this one as to any other.
const PORT: u16 = 1;

/// Orders that may wait.
const MOST_ORDERS: usize = 256;

/// No network can be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct NetworkError {
    /// What was tried.
    pub action: &'static str,
    /// What an administrator can do.
    pub remedy: Option<&'static str>,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

/// Makes networks of sandboxes. Clones share everything; when the last and all members are gone, it ends.
#[derive(Clone, Debug)]
pub struct Router(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    maker: Maker,
    members: Arc<Members>,
    /// Whether it leads outside by version 6, too.
    v6: bool,
    /// Tells the thread that carries to end.
    _running: watch::Sender<()>,
}

/// A network that members share: they reach each other, by way of the router, and find each other by name.
#[derive(Clone, Debug)]
pub struct SharedNetwork {
    router: Router,
    network: u16,
}

/// A place on a network for one sandbox. When all clones are gone, so is the place.
#[derive(Clone, Debug)]
pub struct Member(Arc<Own>);

#[derive(Debug)]
struct Own {
    network: OwnedFd,
    number: u16,
    v6: bool,
    router: Router,
    _here: watch::Sender<()>,
}

impl Router {
    /// Makes the router's network. To be called in this machine's, after [`enter_runtime`](crate::enter_runtime()); takes
    /// some milliseconds.
    pub fn start() -> Result<Self, NetworkError> {
        let reach = Arc::new(Reach::new().map_err(failed("ask the kernel about routes"))?);
        let v6 = reach.has_v6();
        let (maker, orders) = sync_channel(MOST_ORDERS);
        let (started, answer) = sync_channel(1);
        let members = Arc::new(Members::default());
        let known = Arc::clone(&members);
        let serve = move || match Workshop::open(v6, known) {
            Ok((workshop, sockets)) => {
                if started.send(Ok(sockets)).is_ok() {
                    workshop.serve(&orders);
                }
            }
            // Whoever started us waits for it.
            Err(error) => drop(started.send(Err(error))),
        };
        spawn("network", serve)?;
        let sockets = answer.recv().unwrap_or_else(|_| Err(gone("start a network")))?;
        let maker = Maker(maker);
        let (running, ended) = watch::channel(());
        let carrying = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed("start carrying"))?;
        {
            let (members, maker) = (Arc::clone(&members), maker.clone());
            spawn("network-out", move || carrying.block_on(carry(sockets, reach, members, maker, ended)))?;
        }
        Ok(Self(Arc::new(Inner { maker, members, v6, _running: running })))
    }

    /// Whether it leads outside by version 6 of the protocol as well, as this machine's network does or does not.
    pub fn has_v6(&self) -> bool {
        self.0.v6
    }

    /// Makes a place for a sandbox that is alone. Mostly it is there already: one is made while nothing else is asked for.
    pub fn join(&self) -> Result<Member, NetworkError> {
        self.seat(None, None)
    }

    /// Makes a network that several sandboxes can join.
    pub fn shared(&self) -> Result<SharedNetwork, NetworkError> {
        let full = || failed("make a network for several sandboxes")(io::ErrorKind::QuotaExceeded.into());
        let network = self.0.members.take_network().ok_or_else(full)?;
        Ok(SharedNetwork { router: self.clone(), network })
    }

    fn seat(&self, shared: Option<u16>, name: Option<String>) -> Result<Member, NetworkError> {
        const ACTION: &str = "make the network of a sandbox";
        let Made { place, network } = self.0.maker.ask(ACTION, |answer| Order::Join { answer })?;
        let seen = network.try_clone().map_err(failed(ACTION))?;
        let (here, left) = watch::channel(());
        self.0.members.seat(place.number, Seat::new(place.interface(), seen, left), shared, name);
        let own = Own { network, number: place.number, v6: place.v6, router: self.clone(), _here: here };
        Ok(Member(Arc::new(own)))
    }
}

impl SharedNetwork {
    /// Makes a place for a sandbox that the others find as `name`, if it has one.
    pub fn join(&self, name: Option<&str>) -> Result<Member, NetworkError> {
        self.router.seat(Some(self.network), name.map(ToOwned::to_owned))
    }
}

impl Member {
    /// Returns its addresses; that of version 6 only where this machine has a way out by it.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let (v4, v6) = wires::addresses(self.0.number);
        [IpAddr::from(v4), v6.into()].into_iter().take(if self.0.v6 { 2 } else { 1 }).collect()
    }

    /// Returns whom its sandbox asks for names.
    pub fn resolver() -> IpAddr {
        wires::GATEWAY.into()
    }

    /// Returns a descriptor of its network.
    pub(crate) fn network(&self) -> io::Result<OwnedFd> {
        self.0.network.try_clone()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Its wire goes with its network.
        self.router.0.members.leave(self.number);
    }
}

/// What is asked of the thread in the router's network.
enum Order {
    Join { answer: SyncSender<Result<Made, NetworkError>> },
    Connector { to: SocketAddr, answer: oneshot::Sender<io::Result<TcpSocket>> },
    Datagrams { from: SocketAddr, to: SocketAddr, answer: oneshot::Sender<io::Result<UdpSocket>> },
}

/// A network for a member.
struct Made {
    place: Place,
    network: OwnedFd,
}

/// Asks the thread in the router's network.
#[derive(Clone, Debug)]
struct Maker(SyncSender<Order>);

impl Maker {
    /// Waits for what comes of an order.
    fn ask<T>(
        &self,
        action: &'static str,
        order: impl FnOnce(SyncSender<Result<T, NetworkError>>) -> Order,
    ) -> Result<T, NetworkError> {
        let (answer, come) = sync_channel(1);
        self.0.send(order(answer)).map_err(|_| gone(action))?;
        come.recv().unwrap_or_else(|_| Err(gone(action)))
    }

    /// Makes a socket that connects to a member.
    async fn connector(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        self.order(|answer| Order::Connector { to, answer }).await
    }

    /// Makes a socket that answers to `to` as if it were `from`.
    async fn datagrams(&self, from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
        self.order(|answer| Order::Datagrams { from, to, answer }).await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Order) -> io::Result<T> {
        let (answer, come) = oneshot::channel();
        // Never waits: who carries must not.
        let busy = |_| io::Error::from(io::ErrorKind::WouldBlock);
        self.0.try_send(order(answer)).map_err(busy)?;
        come.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

/// The sockets to which the rules lead.
struct Sockets {
    connections: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    firsts: Vec<PacketSocket>,
}

/// What the thread in the router's network works with.
struct Workshop {
    own: OwnedFd,
    members: Arc<Members>,
    v6: bool,
    routes: Netlink,
}

impl Workshop {
    /// Moves this thread into a new network and makes it the router's.
    fn open(v6: bool, members: Arc<Members>) -> Result<(Self, Sockets), NetworkError> {
        network::enter_new_network().map_err(failed("make a network"))?;
        let own = here().map_err(failed("find a network"))?;
        let routes = Netlink::open(Protocol::Route).map_err(failed("configure a network"))?;
        let rules = Netlink::open(Protocol::Netfilter).map_err(without_rules)?;
        change(&routes, &wires::router(v6), "route in a network")?;
        rules.change(&rules::router(PORT)).map_err(|refused| without_rules(refused.source))?;
        let versions = [Some(Version::V4), v6.then_some(Version::V6)].into_iter().flatten();
        let mut sockets = Sockets { connections: Vec::new(), datagrams: Vec::new(), firsts: Vec::new() };
        for version in versions {
            let open = failed("listen in a network");
            sockets.connections.push(network::listen_for_all(version, PORT).map_err(open)?);
            sockets.datagrams.push(network::datagrams_for_all(version, PORT).map_err(open)?);
            sockets.firsts.push(PacketSocket::seeing(version, &packet::filter(version)).map_err(open)?);
        }
        Ok((Self { own, members, v6, routes }, sockets))
    }

    /// Heeds orders until nobody can give any. Who does not wait for an answer does not get one.
    fn serve(self, orders: &Receiver<Order>) {
        // For the next one: made while nothing is asked for, so that it does not wait for the kernel, which
        // may be busy with taking down the networks of others. None is used twice.
        let mut spare = None;
        let mut is_wanted = false;
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) if is_wanted && spare.is_none() => {
                    // Should it fail, then so will the next, which is waited for.
                    (spare, is_wanted) = (self.join().ok(), false);
                    continue;
                }
                Err(_) => match orders.recv() {
                    Ok(order) => order,
                    Err(_) => return,
                },
            };
            match order {
                Order::Join { answer } => {
                    is_wanted = true;
                    drop(answer.send(spare.take().map_or_else(|| self.join(), Ok)));
                }
                Order::Connector { to, answer } => {
                    drop(answer.send(if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }));
                }
                Order::Datagrams { from, to, answer } => drop(answer.send(network::datagrams_as(from, to))),
            }
        }
    }

    fn join(&self) -> Result<Made, NetworkError> {
        let failed = failed("make the network of a sandbox");
        let number = self.members.take().ok_or_else(|| failed(io::ErrorKind::QuotaExceeded.into()))?;
        let made = self.make(Place { number, v6: self.v6 });
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
        Ok(Made { place, network })
    }
}

/// Carries for all members until told to end.
async fn carry(
    sockets: Sockets,
    reach: Arc<Reach>,
    members: Arc<Members>,
    maker: Maker,
    mut ended: watch::Receiver<()>,
) {
    let gate = Gate::new(Arc::clone(&reach), Arc::clone(&members), maker.clone());
    let datagrams = Datagrams::new(reach, members, maker);
    let mut tasks = tokio::task::JoinSet::new();
    for socket in sockets.firsts {
        tasks.spawn(Arc::clone(&gate).watch(socket));
    }
    for socket in sockets.connections {
        tasks.spawn(Arc::clone(&gate).accept(socket));
    }
    for socket in sockets.datagrams {
        tasks.spawn(Arc::clone(&datagrams).watch(socket));
    }
    tokio::select! {
        // It never says anything but that the last handle is gone.
        _ = ended.changed() => {}
        Some(Ok(Err(error))) = tasks.join_next() => {
            tracing::warn!(%error, "nothing is carried for sandboxes any more");
        }
    }
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

fn failed(action: &'static str) -> impl Fn(io::Error) -> NetworkError + Copy {
    move |source| NetworkError { action, remedy: None, source }
}

fn gone(action: &'static str) -> NetworkError {
    failed(action)(io::Error::other("the thread that makes networks has ended"))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), NetworkError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(failed("start a thread"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single step, so a panicked holder leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

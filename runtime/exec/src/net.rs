//! A network for sandboxes that leads outside and not to this machine.
//!
//! For what: a step reaches the internet and the neighbourhood as this machine does, but no service of this machine, no
//! other build and, unless they share a network, no other step. In: [`Router::start`], then a [`Member`] for each sandbox,
//! alone or in a [`SharedNetwork`]. Out: a network to run in, and the address of whom to ask names.
//!
//! How: threads live in a network of its own, the router's ([`workshop`]). Each member is one more, with a wire to it, and
//! none is used twice in which anything was said. In the router's every address counts as its own, so whatever a member
//! sends ends there: the [rules] lead connections and datagrams to sockets of ours. Another thread, in this machine's
//! network, connects outside on their behalf ([`reach`] says where to), and carries what is said: [`gate`] connections,
//! [`datagrams`] all else; [`names`] answers for names.
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
mod workshop;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use datagrams::Datagrams;
use gate::Gate;
use members::{Members, Seat};
use reach::Reach;
use workshop::{Made, Maker, Sockets, Workshop};

/// Where names are asked for.
const DOMAIN: u16 = 53;

/// How long connections and flows go on after their member has left: what it said last is to arrive.
const AFTERWARDS: Duration = Duration::from_secs(2);

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
    made: Made,
    /// Whoever is in it may change it, so nobody else gets it.
    for_this_one: AtomicBool,
    router: Router,
    _here: watch::Sender<()>,
}

impl Router {
    /// Makes the router's network. To be called in this machine's, after [`enter_runtime`](crate::enter_runtime()); takes
    /// some milliseconds.
    pub fn start() -> Result<Self, NetworkError> {
        let reach = Arc::new(Reach::new().map_err(failed("ask the kernel about routes"))?);
        let v6 = reach.has_v6();
        let (maker, orders) = Maker::new();
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
        let (running, ended) = watch::channel(());
        let carrying = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed("start carrying"))?;
        {
            let members = Arc::clone(&members);
            spawn("network-out", move || carrying.block_on(carry(sockets, reach, members, ended)))?;
        }
        Ok(Self(Arc::new(Inner { maker, members, v6, _running: running })))
    }

    /// Whether it leads outside by version 6 of the protocol as well, as this machine's network does or does not.
    pub fn has_v6(&self) -> bool {
        self.0.v6
    }

    /// Makes a place for a sandbox that is alone. Mostly it is there already: of one before it, or made ahead.
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
        let made = self.0.maker.join()?;
        let (here, left) = watch::channel(());
        let seat = Seat::new(made.place.interface(), Arc::clone(&made.network), left);
        self.0.members.seat(made.place.number, seat, shared, name);
        let own = Own { made, for_this_one: AtomicBool::new(false), router: self.clone(), _here: here };
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
        let place = self.0.made.place;
        let (v4, v6) = wires::addresses(place.number);
        [IpAddr::from(v4), v6.into()].into_iter().take(if place.v6 { 2 } else { 1 }).collect()
    }

    /// Returns whom its sandbox asks for names.
    pub fn resolver() -> IpAddr {
        wires::GATEWAY.into()
    }

    /// Returns a descriptor of its network.
    pub(crate) fn network(&self) -> io::Result<OwnedFd> {
        self.0.made.network.try_clone()
    }

    /// Says that its sandbox may change its network, which nobody else is to have then.
    pub(crate) fn keep_from_others(&self) {
        self.0.for_this_one.store(true, Ordering::Relaxed);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let Inner { members, maker, .. } = &*self.router.0;
        if *self.for_this_one.get_mut() {
            // Its wire goes with its network.
            members.leave(self.made.place.number);
        } else {
            members.unseat(self.made.place.number);
            maker.give_back(self.made.clone());
        }
    }
}

/// Carries for all members until told to end.
async fn carry(sockets: Sockets, reach: Arc<Reach>, members: Arc<Members>, mut ended: watch::Receiver<()>) {
    let gate = Gate::new(Arc::clone(&reach), Arc::clone(&members), sockets.inside.clone());
    let datagrams = Datagrams::new(reach, members, sockets.inside);
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

/// Returns some time after a member has left.
async fn long_gone(mut left: watch::Receiver<()>) {
    // It never says anything but that it is gone.
    while left.changed().await.is_ok() {}
    tokio::time::sleep(AFTERWARDS).await;
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

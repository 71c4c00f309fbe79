//! Connections: the first packet of one waits here until there is one outside.
//!
//! In: the first packets that the [rules](super::rules) hold. Each is connected outside; then it is sent again, marked with
//! what came of it, and the member sees what it would see without us: a connection, a refusal, or nobody there. What opens
//! is accepted and carried both ways, with ends and aborts. A member of the same network is connected to within it.
//! **Invariants:** one try per first packet, however often it comes; connections are bounded; those of a member end soon
//! after it has left.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_sys::network::{self, PacketSocket};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::members::{Members, Seat};
use super::names;
use super::packet::First;
use super::reach::{self, Reach, Refusal};
use super::rules::Mark;
use super::workshop::Inside;
use super::{DOMAIN, lock, long_gone, wires};

/// Connections at once, over all members; a further one waits, as its first packet is sent again and again.
const MOST: usize = 4096;
/// How long what is open may wait to be accepted, if its member stays.
const TO_ACCEPT: Duration = Duration::from_secs(60);
const BUFFER: usize = 128 << 10;
/// Longer first packets there are none.
const MAX_FRAME: usize = 64 << 10;

type Ends = (SocketAddr, SocketAddr);

/// One connection on its way: its number, since ends come again, and what there is outside, once there is.
type Waiting = (u64, Option<Outer>);

/// A connection outside.
struct Outer {
    stream: TcpStream,
    /// Its room among all.
    room: OwnedSemaphorePermit,
    /// Closes when its member has left, which may be before it is accepted.
    left: watch::Receiver<()>,
}

/// What is being connected, and what is connected and not yet accepted.
pub(super) struct Gate {
    reach: Arc<Reach>,
    members: Arc<Members>,
    inside: Inside,
    waiting: Mutex<BTreeMap<Ends, Waiting>>,
    room: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(reach: Arc<Reach>, members: Arc<Members>, inside: Inside) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(MOST));
        Arc::new(Self { reach, members, inside, waiting: Mutex::default(), room })
    }

    /// Watches for first packets; returns only if it cannot.
    pub(super) async fn watch(self: Arc<Self>, socket: PacketSocket) -> io::Result<()> {
        let (socket, _closing) = socket.into_socket();
        let socket = UdpSocket::from_std(socket)?;
        let mut buffer = vec![0; MAX_FRAME];
        let mut count = 0;
        loop {
            socket.readable().await?;
            let receive = || network::receive_frame(&socket, &mut buffer);
            let Ok(seen) = socket.try_io(Interest::READABLE, receive) else { continue };
            let Some(first) = First::read(buffer.get(..seen.length).unwrap_or_default()) else { continue };
            if first.is_marked() {
                continue;
            }
            // Who uses another's address is not answered.
            let Some(seat) = self.members.at(first.from.ip(), seen.interface) else { continue };
            let ends = (first.from, first.to);
            let mut waiting = lock(&self.waiting);
            match waiting.get(&ends) {
                Some((_, None)) => {}
                Some((_, Some(_))) => seat.send(&first.marked(Mark::Open)),
                None => {
                    let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { continue };
                    count += 1;
                    waiting.insert(ends, (count, None));
                    tokio::spawn(Arc::clone(&self).open(count, first, seat, room));
                }
            }
        }
    }

    async fn open(self: Arc<Self>, number: u64, first: First, seat: Arc<Seat>, room: OwnedSemaphorePermit) {
        let ends = (first.from, first.to);
        let mut left = seat.left();
        let connected = tokio::select! {
            connected = self.connect(first.from, first.to) => connected,
            // Nobody is interested any more.
            _ = left.changed() => Err(Refusal::Unreachable),
        };
        match connected {
            Ok(stream) => {
                let outer = Outer { stream, room, left: seat.left() };
                lock(&self.waiting).insert(ends, (number, Some(outer)));
                seat.send(&first.marked(Mark::Open));
                drop(seat);
                tokio::select! {
                    () = tokio::time::sleep(TO_ACCEPT) => {}
                    () = long_gone(left) => {}
                }
                let mut waiting = lock(&self.waiting);
                if waiting.get(&ends).is_some_and(|(other, _)| *other == number) {
                    waiting.remove(&ends);
                }
            }
            Err(refusal) => {
                lock(&self.waiting).remove(&ends);
                seat.send(&first.marked(match refusal {
                    Refusal::Refused => Mark::Refused,
                    Refusal::Unreachable => Mark::Unreachable,
                }));
            }
        }
    }

    async fn connect(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpStream, Refusal> {
        let is_gateway = to.ip() == wires::GATEWAY || to.ip() == wires::GATEWAY_V6;
        if is_gateway && to.port() == DOMAIN {
            return names::connect().await.ok_or(Refusal::Unreachable);
        }
        if self.members.share(from.ip(), to.ip()) {
            let socket = self.inside.connector(to).await.map_err(|_| Refusal::Unreachable)?;
            return reach::connect(socket.connect(to)).await;
        }
        self.reach.connect(to).await
    }

    /// Accepts what opens; returns only if it cannot.
    pub(super) async fn accept(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((inner, from)) = listener.accept().await else {
                // Such as too many files: others will end.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(to) = inner.local_addr() else { continue };
            let Some((_, Some(Outer { stream, room, left }))) = lock(&self.waiting).remove(&(from, to))
            else {
                continue;
            };
            tokio::spawn(async move {
                carry(inner, stream, left).await;
                drop(room);
            });
        }
    }
}

async fn carry(mut inner: TcpStream, mut outer: TcpStream, left: watch::Receiver<()>) {
    // What is sent in small pieces was meant to be: whether to wait for more was decided by its sender.
    inner.set_nodelay(true).ok();
    outer.set_nodelay(true).ok();
    let carried = tokio::select! {
        carried = tokio::io::copy_bidirectional_with_sizes(&mut inner, &mut outer, BUFFER, BUFFER) => carried,
        () = long_gone(left) => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    if carried.is_err() {
        abort(inner);
        abort(outer);
    }
}

/// Ends a connection so that the other end learns it was no good end.
fn abort(stream: TcpStream) {
    stream.set_zero_linger().ok();
}

//! Datagrams: each pair of ends is a flow of its own, until nothing is heard of it.
//!
//! In: datagrams of members to anybody. Out: the same outside, from a port of this machine, and what comes back, from whom
//! it was sent to; questions for names are [answered](super::names). After its first datagram a flow has a socket that the
//! kernel hands all further ones to.
//! **Invariants:** flows are bounded, and so is what waits in one; a flow ends when it is silent, or soon after its member has
//! left.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket as Plain};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_sys::network;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};

use super::members::{Members, Seat};
use super::reach::Reach;
use super::workshop::Inside;
use super::{DOMAIN, lock, long_gone, names, wires};

/// Flows at once, over all members.
const MOST: usize = 4096;
/// Datagrams that wait for one to begin.
const MOST_WAITING: usize = 64;
/// Questions of one flow that are answered at once.
const MOST_QUESTIONS: usize = 64;
/// After this long without a datagram a flow is over (RFC 4787 asks for two minutes at least).
const SILENCE: Duration = Duration::from_secs(120);
const MAX_DATAGRAM: usize = 64 << 10;

type Ends = (SocketAddr, SocketAddr);

/// All flows.
pub(super) struct Datagrams {
    reach: Arc<Reach>,
    members: Arc<Members>,
    inside: Inside,
    flows: Mutex<BTreeMap<Ends, mpsc::Sender<Vec<u8>>>>,
    /// What all flows receive into: there may be thousands.
    buffer: Mutex<Vec<u8>>,
}

impl Datagrams {
    pub(super) fn new(reach: Arc<Reach>, members: Arc<Members>, inside: Inside) -> Arc<Self> {
        let buffer = Mutex::new(vec![0; MAX_DATAGRAM]);
        Arc::new(Self { reach, members, inside, flows: Mutex::default(), buffer })
    }

    /// Begins flows; returns only if it cannot.
    pub(super) async fn watch(self: Arc<Self>, socket: Plain) -> io::Result<()> {
        let socket = UdpSocket::from_std(socket)?;
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            socket.readable().await?;
            let receive = || network::receive_for_all(&socket, &mut buffer);
            let Ok((length, from, to)) = socket.try_io(Interest::READABLE, receive) else { continue };
            let Some(seat) = self.members.of(from.ip()) else { continue };
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            let mut flows = lock(&self.flows);
            if let Some(flow) = flows.get(&(from, to)) {
                // What does not fit is lost, as datagrams are.
                flow.try_send(datagram).ok();
            } else if flows.len() < MOST {
                let (flow, waiting) = mpsc::channel(MOST_WAITING);
                flow.try_send(datagram).ok();
                flows.insert((from, to), flow);
                tokio::spawn(Arc::clone(&self).flow(from, to, waiting, seat));
            }
        }
    }

    async fn flow(
        self: Arc<Self>,
        from: SocketAddr,
        to: SocketAddr,
        waiting: mpsc::Receiver<Vec<u8>>,
        seat: Arc<Seat>,
    ) {
        let left = seat.left();
        drop(seat);
        let carried = async {
            let is_gateway = to.ip() == wires::GATEWAY || to.ip() == wires::GATEWAY_V6;
            if is_gateway && to.port() == DOMAIN {
                let inner = self.answering(from, to).await?;
                return self.answer(inner, from, waiting).await;
            }
            let closed = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            let outer = if self.members.share(from.ip(), to.ip()) {
                let gateway = if to.is_ipv4() { wires::GATEWAY.into() } else { wires::GATEWAY_V6.into() };
                self.answering(to, SocketAddr::new(gateway, 0)).await?
            } else {
                self.reach.datagrams(to).await.map_err(closed)?
            };
            let inner = self.answering(from, to).await?;
            self.carry(&inner, &outer, waiting).await
        };
        let carried = tokio::select! {
            carried = carried => carried,
            () = long_gone(left) => Ok(()),
        };
        if let Err(error) = carried {
            tracing::debug!(%from, %to, %error, "datagrams of a sandbox are lost");
        }
        lock(&self.flows).remove(&(from, to));
    }

    /// Makes the socket that is `as_whom` for a `member`.
    async fn answering(&self, member: SocketAddr, as_whom: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.inside.datagrams(as_whom, member).await?)
    }

    async fn answer(
        &self,
        inner: UdpSocket,
        from: SocketAddr,
        mut waiting: mpsc::Receiver<Vec<u8>>,
    ) -> io::Result<()> {
        let (inner, room) = (Arc::new(inner), Arc::new(Semaphore::new(MOST_QUESTIONS)));
        loop {
            let question = tokio::select! {
                Some(question) = waiting.recv() => question,
                received = self.receive(&inner) => received?,
                () = tokio::time::sleep(SILENCE) => return Ok(()),
            };
            let Ok(room) = Arc::clone(&room).try_acquire_owned() else { continue };
            let (inner, members) = (Arc::clone(&inner), Arc::clone(&self.members));
            tokio::spawn(async move {
                if let Some(answer) = names::answer(&question, from.ip(), &members).await {
                    // Who asked may have gone.
                    inner.send(&answer).await.ok();
                }
                drop(room);
            });
        }
    }

    /// Carries both ways until both are silent.
    async fn carry(
        &self,
        inner: &UdpSocket,
        outer: &UdpSocket,
        mut waiting: mpsc::Receiver<Vec<u8>>,
    ) -> io::Result<()> {
        loop {
            // What nobody takes is lost, as datagrams are.
            tokio::select! {
                Some(datagram) = waiting.recv() => { outer.send(&datagram).await.ok(); }
                up = self.receive(inner) => { outer.send(&up?).await.ok(); }
                down = self.receive(outer) => { inner.send(&down?).await.ok(); }
                () = tokio::time::sleep(SILENCE) => return Ok(()),
            }
        }
    }

    /// Waits for a datagram. Errors that tell of an earlier one, which is lost, are none.
    async fn receive(&self, socket: &UdpSocket) -> io::Result<Vec<u8>> {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, WouldBlock};
        loop {
            socket.readable().await?;
            let mut buffer = lock(&self.buffer);
            match socket.try_recv(&mut buffer) {
                Ok(length) => return Ok(buffer.get(..length).unwrap_or_default().to_vec()),
                Err(error)
                    if matches!(
                        error.kind(),
                        WouldBlock | ConnectionRefused | HostUnreachable | NetworkUnreachable
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

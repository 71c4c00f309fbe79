//! Ports of this machine that lead to ports of a command: `rb run -p`.
//!
//! In: the [`Forward`]s of a spec. Who connects to one is connected to the port on the command's own loopback; a thread
//! that has entered the command's network makes that connection, if the network is not this machine's. On this machine's
//! network a port that leads to itself needs nobody in between: it is only looked at whether it is free.
//! **Invariants:** every port is taken before the command starts, or it does not start; connections are bounded; when the
//! forwarding is dropped, nothing listens and all connections are closed.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rb_sys::child::Child;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use crate::error::ExecError;
use crate::spec::{Forward, Network};

/// Connections at once, over all ports; further ones are closed as they come.
const MOST_CONNECTIONS: usize = 256;

/// How long the command may take to accept one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ports that were taken, and where they lead.
#[derive(Debug)]
pub(crate) struct Taken {
    listeners: Vec<(TcpListener, u16)>,
    network: Network,
}

/// Takes the ports. `Port` if one cannot be had.
pub(crate) fn take(forwards: &[Forward], network: &Network) -> Result<Taken, ExecError> {
    let mut listeners = Vec::new();
    for Forward { listen, port } in forwards {
        let failed = |source| ExecError::Port { address: *listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        if network.is_host() && listen.port() == *port {
            // The command itself listens there.
            continue;
        }
        listener.set_nonblocking(true).map_err(failed)?;
        listeners.push((listener, *port));
    }
    Ok(Taken { listeners, network: network.clone() })
}

/// Ports at work. Dropping it closes all.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// Its end is what the threads wait for.
    stop: Option<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    open: Arc<Connections>,
}

impl Taken {
    /// Begins to connect those who come with the command in `child`.
    pub(crate) fn start(self, child: &Child) -> io::Result<Forwarding> {
        let open = Arc::new(Connections::default());
        if self.listeners.is_empty() {
            return Ok(Forwarding { stop: None, threads: Vec::new(), open });
        }
        let network = match self.network {
            Network::Host => None,
            Network::None => Some(Arc::new(network_of(child)?)),
            // The child may be about to enter it.
            Network::Member(member) => Some(Arc::new(member.network()?)),
        };
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        // From here on a failure drops what was started.
        let mut forwarding = Forwarding { stop: Some(stop), threads: Vec::new(), open };
        for (listener, port) in self.listeners {
            let (stopped, network) = (stopped.try_clone()?, network.clone());
            let open = Arc::clone(&forwarding.open);
            let accept = move || accept(&listener, port, &stopped, network.as_ref(), &open);
            let thread = std::thread::Builder::new().name(format!("port {port}"));
            forwarding.threads.push(thread.spawn(accept)?);
        }
        Ok(forwarding)
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // It has no result; that it panicked was said by then.
            thread.join().ok();
        }
        self.open.close();
    }
}

/// Returns the network of a child, which is not this machine's.
fn network_of(child: &Child) -> io::Result<OwnedFd> {
    let pidfd = Arc::clone(child.pidfd());
    let enter = move || -> io::Result<OwnedFd> {
        move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::NETWORK)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?)
    };
    // A thread that has entered it is of no other use.
    let thread = std::thread::Builder::new().name("network".to_owned()).spawn(enter)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered the network panicked")))
}

fn accept(
    listener: &TcpListener,
    port: u16,
    stopped: &OwnedFd,
    network: Option<&Arc<OwnedFd>>,
    open: &Arc<Connections>,
) {
    loop {
        let mut polled = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let [of_listener, of_stop] = polled.map(|polled| polled.revents());
        if !of_stop.is_empty() {
            return;
        }
        if of_listener.is_empty() {
            continue;
        }
        match listener.accept() {
            Ok((client, _)) => {
                let Some(slot) = open.slot() else {
                    tracing::debug!(port, "too many connections");
                    continue;
                };
                let network = network.cloned();
                let connect = move || {
                    if let Err(error) = connect(client, port, network.as_deref(), &slot) {
                        tracing::debug!(port, %error, "a connection failed");
                    }
                };
                // Without a thread the connection is closed, which is what it comes to.
                std::thread::Builder::new().spawn(connect).ok();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Such as too many files: what waits is asked for again, after others have ended.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Carries both ways until both have ended.
fn connect(client: TcpStream, port: u16, network: Option<&OwnedFd>, slot: &Slot) -> io::Result<()> {
    client.set_nonblocking(false)?;
    if let Some(network) = network {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let at = |address: SocketAddr| TcpStream::connect_timeout(&address, PATIENCE);
    let server = at((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|error| at((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))?;
    slot.hold(client.try_clone()?, server.try_clone()?);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::Builder::new().spawn(move || carry(from_client, to_server))?;
    carry(server, client);
    // It has ended, or panicked and said so.
    up.join().ok();
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    // Whichever side failed, the other learns of it by the end.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}

/// The connections there are.
#[derive(Debug, Default)]
struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    closed: bool,
    next: u64,
    /// Both ends, once both are there.
    pairs: BTreeMap<u64, Option<(TcpStream, TcpStream)>>,
}

/// Room for one connection, given back when it is dropped.
struct Slot {
    all: Arc<Connections>,
    id: u64,
}

impl Connections {
    fn slot(self: &Arc<Self>) -> Option<Slot> {
        let mut open = self.lock();
        if open.closed || open.pairs.len() >= MOST_CONNECTIONS {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.pairs.insert(id, None);
        Some(Slot { all: Arc::clone(self), id })
    }

    fn close(&self) {
        let mut open = self.lock();
        open.closed = true;
        for (client, server) in open.pairs.values().flatten() {
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Every change is a single step, so a panicked holder leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn hold(&self, client: TcpStream, server: TcpStream) {
        let mut open = self.all.lock();
        if open.closed {
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        }
        open.pairs.insert(self.id, Some((client, server)));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.lock().pairs.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_said_before_anything_runs() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listen = other.local_addr().unwrap();
        for (network, port) in [(Network::Host, listen.port()), (Network::Host, 1), (Network::None, 1)] {
            let error = take(&[Forward { listen, port }], &network).unwrap_err();
            assert!(matches!(&error, ExecError::Port { address, .. } if *address == listen), "{error}");
        }
        drop(other);
        let same = take(&[Forward { listen, port: listen.port() }], &Network::Host).unwrap();
        assert!(same.listeners.is_empty());
        // It was let go of, for the command to take.
        assert_eq!(take(&[Forward { listen, port: 1 }], &Network::Host).unwrap().listeners.len(), 1);
    }

    #[test]
    fn connections_are_bounded() {
        let open = Arc::new(Connections::default());
        let slots: Vec<Slot> = (0..MOST_CONNECTIONS).map_while(|_| open.slot()).collect();
        assert_eq!(slots.len(), MOST_CONNECTIONS);
        assert!(open.slot().is_none());
        drop(slots);
        assert!(open.slot().is_some());
        open.close();
        assert!(open.slot().is_none());
    }
}

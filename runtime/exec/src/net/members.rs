//! Who is on the router's network: numbers, seats and names.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use rb_sys::network::PacketSocket;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::watch;

use super::{lock, wires};

/// The router's side of a member.
#[derive(Debug)]
pub(super) struct Seat {
    /// The router's interface it comes in by.
    interface: u32,
    /// The member's own network.
    network: Arc<OwnedFd>,
    /// Sends out of the member's own interface; made when there is something to send: most send nothing, and
    /// the kernel takes long to close it.
    sender: OnceLock<PacketSocket>,
    left: watch::Receiver<()>,
}

impl Seat {
    pub(super) fn new(interface: u32, network: Arc<OwnedFd>, left: watch::Receiver<()>) -> Self {
        Self { interface, network, sender: OnceLock::new(), left }
    }

    /// Sends a frame as if the member had.
    pub(super) fn send(&self, frame: &[u8]) {
        // If it cannot be sent, the member sends its own again, which is answered then.
        if let Err(error) = self.sender().and_then(|sender| sender.send(wires::OWN, frame)) {
            tracing::debug!(%error, "a packet of a sandbox was not sent again");
        }
    }

    fn sender(&self) -> io::Result<&PacketSocket> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender);
        }
        let enter = || {
            move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
            PacketSocket::sending()
        };
        // A thread that has entered it is of no other use.
        let made = std::thread::scope(|scope| {
            let entered = std::thread::Builder::new().spawn_scoped(scope, enter)?.join();
            entered.unwrap_or_else(|_| Err(io::Error::other("the thread that entered the network panicked")))
        })?;
        Ok(self.sender.get_or_init(|| made))
    }

    /// Returns what closes when the member has left.
    pub(super) fn left(&self) -> watch::Receiver<()> {
        self.left.clone()
    }
}

#[derive(Debug)]
struct Entry {
    seat: Arc<Seat>,
    /// The network it shares with others.
    network: Option<u16>,
    name: Option<String>,
}

/// All members.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The number that was given last.
    last: u16,
    taken: BTreeMap<u16, Option<Entry>>,
    networks: u16,
}

impl Members {
    /// Takes a number that nobody has. The ones that were free longest come first: connections of those who had them
    /// may still be ending.
    pub(super) fn take(&self) -> Option<u16> {
        let mut table = lock(&self.0);
        let after = |number: u16| if number >= wires::MOST_MEMBERS { 2 } else { number.max(1) + 1 };
        let mut number = after(table.last);
        for _ in 0..wires::MOST_MEMBERS {
            if !table.taken.contains_key(&number) {
                table.last = number;
                table.taken.insert(number, None);
                return Some(number);
            }
            number = after(number);
        }
        None
    }

    /// Takes a number for a network that members share.
    pub(super) fn take_network(&self) -> Option<u16> {
        let mut table = lock(&self.0);
        table.networks = table.networks.checked_add(1)?;
        Some(table.networks)
    }

    pub(super) fn seat(&self, number: u16, seat: Seat, network: Option<u16>, name: Option<String>) {
        let entry = Entry { seat: Arc::new(seat), network, name };
        lock(&self.0).taken.insert(number, Some(entry));
    }

    /// Has nobody on a number, which stays taken.
    pub(super) fn unseat(&self, number: u16) {
        // Dropped when the lock is free: others need not wait while the kernel closes.
        let left = lock(&self.0).taken.insert(number, None);
        drop(left);
    }

    /// Gives a number back.
    pub(super) fn leave(&self, number: u16) {
        let left = lock(&self.0).taken.remove(&number);
        drop(left);
    }

    /// Returns whoever has this address and comes in by this interface.
    pub(super) fn at(&self, address: IpAddr, interface: u32) -> Option<Arc<Seat>> {
        self.of(address).filter(|seat| seat.interface == interface)
    }

    /// Returns whoever has this address.
    pub(super) fn of(&self, address: IpAddr) -> Option<Arc<Seat>> {
        let table = lock(&self.0);
        let entry = table.taken.get(&number_of(address)?)?.as_ref()?;
        Some(Arc::clone(&entry.seat))
    }

    /// Whether those with these addresses share a network.
    pub(super) fn share(&self, one: IpAddr, other: IpAddr) -> bool {
        let table = lock(&self.0);
        let network = table.network_of(one);
        network.is_some() && network == table.network_of(other)
    }

    /// Returns the number of the one called `name` on the network of the one with this address.
    pub(super) fn called(&self, name: &str, asked_by: IpAddr) -> Option<u16> {
        let table = lock(&self.0);
        let network = table.network_of(asked_by)?;
        let is_meant = |entry: &Entry| {
            let own = entry.name.as_deref();
            entry.network == Some(network) && own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        table.taken.iter().find(|(_, entry)| entry.as_ref().is_some_and(is_meant)).map(|(number, _)| *number)
    }
}

impl Table {
    /// The network that the one with this address shares with others.
    fn network_of(&self, address: IpAddr) -> Option<u16> {
        self.taken.get(&number_of(address)?)?.as_ref()?.network
    }
}

fn number_of(address: IpAddr) -> Option<u16> {
    if !wires::is_ours(address) {
        return None;
    }
    match address {
        IpAddr::V4(address) => match address.octets() {
            [198, 18, high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [_, _, _, _, 0, 0, 0, number] => Some(number),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_and_are_nobodys_twice() {
        let members = Members::default();
        assert_eq!([members.take(), members.take()], [Some(2), Some(3)]);
        members.leave(2);
        assert_eq!(members.take(), Some(4));
        let all = (0..).map_while(|_| members.take()).count();
        assert_eq!(all, usize::from(wires::MOST_MEMBERS) - 3);
        // Nobody is on it, and it is not given to others.
        members.unseat(7);
        assert_eq!(members.take(), None);
        members.leave(3);
        assert_eq!([members.take(), members.take()], [Some(3), None]);
    }

    #[test]
    fn an_address_tells_the_number() {
        for number in [2, 300, wires::MOST_MEMBERS] {
            let (v4, v6) = wires::addresses(number);
            assert_eq!([number_of(v4.into()), number_of(v6.into())], [Some(number); 2]);
        }
        assert_eq!(number_of("192.0.2.1".parse().unwrap()), None);
        assert_eq!(number_of("fd72:6200::1:0:0:2".parse().unwrap()), None);
    }
}

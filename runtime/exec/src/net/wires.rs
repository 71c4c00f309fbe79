//! Interfaces, addresses and routes, as messages to the kernel.
//!
//! In: what is to be between the router and a member. Out: batches for the router's network and for the member's.
//! Everybody knows the hardware address of everybody else beforehand, so nobody asks and nobody can lie; and no interface has
//! an address of the link, so that the kernel says nothing by itself: what its [counters](count) tell, members said.
//! **Addresses.** The router has [`GATEWAY`] in every build, and members the ones after it: they are seen in networks of
//! our own only, never on this machine's. They are out of 198.18.0.0/15, which is for measurements and leads nowhere on
//! the internet, and out of a unique local prefix.
//! Source: rtnetlink(7), linux/if_link.h, linux/veth.h, RFC 2544, RFC 4193.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rb_sys::netlink::{Attributes, Batch};

/// The router, seen from every member.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same by version 6.
pub(super) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x6200, 0, 0, 0, 0, 0, 1);
/// Members there can be at once; their numbers begin after the router's.
pub(super) const MOST_MEMBERS: u16 = u16::MAX - 2;

/// The loopback is the first interface of every network.
pub(super) const LOOPBACK: u32 = 1;
/// A member's interface. The numbers after the loopback's are those of tunnels that some kernels put into every network.
pub(super) const OWN: u32 = 0x1_0000;

/// A hardware address.
pub(super) type Hardware = [u8; 6];

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
/// Makes what is not there, and refuses if it is.
const CREATE: u16 = 0x400 | 0x200;

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

/// The addresses of a member, by its number.
pub(super) fn addresses(number: u16) -> (Ipv4Addr, Ipv6Addr) {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(198, 18, high, low), Ipv6Addr::new(0xfd72, 0x6200, 0, 0, 0, 0, 0, number))
}

/// Whether an address belongs to a member or the router.
pub(super) fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [198, 18 | 19, ..]),
        IpAddr::V6(address) => matches!(address.segments(), [0xfd72, 0x6200, 0, 0, ..]),
    }
}

/// The hardware address of a member's interface.
fn of_member(number: u16) -> Hardware {
    let [high, low] = number.to_be_bytes();
    [0x02, 0x72, 0x62, 0x01, high, low]
}

/// The hardware address of the router's end of the wire to a member.
fn of_router(number: u16) -> Hardware {
    let [high, low] = number.to_be_bytes();
    [0x02, 0x72, 0x62, 0x02, high, low]
}

/// The router's interface for a member.
fn wire(number: u16) -> u32 {
    0x1_0000 + u32::from(number)
}

/// What the router's own network needs: it takes whatever comes in for its own, also what is for a member, and sends to
/// members alone.
pub(super) fn router(v6: bool) -> Batch {
    let mut batch = Batch::new();
    let gateway = IpAddr::from(GATEWAY);
    up(&mut batch, LOOPBACK);
    address(&mut batch, LOOPBACK, gateway);
    own_all(&mut batch, FAMILY_V4);
    if v6 {
        address(&mut batch, LOOPBACK, GATEWAY_V6.into());
        own_all(&mut batch, FAMILY_V6);
    }
    batch
}

/// Where a member is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its number.
    pub(super) number: u16,
    /// Whether it gets an address of version 6.
    pub(super) v6: bool,
    /// Whether interfaces can be told to have [no address of the link](no_address_of_link).
    pub(super) quiet: bool,
}

impl Place {
    /// The router's interface through which it is reached.
    pub(super) fn interface(self) -> u32 {
        wire(self.number)
    }

    fn addresses(self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let (v4, v6) = addresses(self.number);
        let both = [(v4.into(), GATEWAY.into()), (v6.into(), GATEWAY_V6.into())];
        both.into_iter().take(if self.v6 { 2 } else { 1 })
    }

    /// What makes the wire and the way to the member, said in the router's network.
    pub(super) fn in_router(self, member: BorrowedFd<'_>) -> Batch {
        let mut batch = Batch::new();
        let end = |name: &str, hardware: Hardware| {
            // One queue each way: by default there is one for each processor, all of which take time to make.
            let one = 1u32.to_ne_bytes();
            let named = Attributes::new().with_text(LINK_NAME, name).with(LINK_ADDRESS, &hardware);
            named.with(LINK_QUEUES_OUT, &one).with(LINK_QUEUES_IN, &one)
        };
        let mut peer = link(OWN, 0).to_vec();
        let attributes = end("eth0", of_member(self.number));
        peer.extend(attributes.with(LINK_NETWORK, &member.as_raw_fd().to_ne_bytes()).bytes());
        let info = Attributes::new()
            .with_text(LINK_KIND, "veth")
            .with_nested(LINK_DATA, &Attributes::new().with(WIRE_PEER, &peer));
        let attributes = end(&format!("step{}", self.number), of_router(self.number));
        let attributes = attributes.with_nested(LINK_INFO, &info);
        batch.change(NEW_LINK, CREATE, &link(self.interface(), 0), &attributes);
        self.wake(&mut batch, self.interface());
        for (own, _) in self.addresses() {
            route(&mut batch, &Route { interface: self.interface(), ..Route::to_one(own) });
            neighbour(&mut batch, self.interface(), own, of_member(self.number));
        }
        batch
    }

    /// What gives the member its addresses and its way out, said in its own network after [`in_router`](Self::in_router).
    pub(super) fn in_member(self) -> Batch {
        let mut batch = Batch::new();
        up(&mut batch, LOOPBACK);
        self.wake(&mut batch, OWN);
        for (own, gateway) in self.addresses() {
            address(&mut batch, OWN, own);
            route(&mut batch, &Route { interface: OWN, ..Route::to_one(gateway) });
            neighbour(&mut batch, OWN, gateway, of_router(self.number));
            let family = if own.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 };
            route(&mut batch, &Route { interface: OWN, gateway: Some(gateway), ..Route::to(None, family) });
        }
        batch
    }

    /// Sets an end of a wire up, which goes through its other end only once that is up, too.
    fn wake(self, batch: &mut Batch, interface: u32) {
        if self.quiet {
            quieten(batch, interface);
        }
        batch.change(NEW_LINK, 0, &link(interface, UP | NO_QUESTIONS), &Attributes::new());
    }
}

/// Tells an interface that is down to have no address of the link when it is up: it would have the kernel look for others
/// who have it, and for routers. Refused where there is no version 6.
pub(super) fn no_address_of_link(interface: u32) -> Batch {
    let mut batch = Batch::new();
    quieten(&mut batch, interface);
    batch
}

fn quieten(batch: &mut Batch, interface: u32) {
    const OF_FAMILIES: u16 = 26;
    const GENERATION: u16 = 8;
    const NONE: u8 = 1;
    let of_v6 = Attributes::new().with(GENERATION, &[NONE]);
    let of_families = Attributes::new().with_nested(FAMILY_V6.into(), &of_v6);
    let attributes = Attributes::new().with_nested(OF_FAMILIES, &of_families);
    batch.change(NEW_LINK, 0, &link(interface, 0), &attributes);
}

/// Asks how many packets an interface has sent and received; for [`counted`].
pub(super) fn count(interface: u32) -> Batch {
    const GET_COUNTERS: u16 = 94;
    const ALL_BUT_RARE: u32 = 1 << (COUNTERS - 1);
    let mut batch = Batch::new();
    // `struct if_stats_msg`
    let header = [[0; 4], interface.to_ne_bytes(), ALL_BUT_RARE.to_ne_bytes()].concat();
    batch.push(GET_COUNTERS, 0, &header, &Attributes::new());
    batch
}

/// Reads the answer to [`count`]: packets both ways together.
pub(super) fn counted(answer: &[u8]) -> Option<u64> {
    const HEADER: usize = 12;
    let mut rest = answer.get(HEADER..)?;
    loop {
        let (head, _) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == COUNTERS {
            // `struct rtnl_link_stats64` begins with these two.
            let number =
                |at: usize| rest.get(..length)?.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
            return number(4)?.checked_add(number(12)?);
        }
        // One shorter than its own head would never end.
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// Counters of an interface in 64 bits (`IFLA_STATS_LINK_64`).
const COUNTERS: u16 = 1;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const LINK_NETWORK: u16 = 28;
const LINK_QUEUES_OUT: u16 = 31;
const LINK_QUEUES_IN: u16 = 32;
/// Within [`LINK_INFO`].
const LINK_KIND: u16 = 1;
/// Within [`LINK_INFO`].
const LINK_DATA: u16 = 2;
/// The other end of a wire (`VETH_INFO_PEER`).
const WIRE_PEER: u16 = 1;

/// `struct ifinfomsg` with flags to set.
fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    for (place, value) in header.chunks_exact_mut(4).skip(1).zip([index, flags, flags]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// Flag of an interface that is up.
const UP: u32 = 0x1;
/// Flag of one on which nobody is asked for hardware addresses, by either version (`IFF_NOARP`).
const NO_QUESTIONS: u32 = 0x80;

fn up(batch: &mut Batch, index: u32) {
    batch.change(NEW_LINK, 0, &link(index, UP), &Attributes::new());
}

/// Gives an interface an address that stands for itself alone. It is used at once: nobody else could have it.
fn address(batch: &mut Batch, index: u32, address: IpAddr) {
    const LOCAL: u16 = 2;
    const ADDRESS: u16 = 1;
    const FLAGS: u16 = 8;
    const NO_DETECTION: u32 = 0x02;
    let (family, bits, bytes) = parts(address);
    let mut header = vec![family, bits, 0, 0];
    header.extend(index.to_ne_bytes());
    let mut attributes = Attributes::new().with(LOCAL, &bytes).with(ADDRESS, &bytes);
    if family == FAMILY_V6 {
        attributes = attributes.with(FLAGS, &NO_DETECTION.to_ne_bytes());
    }
    batch.change(NEW_ADDRESS, CREATE, &header, &attributes);
}

const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const SCOPE_EVERYWHERE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

/// Makes every address the router's own: for what comes in at once, for what it sends where there is no member.
fn own_all(batch: &mut Batch, family: u8) {
    const DELETE_RULE: u16 = 33;
    let rule = |priority: u32| Attributes::new().with(RULE_PRIORITY, &priority.to_ne_bytes());
    let header = |table: u8| [family, 0, 0, 0, table, 0, 0, RULE_BY_TABLE, 0, 0, 0, 0];
    // What is sent from here has the loopback as where it came in.
    let sent = rule(100).with_text(RULE_INTERFACE, "lo");
    batch.change(NEW_RULE, CREATE, &header(TABLE_MAIN), &sent);
    batch.change(NEW_RULE, CREATE, &header(TABLE_LOCAL), &rule(200));
    // The usual first one, of local addresses, would come before the members.
    batch.change(DELETE_RULE, 0, &header(TABLE_LOCAL), &rule(0));
    route(batch, &Route { table: TABLE_LOCAL, kind: LOCAL, scope: SCOPE_HOST, ..Route::to(None, family) });
}

const NEW_RULE: u16 = 32;
/// A rule that names the table to look in.
const RULE_BY_TABLE: u8 = 1;
const RULE_INTERFACE: u16 = 3;
const RULE_PRIORITY: u16 = 6;

const TABLE_MAIN: u8 = 254;
/// Addresses that are this network's own.
const TABLE_LOCAL: u8 = 255;

struct Route {
    table: u8,
    family: u8,
    /// To all addresses, if there is none.
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    interface: u32,
    kind: u8,
    scope: u8,
}

impl Route {
    fn to(destination: Option<IpAddr>, family: u8) -> Self {
        Self {
            table: TABLE_MAIN,
            family,
            destination,
            gateway: None,
            interface: LOOPBACK,
            kind: UNICAST,
            scope: SCOPE_EVERYWHERE,
        }
    }

    fn to_one(destination: IpAddr) -> Self {
        let (family, ..) = parts(destination);
        Self { scope: SCOPE_LINK, ..Self::to(Some(destination), family) }
    }
}

fn route(batch: &mut Batch, route: &Route) {
    const DESTINATION: u16 = 1;
    const INTERFACE: u16 = 4;
    const GATEWAY: u16 = 5;
    const STATIC: u8 = 4;
    let mut attributes = Attributes::new().with(INTERFACE, &route.interface.to_ne_bytes());
    let mut bits = 0;
    if let Some(destination) = route.destination {
        let (_, all, bytes) = parts(destination);
        bits = all;
        attributes = attributes.with(DESTINATION, &bytes);
    }
    if let Some(gateway) = route.gateway {
        attributes = attributes.with(GATEWAY, &parts(gateway).2);
    }
    let header = [route.family, bits, 0, 0, route.table, STATIC, route.scope, route.kind, 0, 0, 0, 0];
    batch.change(NEW_ROUTE, CREATE, &header, &attributes);
}

fn neighbour(batch: &mut Batch, index: u32, address: IpAddr, hardware: Hardware) {
    const DESTINATION: u16 = 1;
    const LINK_ADDRESS: u16 = 2;
    const PERMANENT: u16 = 0x80;
    let (family, _, bytes) = parts(address);
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(PERMANENT.to_ne_bytes());
    header.extend([0, 0]);
    let attributes = Attributes::new().with(DESTINATION, &bytes).with(LINK_ADDRESS, &hardware);
    batch.change(NEW_NEIGHBOUR, CREATE, &header, &attributes);
}

/// Family, length in bits, and bytes of an address.
fn parts(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (FAMILY_V4, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (FAMILY_V6, 128, address.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(attributes: &Attributes) -> Vec<u8> {
        [&[0; 12], attributes.bytes()].concat()
    }

    #[test]
    fn packets_both_ways_are_counted() {
        let counters = [7u64, 5, 99, 99].map(u64::to_ne_bytes).concat();
        let padded = Attributes::new().with(0, &[]).with(COUNTERS, &counters).with(2, &[0; 8]);
        assert_eq!(counted(&answer(&padded)), Some(12));
        for none in [Attributes::new(), Attributes::new().with(2, &counters)] {
            assert_eq!(counted(&answer(&none)), None);
        }
        assert_eq!(counted(&answer(&Attributes::new().with(COUNTERS, &counters[..15]))), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(counted(&bytes).is_none_or(|_| bytes.len() >= 12 + 4 + 16));
        }
    }

    #[test]
    fn every_number_has_addresses_of_ours_and_its_own() {
        assert_eq!(addresses(1), (GATEWAY, GATEWAY_V6));
        let mut seen = std::collections::BTreeSet::new();
        for number in [1, 2, 255, 256, MOST_MEMBERS, u16::MAX] {
            let (v4, v6) = addresses(number);
            assert!(is_ours(v4.into()) && is_ours(v6.into()), "{v4} {v6}");
            assert!(seen.insert(IpAddr::from(v4)) && seen.insert(v6.into()));
        }
        for other in ["198.17.255.255", "198.20.0.0", "127.0.0.1", "fd72:6201::1", "::1"] {
            assert!(!is_ours(other.parse().unwrap()), "{other}");
        }
    }
}

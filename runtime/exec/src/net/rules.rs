//! Rules of the router: whatever a member sends ends at our own sockets, or is refused.
//!
//! In: the port of those sockets. Out: one batch, which the kernel takes as a whole or not at all.
//! How: the first packet of a connection is *held*, that is dropped: the [`gate`](super::gate) has seen it, connects
//! outside, and sends it again with a [`Mark`] that says what came of it. Datagrams are led to our socket at once.
//! Nothing is forwarded from one interface to another: members that share a network reach each other by way of our sockets.
//! Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h; nft(8) for what the expressions mean.

use rb_sys::netlink::{Attributes, Batch};

use super::wires::{Hardware, LOOPBACK};

/// What became of the connection whose first packet this is: written where its sender's hardware address was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is one outside: it may open.
    Open,
    /// Somebody was there and refused.
    Refused,
    /// Nobody was there.
    Unreachable,
}

impl Mark {
    /// The hardware address that says so. A member may forge it and gains nothing: a connection nobody has made is closed.
    pub(super) const fn hardware(self) -> Hardware {
        let last = match self {
            Self::Open => 1,
            Self::Refused => 2,
            Self::Unreachable => 3,
        };
        [0x02, 0x72, 0x62, 0, 0, last]
    }
}

const TABLE: &str = "rb";
const BEFORE: &str = "before";
const TO_US: &str = "to_us";
const THROUGH: &str = "through";

const ANY_FAMILY: u8 = 0;
/// Both versions of the internet protocol (`NFPROTO_INET`).
const BOTH: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of the flags of TCP: SYN and ACK; the first packet of a connection has the one and not the other.
const SYN_AND_ACK: u8 = 0x12;
const SYN: u8 = 0x02;

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Returns the rules for sockets that listen on `port`.
pub(super) fn router(port: u16) -> Batch {
    let mut rules = Rules::begin();
    rules.table();
    rules.chain(BEFORE, PREROUTING, -150, ACCEPT);
    rules.chain(TO_US, INPUT, 0, ACCEPT);
    rules.chain(THROUGH, FORWARD, 0, DROP);

    let from_loopback = || Expressions::default().meta_is(IN_INTERFACE, &LOOPBACK.to_ne_bytes());
    let tcp = || Expressions::default().meta_is(PROTOCOL, &[TCP]);
    let udp = || Expressions::default().meta_is(PROTOCOL, &[UDP]);
    let marked = |mark: Mark, rule: Expressions| rule.payload_is(LINK, 6, &mark.hardware());

    rules.rule(BEFORE, &from_loopback().verdict(ACCEPT));
    rules.rule(BEFORE, &marked(Mark::Open, tcp()).lead_to(port).verdict(ACCEPT));
    rules.rule(BEFORE, &marked(Mark::Refused, tcp()).verdict(ACCEPT));
    rules.rule(BEFORE, &marked(Mark::Unreachable, tcp()).verdict(ACCEPT));
    rules.rule(BEFORE, &tcp().masked_is(TRANSPORT, 13, SYN_AND_ACK, SYN).verdict(DROP));
    rules.rule(BEFORE, &udp().lead_to(port).verdict(ACCEPT));

    rules.rule(TO_US, &from_loopback().verdict(ACCEPT));
    rules.rule(TO_US, &marked(Mark::Refused, tcp()).reset());
    rules.rule(TO_US, &marked(Mark::Unreachable, tcp()).unreachable(HOST_UNREACHABLE));
    rules.rule(TO_US, &tcp().verdict(ACCEPT));
    rules.rule(TO_US, &udp().verdict(ACCEPT));
    rules.rule(TO_US, &Expressions::default().unreachable(PROHIBITED));
    rules.end()
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

const IN_INTERFACE: u32 = 4;
const PROTOCOL: u32 = 16;

const LINK: u32 = 0;
const TRANSPORT: u32 = 2;

const HOST_UNREACHABLE: u8 = 2;
const PROHIBITED: u8 = 3;

/// The register that every expression here uses.
const REGISTER: u32 = 1;
/// The register whose content decides.
const VERDICT: u32 = 0;

struct Rules(Batch);

impl Rules {
    const SUBSYSTEM: u16 = 10;
    const NEW_TABLE: u16 = 0;
    const NEW_CHAIN: u16 = 3;
    const NEW_RULE: u16 = 6;

    fn begin() -> Self {
        const BATCH_BEGIN: u16 = 16;
        let mut batch = Batch::new();
        batch.push(BATCH_BEGIN, 0, &Self::header(ANY_FAMILY, Self::SUBSYSTEM), &Attributes::new());
        Self(batch)
    }

    fn end(mut self) -> Batch {
        const BATCH_END: u16 = 17;
        self.0.push(BATCH_END, 0, &Self::header(ANY_FAMILY, Self::SUBSYSTEM), &Attributes::new());
        self.0
    }

    /// `struct nfgenmsg`
    fn header(family: u8, resource: u16) -> [u8; 4] {
        let [high, low] = resource.to_be_bytes();
        [family, 0, high, low]
    }

    fn change(&mut self, kind: u16, flags: u16, attributes: &Attributes) {
        self.0.change(Self::SUBSYSTEM << 8 | kind, flags, &Self::header(BOTH, 0), attributes);
    }

    fn table(&mut self) {
        const NAME: u16 = 1;
        self.change(Self::NEW_TABLE, CREATE, &Attributes::new().with_text(NAME, TABLE));
    }

    fn chain(&mut self, name: &str, hook: u32, priority: i32, policy: u32) {
        let hook = Attributes::new().with(1, &hook.to_be_bytes()).with(2, &priority.to_be_bytes());
        let attributes = Attributes::new()
            .with_text(1, TABLE)
            .with_text(3, name)
            .with_nested(4, &hook)
            .with(5, &policy.to_be_bytes())
            .with_text(7, "filter");
        self.change(Self::NEW_CHAIN, CREATE, &attributes);
    }

    /// Adds a rule after those of its chain.
    fn rule(&mut self, chain: &str, expressions: &Expressions) {
        let attributes =
            Attributes::new().with_text(1, TABLE).with_text(2, chain).with_nested(4, &expressions.0);
        self.change(Self::NEW_RULE, CREATE | APPEND, &attributes);
    }
}

/// What a rule asks of a packet and does with it, in order.
#[derive(Default)]
struct Expressions(Attributes);

impl Expressions {
    fn add(self, name: &str, data: &Attributes) -> Self {
        const ELEMENT: u16 = 1;
        let expression = Attributes::new().with_text(1, name).with_nested(2, data);
        Self(self.0.with_nested(ELEMENT, &expression))
    }

    /// Goes on if the register holds `value`.
    fn is(self, value: &[u8]) -> Self {
        const EQUAL: u32 = 0;
        let data = Attributes::new()
            .with(1, &REGISTER.to_be_bytes())
            .with(2, &EQUAL.to_be_bytes())
            .with_nested(3, &Attributes::new().with(1, value));
        self.add("cmp", &data)
    }

    fn meta_is(self, key: u32, value: &[u8]) -> Self {
        let data = Attributes::new().with(1, &REGISTER.to_be_bytes()).with(2, &key.to_be_bytes());
        self.add("meta", &data).is(value)
    }

    fn payload(self, base: u32, offset: u32, length: usize) -> Self {
        let data = Attributes::new()
            .with(1, &REGISTER.to_be_bytes())
            .with(2, &base.to_be_bytes())
            .with(3, &offset.to_be_bytes())
            .with(4, &(length as u32).to_be_bytes());
        self.add("payload", &data)
    }

    fn payload_is(self, base: u32, offset: u32, value: &[u8]) -> Self {
        self.payload(base, offset, value.len()).is(value)
    }

    fn masked_is(self, base: u32, offset: u32, mask: u8, value: u8) -> Self {
        let data = Attributes::new()
            .with(1, &REGISTER.to_be_bytes())
            .with(2, &REGISTER.to_be_bytes())
            .with(3, &1u32.to_be_bytes())
            .with_nested(4, &Attributes::new().with(1, &[mask]))
            .with_nested(5, &Attributes::new().with(1, &[0]));
        self.payload(base, offset, 1).add("bitwise", &data).is(&[value])
    }

    /// Leads it to the socket on `port`, if there is one.
    fn lead_to(self, port: u16) -> Self {
        let value = Attributes::new().with(1, &port.to_be_bytes());
        let immediate = Attributes::new().with(1, &REGISTER.to_be_bytes()).with_nested(2, &value);
        let data =
            Attributes::new().with(1, &u32::from(ANY_FAMILY).to_be_bytes()).with(3, &REGISTER.to_be_bytes());
        self.add("immediate", &immediate).add("tproxy", &data)
    }

    fn verdict(self, verdict: u32) -> Self {
        let verdict = Attributes::new().with_nested(2, &Attributes::new().with(1, &verdict.to_be_bytes()));
        let data = Attributes::new().with(1, &VERDICT.to_be_bytes()).with_nested(2, &verdict);
        self.add("immediate", &data)
    }

    fn reset(self) -> Self {
        const RESET: u32 = 1;
        self.add("reject", &Attributes::new().with(1, &RESET.to_be_bytes()))
    }

    fn unreachable(self, code: u8) -> Self {
        const BY_EITHER_VERSION: u32 = 2;
        let data = Attributes::new().with(1, &BY_EITHER_VERSION.to_be_bytes()).with(2, &[code]);
        self.add("reject", &data)
    }
}

//! Networks by their prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Call, Function, MANY, function, not};
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    function("cidrhost", 2, 2, |call| {
        let network = network(call)?;
        let host = i128::from(call.whole(1)?);
        let room = network.width() - network.bits;
        let size = if room >= 127 { i128::MAX } else { 1 << room };
        if host >= size || -host > size {
            return Err(format!("a prefix of {} has no host {host}", network.bits));
        }
        let host = if host < 0 { host + size } else { host };
        Ok(Value::text(network.told(network.first | host.unsigned_abs())))
    }),
    function("cidrnetmask", 1, 1, |call| {
        let network = network(call)?;
        Ok(Value::text(network.told(network.mask())))
    }),
    function("cidrsubnet", 3, 3, |call| {
        let network = network(call)?;
        let longer = u32::try_from(call.whole(1)?).ok().filter(|longer| *longer <= 32);
        let longer = longer.ok_or_else(|| not(1, "between 0 and 32"))?;
        let number = u128::try_from(call.whole(2)?).map_err(|_| not(2, "zero or more"))?;
        let bits = network.bits + longer;
        if bits > network.width() {
            return Err(format!("a prefix of {bits} is too long"));
        }
        if number >> longer != 0 {
            return Err(format!("there is no subnet {number}: {longer} bits make {}", 1_u64 << longer));
        }
        let first = network.first | number.checked_shl(network.width() - bits).unwrap_or_default();
        Ok(Value::text(format!("{}/{bits}", network.told(first))))
    }),
    function("cidrsubnets", 1, MANY, subnets),
];

/// A network.
struct Network {
    six: bool,
    first: u128,
    bits: u32,
}

impl Network {
    fn width(&self) -> u32 {
        if self.six { 128 } else { 32 }
    }

    fn mask(&self) -> u128 {
        let all = if self.six { u128::MAX } else { u128::from(u32::MAX) };
        all & !all.checked_shr(self.bits).unwrap_or_default()
    }

    fn told(&self, address: u128) -> String {
        if self.six {
            Ipv6Addr::from(address).to_string()
        } else {
            Ipv4Addr::from(address as u32).to_string()
        }
    }
}

fn network(call: &Call<'_>) -> Result<Network, String> {
    let text = call.text(0)?;
    let wrong = || format!("`{text}` is no network: write 10.0.0.0/8");
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let bits: u32 = bits.parse().map_err(|_| wrong())?;
    let (six, address) = match address.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(address) => (false, u128::from(u32::from(address))),
        IpAddr::V6(address) => (true, u128::from(address)),
    };
    let network = Network { six, first: address, bits };
    if bits > network.width() {
        return Err(wrong());
    }
    let first = network.first & network.mask();
    Ok(Network { first, ..network })
}

fn subnets(call: &Call<'_>) -> Result<Value, String> {
    let network = network(call)?;
    let width = network.width();
    let mut next = Some(network.first);
    let mut made = Vec::new();
    for at in 1..call.values.len() {
        let longer = u32::try_from(call.whole(at)?).ok().filter(|longer| (1..=32).contains(longer));
        let bits = network.bits + longer.ok_or_else(|| not(at, "between 1 and 32"))?;
        if bits > width {
            return Err(format!("a prefix of {bits} is too long"));
        }
        // The next place that a network of this size may begin at.
        let size = 1_u128.checked_shl(width - bits).unwrap_or(0);
        let start = next.and_then(|next| next.checked_next_multiple_of(size));
        let inside = |start: &u128| {
            start & network.mask() == network.first && (network.six || *start <= u128::from(u32::MAX))
        };
        let start =
            start.filter(inside).ok_or_else(|| format!("there is no room left for a prefix of {bits}"))?;
        made.push(format!("{}/{bits}", network.told(start)));
        next = start.checked_add(size);
    }
    Ok(Value::texts(made))
}

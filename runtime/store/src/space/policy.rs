//! How much the state directory may hold, and of what.
//!
//! In: what the user says, and the disk. Out: the cap in bytes of the disk, for now. The three sizes are those of BuildKit
//! (`maxUsedSpace`, `reservedSpace`, `minFreeSpace`) and mean the same: never more than the first, less where that leaves
//! the disk less than the last, but the second in any case.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use super::items::Kind;

/// An amount of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// A part of the whole disk.
    Percent(u8),
}

impl Amount {
    /// Returns the bytes, on a disk of this size.
    pub fn of(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => disk_bytes / 100 * u64::from(percent.min(100)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(out),
            Self::Percent(percent) => write!(out, "{percent}%"),
        }
    }
}

impl Amount {
    /// Reads what is written ([`fmt::Display`]).
    fn read(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent),
            None => text.parse().ok().map(Self::Bytes),
        }
    }
}

/// Bounds of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// How much of it.
    pub max_size: Option<Amount>,
    /// How long what nobody uses is kept.
    pub max_age: Option<Duration>,
}

/// What the user wants kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Never more than this.
    pub max_size: Amount,
    /// This much may stay whatever else the disk holds.
    pub reserved: Amount,
    /// What should be left free on the disk.
    pub min_free: Amount,
    /// How long what nobody uses is kept.
    pub max_age: Option<Duration>,
    /// Narrower bounds.
    pub kinds: BTreeMap<Kind, Bounds>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_size: Amount::Percent(60),
            reserved: Amount::Percent(10),
            min_free: Amount::Percent(20),
            max_age: None,
            kinds: BTreeMap::new(),
        }
    }
}

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub size_bytes: u64,
    /// What is free for users.
    pub free_bytes: u64,
}

impl Policy {
    /// Returns how many bytes a state directory may have that has `used` of this disk.
    pub fn cap(&self, used_bytes: u64, disk: Disk) -> u64 {
        let most = self.max_size.of(disk.size_bytes);
        let reach = used_bytes.saturating_add(disk.free_bytes);
        let leaving = reach.saturating_sub(self.min_free.of(disk.size_bytes));
        // What is said to be the most is that, even if more is reserved; and what a disk needs so that it is written to at all
        // ([`Store::check_space`](crate::Store::check_space)) is nobody's.
        let writable = reach.saturating_sub(super::little(disk.size_bytes));
        most.min(leaving.max(self.reserved.of(disk.size_bytes))).min(writable)
    }

    /// Returns how long a piece of a kind is kept that nobody uses.
    pub fn max_age(&self, kind: Kind) -> Option<Duration> {
        let narrow = self.kinds.get(&kind).and_then(|bounds| bounds.max_age);
        narrow.into_iter().chain(self.max_age).min()
    }
}

impl fmt::Display for Policy {
    /// Writes what [`Policy::from_str`] reads: one word.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_size, reserved, min_free, max_age, kinds } = self;
        write!(out, "max={max_size},reserved={reserved},free={min_free}")?;
        let mut all = String::new();
        if let Some(age) = max_age {
            write!(all, ",age={}", age.as_secs())?;
        }
        for (kind, Bounds { max_size, max_age }) in kinds {
            if let Some(size) = max_size {
                write!(all, ",{}.max={size}", kind.name())?;
            }
            if let Some(age) = max_age {
                write!(all, ",{}.age={}", kind.name(), age.as_secs())?;
            }
        }
        out.write_str(&all)
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        for word in text.split(',') {
            let refused = || format!("`{word}` says nothing of what is kept");
            let (name, value) = word.split_once('=').ok_or_else(refused)?;
            let amount = || Amount::read(value).ok_or_else(refused);
            let age = || value.parse().map(Duration::from_secs).map_err(|_| refused());
            match name.split_once('.') {
                None => match name {
                    "max" => policy.max_size = amount()?,
                    "reserved" => policy.reserved = amount()?,
                    "free" => policy.min_free = amount()?,
                    "age" => policy.max_age = Some(age()?),
                    _ => return Err(refused()),
                },
                Some((kind, name)) => {
                    let bounds = policy.kinds.entry(kind.parse().map_err(|()| refused())?).or_default();
                    match name {
                        "max" => bounds.max_size = Some(amount()?),
                        "age" => bounds.max_age = Some(age()?),
                        _ => return Err(refused()),
                    }
                }
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_cap_is_the_least_of_its_bounds_but_not_below_what_is_reserved() {
        let policy = Policy::default();
        let disk = |free_bytes| Disk { size_bytes: 100 * GB, free_bytes };
        assert_eq!(policy.cap(0, disk(90 * GB)), 60 * GB);
        assert_eq!(policy.cap(10 * GB, disk(30 * GB)), 20 * GB, "others need the disk");
        assert_eq!(policy.cap(9 * GB, disk(2 * GB)), 10 * GB, "it is reserved");
        assert_eq!(policy.cap(10 * GB, disk(0)), 19 * GB / 2, "nothing would be written any more");
        let own = Policy { max_size: Amount::Bytes(GB), ..Policy::default() };
        assert_eq!(own.cap(0, disk(50 * GB)), GB);
        assert_eq!(own.cap(5 * GB, disk(0)), GB, "more is reserved than it may have");
    }

    #[test]
    fn what_is_wanted_is_one_word_and_read_back() {
        let mut policy = Policy { max_age: Some(Duration::from_secs(9)), ..Policy::default() };
        assert_eq!(policy.to_string().parse(), Ok(policy.clone()));
        let bounds = Bounds { max_size: Some(Amount::Bytes(5)), max_age: Some(Duration::from_secs(7)) };
        policy.kinds.insert(Kind::Mounts, bounds);
        policy.kinds.insert(Kind::Git, Bounds { max_age: None, ..bounds });
        let text = policy.to_string();
        assert_eq!(text, "max=60%,reserved=10%,free=20%,age=9,mounts.max=5,mounts.age=7,git.max=5");
        assert_eq!(text.parse(), Ok(policy.clone()));
        assert_eq!(policy.max_age(Kind::Mounts), Some(Duration::from_secs(7)));
        assert_eq!(policy.max_age(Kind::Layers), Some(Duration::from_secs(9)));
        for text in ["", "max", "max=x", "least=1", "trees.max=1", "git.size=1", "max=101%", "max=1k"] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }
}

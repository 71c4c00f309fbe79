//! Capabilities as sets of bits.
//!
//! Source: capabilities(7), linux/capability.h.

use std::io;

/// Bounds of the numbers in linux/capability.h: `CAP_CHECKPOINT_RESTORE` is the last.
pub const LAST: u32 = 40;

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// The set of all capabilities.
    pub const ALL: Self = Self((1 << (LAST + 1)) - 1);

    /// Returns the set of the given numbers.
    pub const fn of(numbers: &[u32]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < numbers.len() {
            bits |= 1 << numbers[at];
            at += 1;
        }
        Self(bits)
    }

    /// Returns what is in both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `number` is in the set.
    pub const fn has(self, number: u32) -> bool {
        self.0 & (1 << number) != 0
    }
}

/// Numbers of linux/capability.h.
pub mod number {
    #![allow(missing_docs)]
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_RAW: u32 = 13;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_ADMIN: u32 = 21;
    pub const MKNOD: u32 = 27;
    pub const AUDIT_WRITE: u32 = 29;
    pub const SETFCAP: u32 = 31;
}

/// The header of capget(2) and capset(2).
#[repr(C)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) pid: i32,
}

impl Header {
    /// Version 3: 64 bits in two halves; the calling thread.
    pub(crate) const fn own() -> Self {
        Self { version: 0x2008_0522, pid: 0 }
    }
}

/// One half (32 bits) of the sets.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Half {
    pub(crate) effective: u32,
    pub(crate) permitted: u32,
    pub(crate) inheritable: u32,
}

/// Returns the effective capabilities of the calling thread.
pub fn effective() -> io::Result<Capabilities> {
    let header = Header::own();
    let mut halves = [Half::default(); 2];
    // SAFETY: capget(2) with version 3 reads one header and writes two halves; both live on this stack.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    let [low, high] = halves;
    Ok(Capabilities(u64::from(low.effective) | (u64::from(high.effective) << 32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = Capabilities::of(&[number::CHOWN, number::SETFCAP]);
        assert_eq!(set.0, 0x8000_0001);
        assert!(set.has(number::SETFCAP) && !set.has(number::SYS_ADMIN));
        assert_eq!(Capabilities::ALL.0, 0x1ff_ffff_ffff);
    }

    #[test]
    fn own_capabilities_agree_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        assert_eq!(effective().unwrap().0, u64::from_str_radix(line.trim(), 16).unwrap());
    }
}

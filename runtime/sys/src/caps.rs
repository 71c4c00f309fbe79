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

    /// Returns what is in this set and not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
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
    pub const DAC_READ_SEARCH: u32 = 2;
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
    let [low, high] = get()?;
    Ok(Capabilities(u64::from(low.effective) | (u64::from(high.effective) << 32)))
}

/// Runs `body` on this thread without some of its effective capabilities, which it has again afterwards.
///
/// # Errors
/// Only if the kernel does not take a set away; then `body` has not run.
pub fn without<T>(dropped: Capabilities, body: impl FnOnce() -> T) -> io::Result<T> {
    /// Gives them back, also in a panic.
    struct Back([Half; 2]);
    impl Drop for Back {
        fn drop(&mut self) {
            // What is permitted can always be made effective.
            let given = set(&self.0);
            debug_assert!(given.is_ok());
        }
    }
    let before = get()?;
    let [mut low, mut high] = before;
    low.effective &= !(dropped.0 as u32);
    high.effective &= !((dropped.0 >> 32) as u32);
    set(&[low, high])?;
    let back = Back(before);
    let done = body();
    drop(back);
    Ok(done)
}

fn get() -> io::Result<[Half; 2]> {
    let header = Header::own();
    let mut halves = [Half::default(); 2];
    // SAFETY: capget(2) with version 3 reads one header and writes two halves; both live on this stack.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) };
    if answer == 0 { Ok(halves) } else { Err(io::Error::last_os_error()) }
}

fn set(halves: &[Half; 2]) -> io::Result<()> {
    let header = Header::own();
    // SAFETY: capset(2) with version 3 reads one header and two halves; both outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
    fn what_is_taken_away_comes_back() {
        let before = effective().unwrap();
        let dropped = Capabilities::of(&[number::DAC_OVERRIDE, number::SETFCAP]);
        let during = without(dropped, || effective().unwrap()).unwrap();
        assert_eq!(during.0, before.0 & !dropped.0);
        assert_eq!(effective().unwrap(), before);
        assert!(std::panic::catch_unwind(|| without(dropped, || panic!("on purpose"))).is_err());
        assert_eq!(effective().unwrap(), before);
    }

    #[test]
    fn own_capabilities_agree_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        assert_eq!(effective().unwrap().0, u64::from_str_radix(line.trim(), 16).unwrap());
    }
}

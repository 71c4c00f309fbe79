//! How far long work is: counted by those who do it, on however many threads, and looked at by who tells of it.
//!
//! In: files and bytes as they are done, and how many there will be once that is known. Out: a [`Count`], at any time.
//! **Invariant:** to count never waits. What is looked at meanwhile may be older by a piece or two, and is never more than the
//! whole.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts files and bytes.
#[derive(Debug, Default)]
pub struct Tally {
    files: Amount,
    bytes: Amount,
    part: Amount,
}

#[derive(Debug, Default)]
struct Amount {
    done: AtomicU64,
    all: AtomicU64,
}

/// What is done of how much; `all` is 0 where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Files, links and devices.
    pub files: u64,
    /// How many of them there are.
    pub all_files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// How many of them there are.
    pub all_bytes: u64,
    /// Which part of the work this is, from 1 on; 0 where it has no parts.
    pub part: u64,
    /// How many parts there are.
    pub all_parts: u64,
}

impl Tally {
    /// Says that there is this to do, beside what was said before.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files.all.fetch_add(files, Ordering::Relaxed);
        self.bytes.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what is done.
    pub fn add(&self, files: u64, bytes: u64) {
        self.files.done.fetch_add(files, Ordering::Relaxed);
        self.bytes.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes bytes back that prove to be not done.
    pub fn take_back(&self, bytes: u64) {
        self.bytes.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Begins a part of the work, counted from 0 again.
    pub fn begin_part(&self, part: u64, all_parts: u64) {
        // The counts first: what was done of the part before is not to be seen of this one.
        for amount in [&self.files, &self.bytes] {
            amount.done.store(0, Ordering::Relaxed);
            amount.all.store(0, Ordering::Relaxed);
        }
        self.part.done.store(part, Ordering::Relaxed);
        self.part.all.store(all_parts, Ordering::Relaxed);
    }

    /// Returns how far it is.
    pub fn look(&self) -> Count {
        let (files, all_files) = self.files.look();
        let (bytes, all_bytes) = self.bytes.look();
        let (part, all_parts) = self.part.look();
        Count { files, all_files, bytes, all_bytes, part, all_parts }
    }
}

impl Amount {
    fn look(&self) -> (u64, u64) {
        let (done, all) = (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        (if all == 0 { done } else { done.min(all) }, all)
    }
}

/// Counts the bytes that are read of something.
#[derive(Debug)]
pub struct Counted<R, T> {
    inner: R,
    tally: T,
}

impl<R, T: Deref<Target = Tally>> Counted<R, T> {
    /// Reads `inner`.
    pub fn new(inner: R, tally: T) -> Self {
        Self { inner, tally }
    }
}

impl<R: Read, T: Deref<Target = Tally>> Read for Counted<R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.tally.add(0, count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_count_together() {
        let tally = Tally::default();
        tally.expect(8, 8000);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| (0..1000).for_each(|_| tally.add(0, 1)));
            }
        });
        tally.add(8, 0);
        let expected = Count { files: 8, all_files: 8, bytes: 8000, all_bytes: 8000, ..Count::default() };
        assert_eq!(tally.look(), expected);
        // More than was expected is not told of; a part begins anew.
        tally.add(1, 1);
        assert_eq!(tally.look(), expected);
        tally.begin_part(2, 3);
        tally.add(1, 5);
        assert_eq!(tally.look(), Count { files: 1, bytes: 5, part: 2, all_parts: 3, ..Count::default() });
    }

    #[test]
    fn what_is_read_is_counted() {
        let tally = Tally::default();
        let mut counted = Counted::new(&b"12345"[..], &tally);
        io::copy(&mut counted, &mut io::sink()).expect("reads");
        assert_eq!(tally.look().bytes, 5);
    }
}

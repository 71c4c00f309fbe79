//! How many sandboxes are prepared at once.
//!
//! For what: one in preparation holds some fifty descriptors and one that runs some ten, so that hundreds run within the
//! limit of a process that could not be prepared at once. Many more than there are processors would only wait in turns.
//! In: nothing. Out: a place, given back when it is dropped.
//! **Invariant:** who has a place waits for no other sandbox.

use std::num::NonZeroUsize;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

/// Places where there are fewer processors: preparing waits for disks, too.
const FEWEST: usize = 16;

static ROOM: LazyLock<Room> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    Room::of(processors.max(FEWEST))
});

/// Waits for a place.
pub(crate) fn enter() -> Place<'static> {
    ROOM.enter()
}

#[derive(Debug)]
struct Room {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// Room for one.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Room);

impl Room {
    fn of(places: usize) -> Self {
        Self { free: Mutex::new(places), given_back: Condvar::new() }
    }

    fn enter(&self) -> Place<'_> {
        let free = self.given_back.wait_while(self.lock(), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place(self)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // Every change is a single step, so a panicked holder leaves it whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn there_are_never_more_than_places_and_everybody_gets_one() {
        let room = Room::of(3);
        let (now, most, all) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let place = room.enter();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!((all.into_inner(), *room.lock()), (1000, 3));
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _place = room.enter();
                    panic!("on purpose");
                })
                .join()
        });
        assert!(panicked.is_err());
        assert_eq!(*room.lock(), 3);
    }
}

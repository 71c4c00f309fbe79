//! Who used what when, and what it took to make it; and what people pinned.
//!
//! In: word of each thing that this process makes or is told of. Out: rows, written together at the end, or before somebody
//! reads them. What it takes to make a snapshot is the time from its beginning to its commit: the step, the unpacking. They
//! decide what goes first, and nothing else, so a killed process takes its own along.
//! Beside them stands how much the state directory occupies, as far as that is known without looking at all of it: what the last
//! look found, what was committed since, what was removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::items::Item;
use crate::database::{from_sql, to_sql};
use crate::open::Inner;
use crate::{Result, SnapshotId, Store};

/// Where the occupied bytes stand.
const SPACE: &str = "space";
/// Where the time of the last look at all stands.
const LOOKED: &str = "space_looked_unix";
/// Where it stands what the last removed piece was worth.
const FLOOR: &str = "space_floor";
/// Where it stands that people were told of the first removal.
const TOLD: &str = "space_told";

/// What this process has used and not yet written down.
#[derive(Default)]
pub(crate) struct Touched {
    waiting: Mutex<BTreeMap<Item, Touch>>,
    begun: Mutex<BTreeMap<SnapshotId, Instant>>,
}

#[derive(Clone, Copy, Debug)]
struct Touch {
    at_unix: i64,
    cost_ms: u64,
}

/// What is known of the use of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Use {
    pub(crate) base: f64,
    pub(crate) uses: u64,
    pub(crate) used_unix: i64,
    /// Zero where it was not measured.
    pub(crate) cost_ms: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single step, so a panicked holder leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Touched {
    pub(crate) fn begin(&self, id: SnapshotId) {
        lock(&self.begun).insert(id, Instant::now());
    }

    /// Returns how long a snapshot was written.
    pub(crate) fn end(&self, id: SnapshotId) -> u64 {
        let begun = lock(&self.begun).remove(&id);
        begun.map_or(0, |begun| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Inner {
    /// Writes down what was used.
    pub(crate) fn note_uses(&self) -> Result<()> {
        let waiting = std::mem::take(&mut *lock(&self.touched.waiting));
        if waiting.is_empty() {
            return Ok(());
        }
        self.database.write(|transaction| {
            let floor = floor(transaction)?;
            let mut put = transaction.prepare_cached(
                "INSERT INTO uses (item, base, uses, used_unix, cost_ms) VALUES (?1, ?2, 1, ?3, ?4)
                 ON CONFLICT (item) DO UPDATE SET base = ?2, uses = uses + 1, used_unix = ?3,
                 cost_ms = CASE WHEN ?4 > 0 THEN ?4 ELSE cost_ms END",
            )?;
            for (item, Touch { at_unix, cost_ms }) in &waiting {
                put.execute((item.to_string(), floor, at_unix, to_sql(*cost_ms)))?;
            }
            Ok(())
        })
    }
}

impl Store {
    /// Notes that something is used by this process.
    pub(crate) fn touch(&self, item: Item) {
        self.touch_made(item, 0);
    }

    /// Notes that something was made, in so long; zero where nobody knows.
    pub(crate) fn touch_made(&self, item: Item, cost_ms: u64) {
        let touch = Touch { at_unix: self.now_unix(), cost_ms };
        let mut waiting = lock(&self.inner.touched.waiting);
        let known = waiting.entry(item).or_insert(touch);
        *known = Touch { cost_ms: known.cost_ms.max(cost_ms), ..touch };
    }

    /// Notes that a directory of `caches/` is used, so that others go before it.
    pub fn touch_cache(&self, directory: &Path) {
        if let Ok(path) = directory.strip_prefix(self.caches_dir()) {
            self.touch(Item::Mount(path.to_string_lossy().into_owned()));
        }
    }

    /// Writes down what was used.
    pub(crate) fn note_uses(&self) -> Result<()> {
        self.inner.note_uses()
    }

    /// Returns what is known of the use of everything.
    pub(crate) fn uses(&self) -> Result<BTreeMap<Item, Use>> {
        self.inner.database.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT item, base, uses, used_unix, cost_ms FROM uses")?;
            let rows = query.query_map([], |row| {
                let name: String = row.get(0)?;
                let found = Use {
                    base: row.get(1)?,
                    uses: from_sql(row.get(2)?),
                    used_unix: row.get(3)?,
                    cost_ms: from_sql(row.get(4)?),
                };
                Ok((name, found))
            })?;
            let mut uses = BTreeMap::new();
            for row in rows {
                let (name, found) = row?;
                uses.extend(name.parse::<Item>().ok().map(|item| (item, found)));
            }
            Ok(uses)
        })
    }

    /// Forgets the use of what is no more, and what the last removal was worth is noted.
    pub(crate) fn forget_uses(&self, gone: &[Item], floor: f64) -> Result<()> {
        self.inner.database.write(|transaction| {
            let mut forget = transaction.prepare_cached("DELETE FROM uses WHERE item = ?")?;
            gone.iter().try_for_each(|item| forget.execute([item.to_string()]).map(drop))?;
            put_meta(transaction, FLOOR, &floor.to_string())
        })
    }

    /// Pins a piece: it is not removed until it is unpinned. `false` where it was pinned before.
    pub fn pin(&self, item: &Item) -> Result<bool> {
        self.inner.database.write(|transaction| {
            let mut put =
                transaction.prepare_cached("INSERT OR IGNORE INTO pins (item, pinned_unix) VALUES (?, ?)")?;
            Ok(put.execute((item.to_string(), self.now_unix()))? > 0)
        })
    }

    /// Takes a pin away; `false` where there was none.
    pub fn unpin(&self, item: &Item) -> Result<bool> {
        self.inner.database.write(|transaction| {
            let mut remove = transaction.prepare_cached("DELETE FROM pins WHERE item = ?")?;
            Ok(remove.execute([item.to_string()])? > 0)
        })
    }

    /// Returns all that is pinned, sorted.
    pub fn pins(&self) -> Result<Vec<Item>> {
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached("SELECT item FROM pins")?;
            let names: Vec<String> =
                query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let mut pins: Vec<Item> = names.iter().filter_map(|name| name.parse().ok()).collect();
            pins.sort();
            Ok(pins)
        })
    }

    /// Returns how much is occupied, as far as that is known; `None` where nobody has looked yet.
    pub(crate) fn occupied(&self) -> Result<Option<u64>> {
        let text = self.inner.database.read(|connection| meta(connection, SPACE))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Notes what a look at everything has found.
    pub(crate) fn set_occupied(&self, bytes: u64) -> Result<()> {
        let now = self.now_unix();
        self.inner.database.write(|transaction| {
            put_meta(transaction, SPACE, &bytes.to_string())?;
            put_meta(transaction, LOOKED, &now.to_string())
        })
    }

    /// Notes that more is occupied.
    pub(crate) fn add_occupied(&self, bytes: u64) -> Result<()> {
        self.inner.database.write(|transaction| add_occupied(transaction, bytes))
    }

    /// Returns when everything was looked at last.
    pub(crate) fn looked_unix(&self) -> Result<Option<i64>> {
        let text = self.inner.database.read(|connection| meta(connection, LOOKED))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    pub(crate) fn floor(&self) -> Result<f64> {
        self.inner.database.read(floor)
    }

    /// Says, once in the life of a state directory, that people are to be told of the first removal.
    pub(crate) fn is_first_telling(&self) -> Result<bool> {
        self.inner.database.write(|transaction| {
            let is_first = meta(transaction, TOLD)?.is_none();
            if is_first {
                put_meta(transaction, TOLD, "1")?;
            }
            Ok(is_first)
        })
    }
}

/// Notes that more is occupied, where it is known how much there was.
pub(crate) fn add_occupied(transaction: &Transaction<'_>, bytes: u64) -> Result<()> {
    transaction
        .prepare_cached("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + ? AS TEXT) WHERE name = ?")?
        .execute((to_sql(bytes), SPACE))?;
    Ok(())
}

fn floor(connection: &Connection) -> Result<f64> {
    let text = meta(connection, FLOOR)?;
    Ok(text.and_then(|text| text.parse().ok()).filter(|floor: &f64| floor.is_finite()).unwrap_or(0.0))
}

fn meta(connection: &Connection, name: &str) -> Result<Option<String>> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

fn put_meta(transaction: &Transaction<'_>, name: &str, value: &str) -> Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)")?
        .execute((name, value))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::FixedClock;

    #[test]
    fn uses_are_counted_once_a_process_and_keep_what_making_took() {
        let root = tempfile::tempdir().expect("temp dir");
        let item = Item::Layer(SnapshotId(3));
        for (second, cost_ms) in [(10, 700), (20, 0)] {
            let clock = Arc::new(FixedClock(Duration::from_secs(second)));
            let store = Store::open_with(root.path(), clock).expect("opens");
            store.touch_made(item.clone(), cost_ms);
            store.touch(item.clone());
            store.note_uses().expect("writes");
            store.note_uses().expect("has nothing to write");
        }
        let store = Store::open(root.path()).expect("opens");
        let used = Use { base: 0.0, uses: 2, used_unix: 20, cost_ms: 700 };
        assert_eq!(store.uses().expect("reads"), BTreeMap::from([(item.clone(), used)]));
        store.forget_uses(std::slice::from_ref(&item), 2.5).expect("forgets");
        assert_eq!(store.uses().expect("reads"), BTreeMap::new());
        store.touch_cache(&store.caches_dir().join("a/b/common"));
        store.touch_cache(Path::new("/elsewhere"));
        store.note_uses().expect("writes");
        let uses = store.uses().expect("reads");
        let (found, used) = uses.first_key_value().expect("there is one");
        assert_eq!((found, used.base), (&Item::Mount("a/b/common".to_owned()), 2.5));
    }

    #[test]
    fn what_is_used_is_written_down_when_the_handle_goes() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        store.touch(Item::Git("a".to_owned()));
        drop(store);
        let store = Store::open(root.path()).expect("opens");
        assert_eq!(store.uses().expect("reads").len(), 1);
    }

    #[test]
    fn pins_stay_until_they_are_taken_away() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let item = Item::Layer(SnapshotId(3));
        assert!(store.pin(&item).expect("pins") && !store.pin(&item).expect("is pinned"));
        assert_eq!(store.pins().expect("reads"), std::slice::from_ref(&item));
        assert!(store.unpin(&item).expect("takes") && !store.unpin(&item).expect("is gone"));
    }

    #[test]
    fn what_is_occupied_is_counted_from_the_first_look_on() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        store.set_occupied(100).expect("notes");
        store.add_occupied(11).expect("adds");
        assert_eq!(store.occupied().expect("reads"), Some(111));
        assert!(store.looked_unix().expect("reads").is_some());
        assert!(store.is_first_telling().expect("asks") && !store.is_first_telling().expect("asks"));
    }
}

//! `rb cache du`, `prune`, `pin`, `unpin`: what is kept, why, and what goes.
//!
//! In: filters. Out: lists on stdout. What the store removes by itself to keep within its cap is told here, too
//! ([`note_in_words`]).

use std::time::Duration;

use rb_store::{Entry, Holder, Inventory, Item, Kind, Policy, Prune, Removed, SpaceNote, Store, StoreError};
use serde_json::{Value, json};

use crate::args::{CacheFilter, DuArgs, PinArgs, PruneArgs};
use crate::commands::table::{table, utc};
use crate::progress::{clean, human_bytes};
use crate::report::{self, Failure};

/// So many pieces are listed where nobody asks for all.
const LARGEST: usize = 20;

/// Shows what is kept.
pub(super) fn du(store: &Store, policy: &Policy, args: &DuArgs) -> Result<(), Failure> {
    let seen = looked(store)?;
    let cap_bytes = store.cap(policy, seen.all_bytes).map_err(failure)?;
    let wanted = Wanted::of(&args.filter, &Kind::ALL);
    let items = wanted.items(&seen)?;
    let now = i64::try_from(store.clock().now().as_secs()).unwrap_or(i64::MAX);
    let mut shown: Vec<(&Item, &Entry)> =
        seen.entries.iter().filter(|(item, entry)| wanted.names(item, entry, &items, now)).collect();
    shown.sort_by(|one, other| other.1.own_bytes.cmp(&one.1.own_bytes).then_with(|| one.0.cmp(other.0)));
    let text = if args.json {
        format!("{:#}\n", as_json(&shown, &seen, cap_bytes))
    } else {
        lines(&shown, &seen, cap_bytes, args.all)
    };
    report::print(text.as_bytes())
}

/// Removes what is asked for.
pub(super) fn prune(store: &Store, args: &PruneArgs) -> Result<(), Failure> {
    let usual: &[Kind] = if args.all { &Kind::ALL } else { &[Kind::Layers, Kind::Blobs, Kind::Downloads] };
    let wanted = Wanted::of(&args.filter, usual);
    // Names are short, and stand for what is there.
    let seen = if wanted.ids.is_empty() && !args.verbose { None } else { Some(looked(store)?) };
    let items = match &seen {
        Some(seen) => wanted.items(seen)?,
        None => Vec::new(),
    };
    let removed = store.prune(Prune {
        kinds: wanted.kinds,
        items,
        unused_for: wanted.unused_for,
        keep_bytes: args.max_used_space,
        dry_run: args.dry_run,
    });
    let removed = removed.map_err(failure)?;
    let text = if args.json {
        let gone: Vec<Value> = removed
            .items
            .iter()
            .map(|(item, bytes)| json!({ "id": item.to_string(), "size_bytes": bytes }))
            .collect();
        let told = json!({
            "removed": gone, "freed_bytes": removed.freed_bytes(), "left_bytes": removed.left_bytes,
            "dry_run": args.dry_run,
        });
        format!("{told:#}\n")
    } else {
        let about = if args.verbose { seen.as_ref() } else { None };
        removed_lines(&removed, about, args.dry_run)
    };
    report::print(text.as_bytes())
}

/// Pins pieces, or lets them go.
pub(super) fn pin(store: &Store, args: &PinArgs, is_pinned: bool) -> Result<(), Failure> {
    let seen = looked(store)?;
    let mut out = String::new();
    for id in &args.ids {
        // What is gone by now can be let go of all the same.
        let pinned = if is_pinned { Vec::new() } else { store.pins().map_err(failure)? };
        let item = match pinned.into_iter().find(|item| item.is_meant_by(id)) {
            Some(item) => item,
            None => meant(&seen, id)?,
        };
        let done = if is_pinned { store.pin(&item) } else { store.unpin(&item) };
        let word = match (is_pinned, done.map_err(failure)?) {
            (true, true) => "pinned",
            (true, false) => "was pinned before",
            (false, true) => "no longer pinned",
            (false, false) => "was not pinned",
        };
        out += &format!("{} {word}\n", item.short());
    }
    report::print(out.as_bytes())
}

/// Says what people should know of the cap.
pub(in crate::commands) fn note_in_words(note: SpaceNote) -> String {
    match note {
        SpaceNote::FirstRemoval { freed_bytes, cap_bytes } => format!(
            "note: {} of old results were removed to keep the cache within {}; this is told once. \
             `rb cache du` shows what is kept, cache.max_size in config.toml how much may be",
            human_bytes(freed_bytes),
            human_bytes(cap_bytes)
        ),
        SpaceNote::Beyond { used_bytes, cap_bytes } => format!(
            "note: this build needs more than the cache may hold: {} of {}; what is too much goes when it has ended",
            human_bytes(used_bytes),
            human_bytes(cap_bytes)
        ),
    }
}

/// Filters, read.
struct Wanted {
    kinds: Vec<Kind>,
    ids: Vec<String>,
    unused_for: Option<Duration>,
}

impl Wanted {
    fn of(filters: &[CacheFilter], usual: &[Kind]) -> Self {
        let mut wanted = Self { kinds: Vec::new(), ids: Vec::new(), unused_for: None };
        for filter in filters {
            match filter {
                CacheFilter::Type(kind) => wanted.kinds.push(*kind),
                CacheFilter::Id(id) => wanted.ids.push(id.clone()),
                CacheFilter::Until(age) => wanted.unused_for = wanted.unused_for.max(Some(*age)),
            }
        }
        if wanted.kinds.is_empty() {
            wanted.kinds = usual.to_vec();
        }
        wanted
    }

    /// Returns the pieces that are named.
    fn items(&self, seen: &Inventory) -> Result<Vec<Item>, Failure> {
        self.ids.iter().map(|id| meant(seen, id)).collect()
    }

    fn names(&self, item: &Item, entry: &Entry, items: &[Item], now_unix: i64) -> bool {
        let unused = u64::try_from(now_unix.saturating_sub(entry.used_unix)).unwrap_or(0);
        let is_old = self.unused_for.is_none_or(|age| unused >= age.as_secs());
        let is_named =
            if items.is_empty() { self.kinds.contains(&item.kind()) } else { items.contains(item) };
        is_old && is_named
    }
}

fn looked(store: &Store) -> Result<Inventory, Failure> {
    store.inventory().map_err(failure)
}

/// Finds the one piece that is meant.
fn meant(seen: &Inventory, id: &str) -> Result<Item, Failure> {
    let found: Vec<&Item> = seen.entries.keys().filter(|item| item.is_meant_by(id)).collect();
    match found.as_slice() {
        [one] => Ok(Item::clone(one)),
        [] => Err(Failure::input(
            format!("nothing that is kept is called `{id}`"),
            Some("`rb cache du -v` lists what there is, such as `layer/12`".to_owned()),
        )),
        several => {
            let names: Vec<String> = several.iter().take(5).map(|item| item.short()).collect();
            Err(Failure::input(
                format!("`{id}` means several: {}", names.join(", ")),
                Some("write more of the one you mean".to_owned()),
            ))
        }
    }
}

fn failure(error: StoreError) -> Failure {
    Failure::Said { kind: error.kind(), message: rb_diag::chain(&error), help: error.help() }
}

fn lines(shown: &[(&Item, &Entry)], seen: &Inventory, cap_bytes: u64, all: bool) -> String {
    let head = ["ID", "SIZE", "LAST USED", "USES", "COST", "WHY IT IS HERE", "WHAT"].map(str::to_owned);
    let most = if all { shown.len() } else { LARGEST };
    let row = |(item, entry): &(&Item, &Entry)| {
        vec![
            item.short(),
            human_bytes(entry.own_bytes),
            utc(entry.used_unix),
            entry.uses.to_string(),
            format!("{}{}", if entry.is_measured { "" } else { "~" }, seconds(entry.cost_ms)),
            why(item, entry),
            what(item, entry),
        ]
    };
    let mut out = String::new();
    if !shown.is_empty() {
        let rows: Vec<Vec<String>> =
            std::iter::once(head.to_vec()).chain(shown.iter().take(most).map(row)).collect();
        out += &table(&rows, &[1, 3, 4]);
    }
    if shown.len() > most {
        let rest: u64 = shown.iter().skip(most).map(|(_, entry)| entry.own_bytes).sum();
        out += &format!("and {} more ({}): -v lists them\n", shown.len() - most, human_bytes(rest));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let mut others = seen.all_bytes;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let bytes = seen.bytes_of(kind);
        others = others.saturating_sub(bytes);
        let count = seen.entries.keys().filter(|item| item.kind() == kind).count();
        if count > 0 {
            rows.push(vec![kind.name().to_owned(), count.to_string(), human_bytes(bytes)]);
        }
    }
    rows.push(vec!["database and others".to_owned(), String::new(), human_bytes(others)]);
    rows.push(vec!["all".to_owned(), String::new(), human_bytes(seen.all_bytes)]);
    rows.push(vec!["may be".to_owned(), String::new(), human_bytes(cap_bytes)]);
    out += &table(&rows, &[1, 2]);
    out
}

fn seconds(milliseconds: u64) -> String {
    let tenths = milliseconds / 100;
    match tenths {
        0..600 => format!("{}.{} s", tenths / 10, tenths % 10),
        600..36_000 => format!("{} min", tenths / 600),
        _ => format!("{} h", tenths / 36_000),
    }
}

fn why(item: &Item, entry: &Entry) -> String {
    let images = match entry.images.as_slice() {
        [] => None,
        [one] => Some(format!("image {one}")),
        [one, rest @ ..] => Some(format!("image {one} and {} more", rest.len())),
    };
    let under = (entry.children > 0)
        .then(|| format!("under {} layer{}", entry.children, if entry.children == 1 { "" } else { "s" }));
    let all = [
        entry.in_use.then(|| used_by(item, entry)),
        entry.is_pinned.then(|| "pinned".to_owned()),
        images,
        under,
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    if all.is_empty() { "until room is needed".to_owned() } else { all.join(", ") }
}

/// Says who needs a piece just now.
fn used_by(item: &Item, entry: &Entry) -> String {
    let holder = |Holder { process, command, since_unix }: &Holder| {
        format!("{} (process {process}, since {})", clean(command, false), utc(*since_unix))
    };
    match (entry.holders.as_slice(), item) {
        ([first], _) => format!("in use by {}", holder(first)),
        ([first, rest @ ..], _) => format!("in use by {} and {} more", holder(first), rest.len()),
        ([], _) if entry.is_of_failure => "for `rb shell`, as a step failed".to_owned(),
        ([], Item::Log(_)) => "of the last build".to_owned(),
        ([], _) => "in use".to_owned(),
    }
}

fn what(item: &Item, entry: &Entry) -> String {
    match (item, &entry.about, entry.parent) {
        (_, Some(about), _) => about.clone(),
        (Item::Layer(_), None, Some(parent)) => format!("on layer/{parent}"),
        _ => String::new(),
    }
}

fn as_json(shown: &[(&Item, &Entry)], seen: &Inventory, cap_bytes: u64) -> Value {
    let pieces: Vec<Value> = shown
        .iter()
        .map(|(item, entry)| {
            json!({
                "id": item.to_string(), "type": item.kind().name(), "about": entry.about,
                "size_bytes": entry.own_bytes, "shared_bytes": entry.shared_bytes,
                "last_used_unix": entry.used_unix, "uses": entry.uses,
                "cost_ms": entry.cost_ms, "cost_is_measured": entry.is_measured,
                "in_use": entry.in_use, "of_failure": entry.is_of_failure,
                "holders": entry.holders.iter().map(|holder| json!({
                    "process": holder.process, "command": holder.command, "since_unix": holder.since_unix,
                })).collect::<Vec<_>>(),
                "pinned": entry.is_pinned, "images": entry.images,
                "parent": entry.parent.map(|id| Item::Layer(id).to_string()), "children": entry.children,
            })
        })
        .collect();
    let kinds: serde_json::Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.name().to_owned(), json!(seen.bytes_of(*kind)))).collect();
    json!({ "pieces": pieces, "types": kinds, "all_bytes": seen.all_bytes, "cap_bytes": cap_bytes })
}

/// Says what went; of what was looked at before, what it was, too.
fn removed_lines(removed: &Removed, seen: Option<&Inventory>, is_dry: bool) -> String {
    let mut out = String::new();
    let word = if is_dry { "would remove" } else { "removed" };
    for (item, bytes) in &removed.items {
        out += &format!("{word} {} ({})", item.short(), human_bytes(*bytes));
        if let Some(entry) = seen.and_then(|seen| seen.entries.get(item)) {
            let Entry { used_unix, uses, cost_ms, is_measured, .. } = entry;
            let (last, cost) = (utc(*used_unix), seconds(*cost_ms));
            let guessed = if *is_measured { "" } else { "~" };
            out += &format!(", last used {last}, uses {uses}, cost {guessed}{cost}");
            let what = what(item, entry);
            if !what.is_empty() {
                out += &format!(": {}", clean(&what, false));
            }
        }
        out.push('\n');
    }
    let (freed, left) = (human_bytes(removed.freed_bytes()), human_bytes(removed.left_bytes));
    out + &if is_dry {
        format!("would free {freed}; {left} left\n")
    } else {
        format!("freed {freed}; {left} left\n")
    }
}

#[cfg(test)]
mod tests {
    use rb_store::SnapshotId;

    use super::*;

    fn seen() -> Inventory {
        let entry = |own_bytes, cost_ms| Entry {
            own_bytes,
            cost_ms,
            used_unix: 1_587_038_400,
            uses: 3,
            is_measured: cost_ms > 0,
            ..Entry::default()
        };
        let holder = Holder { process: 7, command: "rb +app".to_owned(), since_unix: 1_587_038_400 };
        let top = Entry {
            parent: Some(SnapshotId(1)),
            in_use: true,
            holders: vec![holder],
            ..entry(2_000_000, 61_000)
        };
        let blob = Entry { images: vec!["a:1".to_owned(), "b:1".to_owned()], ..entry(500, 0) };
        let mount = Entry { about: Some("cargo".to_owned()), is_pinned: true, ..entry(9_000_000, 0) };
        Inventory {
            entries: [
                (Item::Layer(SnapshotId(1)), Entry { children: 1, ..entry(4_000_000, 2_500) }),
                (Item::Layer(SnapshotId(2)), top),
                (Item::Blob(rb_oci::Digest::of("blob")), blob),
                (Item::Mount("ab/empty/common".to_owned()), mount),
                (Item::Git("0123456789abcdef".to_owned()), entry(70_000, 0)),
            ]
            .into(),
            all_bytes: 15_200_000,
        }
    }

    #[test]
    fn pieces_are_listed_the_largest_first_with_why_they_are_here() {
        let seen = seen();
        let mut shown: Vec<(&Item, &Entry)> = seen.entries.iter().collect();
        shown.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.own_bytes));
        insta::assert_snapshot!(lines(&shown, &seen, 20_000_000, false), @r"
        ID                     SIZE  LAST USED            USES    COST  WHY IT IS HERE                                            WHAT
        mount/999411814926   9.0 MB  2020-04-16 12:00:00     3  ~0.0 s  pinned                                                    cargo
        layer/1              4.0 MB  2020-04-16 12:00:00     3   2.5 s  under 1 layer
        layer/2              2.0 MB  2020-04-16 12:00:00     3   1 min  in use by rb +app (process 7, since 2020-04-16 12:00:00)  on layer/1
        git/0123456789ab    70.0 kB  2020-04-16 12:00:00     3  ~0.0 s  until room is needed
        blob/fa2c8cc4f281     500 B  2020-04-16 12:00:00     3  ~0.0 s  image a:1 and 1 more

        layers               2    6.0 MB
        blobs                1     500 B
        mounts               1    9.0 MB
        git                  1   70.0 kB
        database and others     129.5 kB
        all                      15.2 MB
        may be                   20.0 MB
        ");
        let many: Vec<(&Item, &Entry)> = shown.iter().copied().cycle().take(LARGEST + 1).collect();
        assert!(lines(&many, &seen, 0, false).contains("and 1 more"));
        assert!(!lines(&many, &seen, 0, true).contains("more ("));
        assert_eq!(as_json(&shown, &seen, 7)["pieces"][0]["id"], "mount/ab/empty/common");
    }

    #[test]
    fn what_is_meant_is_one_or_told() {
        let seen = seen();
        assert_eq!(meant(&seen, "layer/2").ok(), Some(Item::Layer(SnapshotId(2))));
        assert!(meant(&seen, "git/0123").is_ok());
        assert!(meant(&seen, "layer/9").is_err());
        let wanted = Wanted::of(&["id=layer/1".parse().expect("is a filter")], &Kind::ALL);
        let items = wanted.items(&seen).expect("is there");
        let named = |item: &Item| wanted.names(item, &Entry::default(), &items, 0);
        assert!(named(&Item::Layer(SnapshotId(1))) && !named(&Item::Layer(SnapshotId(2))));
    }

    #[test]
    fn what_went_is_told_with_what_is_left() {
        let removed = Removed { items: vec![(Item::Layer(SnapshotId(2)), 2_000_000)], left_bytes: 1000 };
        insta::assert_snapshot!(removed_lines(&removed, None, false), @r"
        removed layer/2 (2.0 MB)
        freed 2.0 MB; 1.0 kB left
        ");
        insta::assert_snapshot!(removed_lines(&removed, Some(&seen()), true), @r"
        would remove layer/2 (2.0 MB), last used 2020-04-16 12:00:00, uses 3, cost 1 min: on layer/1
        would free 2.0 MB; 1.0 kB left
        ");
        let note = SpaceNote::FirstRemoval { freed_bytes: 5_000_000, cap_bytes: 9_000_000 };
        assert!(note_in_words(note).contains("5.0 MB of old results"));
        let note = SpaceNote::Beyond { used_bytes: 9_000_000, cap_bytes: 5_000_000 };
        assert!(note_in_words(note).contains("9.0 MB of 5.0 MB"));
    }
}

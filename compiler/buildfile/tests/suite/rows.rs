//! Which rows of the language's reference the cases show.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::cases;
use crate::{AREAS, suite};

/// Reads `rows.txt`: the priority of each row.
fn rows() -> BTreeMap<String, String> {
    let text = include_str!("rows.txt");
    let row = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
}

#[test]
fn every_row_that_existing_files_need_has_a_case() {
    let rows = rows();
    let shown: BTreeSet<String> =
        AREAS.iter().flat_map(|area| cases(&suite().join(area))).flat_map(|case| case.rows).collect();
    let needed = rows.iter().filter(|(_, priority)| *priority == "P0").map(|(row, _)| row);
    let missing: Vec<_> = needed.filter(|row| !shown.contains(*row)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
    let unlisted: Vec<_> = shown.iter().filter(|row| !rows.contains_key(*row)).collect();
    assert!(unlisted.is_empty(), "not in rows.txt: {unlisted:?}");
}

//! Files of settings, read so that every mistake has its place.
//!
//! In: TOML, and the keys that there are. Out: a value, or all unknown keys and the first thing that has another type, each with
//! its bytes in the text and what was probably meant.

use std::ops::Range;

use rb_diag::nearest;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::decode;

/// What is wrong at one place of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub range: Range<usize>,
    /// What.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Keys of a table, each with those of the tables below it.
pub(super) struct Keys(pub(super) &'static [(&'static str, Option<&'static Self>)]);

/// Reads a text.
pub(super) fn read<T: DeserializeOwned>(name: &str, text: &str, keys: &Keys) -> Result<T, Vec<Fault>> {
    let fault = |range: Option<Range<usize>>, message: &str| Fault {
        range: range.unwrap_or(0..0),
        message: message.lines().next().unwrap_or_default().chars().take(400).collect(),
        help: None,
    };
    if let Err(error) = decode::text(name, text.as_bytes(), decode::FILE_BYTES) {
        return Err(vec![fault(None, &error.to_string())]);
    }
    let table = DeTable::parse(text).map_err(|error| vec![fault(error.span(), error.message())])?;
    let mut faults = Vec::new();
    check(table.get_ref(), keys, "", &mut faults);
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.range.start);
        return Err(faults);
    }
    toml::from_str(text).map_err(|error| vec![fault(error.span(), error.message())])
}

fn check(table: &DeTable<'_>, keys: &Keys, place: &str, faults: &mut Vec<Fault>) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some((_, below)) = keys.0.iter().find(|(known, _)| *known == name) else {
            let known = || keys.0.iter().map(|(known, _)| *known);
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys{place}: {}", known().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("there is no key `{name}`{place}");
            faults.push(Fault { range: key.span(), message, help: Some(help) });
            continue;
        };
        let Some(below) = below else { continue };
        let inner = match place.strip_prefix(" in [") {
            Some(outer) => format!(" in [{}.{name}]", outer.trim_end_matches(']')),
            None => format!(" in [{name}]"),
        };
        match value.get_ref() {
            DeValue::Table(table) => check(table, below, &inner, faults),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(table) = item.get_ref() {
                        check(table, below, &inner, faults);
                    }
                }
            }
            // Its type is told as the value is read.
            _ => {}
        }
    }
}

/// What a module says of itself, where it is named in another's file.
pub(super) const INFO: [(&str, Option<&Keys>); 9] = [
    ("id", None),
    ("version", None),
    ("name", None),
    ("description", None),
    ("homepage", None),
    ("keywords", None),
    ("exec-env", None),
    ("clear-env", None),
    ("licenses", Some(&Keys(&[("type", None), ("uri", None)]))),
];

/// Systems.
pub(super) const TARGETS: Keys = Keys(&[
    ("os", None),
    ("arch", None),
    ("variant", None),
    ("arch-variant", None),
    ("distros", Some(&Keys(&[("name", None), ("version", None)]))),
]);

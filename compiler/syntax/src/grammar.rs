//! The grammar's parser and the names of its rules.
//!
//! **Invariant:** only `entries` and `tree` see what pest makes; the rest of the crate works with owned values.

use std::sync::LazyLock;

use pest_derive::Parser;

/// The parser made of `grammar/buildfile.pest`.
#[derive(Parser)]
#[grammar = "../../grammar/buildfile.pest"]
pub(crate) struct Grammar;

/// Returns the name of a rule as the grammar writes it.
pub(crate) fn rule_name(rule: Rule) -> &'static str {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let rules = Rule::all_rules();
        let mut names = vec![String::new(); rules.iter().map(|rule| *rule as usize + 1).max().unwrap_or(0)];
        for rule in rules {
            if let Some(name) = names.get_mut(*rule as usize) {
                *name = format!("{rule:?}");
            }
        }
        names
    });
    NAMES.get(rule as usize).map_or("", String::as_str)
}

//! Variables whose values are not known, since what sets them is wrong.
//!
//! In: names, as mistakes are found. Out: whether another mistake may be only because of them, which is then not told.

use std::collections::BTreeSet;

use crate::words::{Expanded, WordError};

/// What is not known of variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// There may be others of any name.
    pub(crate) all: bool,
    names: BTreeSet<String>,
}

impl Lost {
    /// Notes whether a variable that is set now has a value that is known.
    pub(crate) fn set(&mut self, name: &str, is_lost: bool) {
        match is_lost {
            true => drop(self.names.insert(name.to_owned())),
            false => drop(self.names.remove(name)),
        }
    }

    /// Tells whether a variable's value is not known.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Tells whether a word might have come out otherwise.
    pub(crate) fn touches(&self, word: &Expanded) -> bool {
        let mut names = word.matched.iter().chain(&word.unmatched);
        match self.all {
            true => names.next().is_some(),
            false => names.any(|name| self.names.contains(name)),
        }
    }

    /// Tells whether a word may be wrong only because of them.
    pub(crate) fn explains(&self, error: &WordError) -> bool {
        match error {
            WordError::Required { name, .. } => self.all || self.names.contains(name),
            WordError::BadPattern { .. } | WordError::TooLong => self.all || !self.names.is_empty(),
            _ => false,
        }
    }
}

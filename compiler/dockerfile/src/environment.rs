//! Variables in the order in which they were set: what a step runs with.
//!
//! **Invariant:** a name stands once; setting it again moves it to the end, as BuildKit's client does, since the order is
//! part of a step's digest.

use std::collections::{BTreeMap, BTreeSet};

use rb_llb::{STRUCK, Struck, is_secret};

use crate::words::Variables;

/// Names with their values. Setting one takes no longer the more there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// In order.
    pairs: BTreeMap<u64, (String, String)>,
    /// Where each name stands.
    places: BTreeMap<String, u64>,
    /// Those that say that nobody is to see their values.
    secret: BTreeSet<String>,
    next: u64,
}

impl Environment {
    /// Sets a variable; it is the last one then.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.places.insert(name.to_owned(), self.next);
        if is_secret(name) {
            self.secret.insert(name.to_owned());
        }
        self.pairs.insert(self.next, (name.to_owned(), value.into()));
        self.next += 1;
    }

    /// Forgets a variable.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            self.pairs.remove(&place);
            self.secret.remove(name);
        }
    }

    /// Returns a value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.get(self.places.get(name)?)?;
        Some(value)
    }

    /// Returns what is struck out of what people see.
    pub(crate) fn struck(&self) -> Struck {
        Struck::of(self.secret.iter().filter_map(|name| Some((name.as_str(), self.value(name)?))))
    }

    /// Returns the names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.values().map(|(name, _)| name.as_str())
    }

    /// Returns `NAME=value`, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.pairs.values().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.value(name).map(ToOwned::to_owned)
    }
}

/// Variables as people see them: of what nobody is to see there is no value.
pub(crate) struct Shown<'a> {
    pub(crate) variables: &'a Environment,
    /// Further ones that hold secrets, of which a command sees the value alone.
    pub(crate) secrets: &'a [String],
}

impl Variables for Shown<'_> {
    fn get(&self, name: &str) -> Option<String> {
        if self.secrets.iter().any(|secret| secret == name) {
            return Some("****".to_owned());
        }
        let value = self.variables.value(name)?;
        let is_struck = self.variables.secret.contains(name) && !value.is_empty();
        Some(if is_struck { STRUCK.to_owned() } else { value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_again_stands_last() {
        let mut environment = Environment::default();
        environment.set("A", "1");
        environment.set("B", "2");
        environment.set("A", "3");
        assert_eq!(environment.lines(), ["B=2", "A=3"]);
        environment.remove("B");
        assert_eq!((environment.value("B"), environment.value("A")), (None, Some("3")));
    }
}

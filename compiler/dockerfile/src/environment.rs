//! Variables in the order in which they were set: what a step runs with.
//!
//! **Invariant:** a name stands once; setting it again moves it to the end, as BuildKit's client does, since the order is
//! part of a step's digest.

use crate::words::Variables;

/// Names with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pairs: Vec<(String, String)>,
}

impl Environment {
    /// Sets a variable; it is the last one then.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.pairs.push((name.to_owned(), value.into()));
    }

    /// Forgets a variable.
    pub(crate) fn remove(&mut self, name: &str) {
        self.pairs.retain(|(known, _)| known != name);
    }

    /// Returns a value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Returns `NAME=value`, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.value(name).map(ToOwned::to_owned)
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

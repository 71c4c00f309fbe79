//! The fields of one output, taken key by key; what nobody took is an error with the nearest key.

use std::collections::BTreeMap;

use rb_diag::nearest;
use rb_oci::Reference;

use super::{OutputSpecError, TYPES};
use crate::settings::epoch_seconds;

/// `key=value` fields that are still to be taken.
pub(super) struct Fields {
    kind: String,
    map: BTreeMap<String, String>,
    /// What was asked for.
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads fields, and takes the type.
    pub(super) fn new(words: Vec<String>) -> Result<Self, OutputSpecError> {
        let mut map = BTreeMap::new();
        for field in words {
            let (key, value) =
                field.split_once('=').ok_or_else(|| OutputSpecError::Field { field: field.clone() })?;
            // The case of what an annotation is called matters.
            let key = match key.trim().split_once('.') {
                Some((first, rest)) => format!("{}.{rest}", first.to_lowercase()),
                None => key.trim().to_lowercase(),
            };
            if map.insert(key.clone(), value.to_owned()).is_some() {
                return Err(OutputSpecError::Twice { key });
            }
        }
        let kind = map.remove("type").ok_or(OutputSpecError::NoType)?;
        if !TYPES.contains(&kind.as_str()) {
            let nearest = nearest(&kind, TYPES);
            return Err(OutputSpecError::Type { kind, nearest });
        }
        Ok(Self { kind, map, known: Vec::new() })
    }

    /// Makes fields of a type that is known.
    pub(super) fn of(kind: String, map: BTreeMap<String, String>) -> Self {
        Self { kind, map, known: Vec::new() }
    }

    /// Returns the type.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Tells whether a field is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Takes a field.
    pub(super) fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.map.remove(key)
    }

    /// Takes all fields whose keys begin so, by the rest of their keys.
    pub(super) fn take_all(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let (taken, left) =
            std::mem::take(&mut self.map).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.map = left;
        let taken: BTreeMap<String, String> = taken;
        taken.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect()
    }

    /// Takes a field that is true or false.
    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, OutputSpecError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(value_error(key, value, "true or false")),
        }
    }

    /// Takes a field that has one of a few values.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, OutputSpecError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
            return Ok(Some(*choice));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let (last, first) = names.split_last().expect("there are choices");
        Err(value_error(key, value, &format!("{} or {last}", first.join(", "))))
    }

    /// Takes the names of an image: several in one quoted field.
    pub(super) fn names(&mut self) -> Result<Vec<String>, OutputSpecError> {
        let field = self.take("name").unwrap_or_default();
        let mut names = Vec::new();
        let mut begin = 0;
        for part in field.split(',') {
            let name = part.trim();
            if !name.is_empty() {
                check_name("name", &field, begin + part.len() - part.trim_start().len(), name)?;
                names.push(name.to_owned());
            }
            begin += part.len() + 1;
        }
        Ok(names)
    }

    /// Takes the latest time that a result shows.
    pub(super) fn epoch(&mut self) -> Result<Option<i64>, OutputSpecError> {
        let key = "source-date-epoch";
        let read = |value: String| {
            epoch_seconds(&value)
                .map_err(|_| value_error(key, value, "seconds since 1970, before the year 10000"))
        };
        self.take(key).map(read).transpose()
    }

    /// Refuses a field by name, unless it says no.
    pub(super) fn refuse(&mut self, key: &'static str, why: &'static str) -> Result<(), OutputSpecError> {
        match self.take(key) {
            Some(value) if !["false", "0", ""].contains(&value.as_str()) => {
                Err(OutputSpecError::Unsupported { what: format!("{key}={value}"), why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the error for a field that is not there.
    pub(super) fn missing(&self, key: &'static str) -> OutputSpecError {
        OutputSpecError::Missing { kind: self.kind.clone(), key }
    }

    /// Refuses what nobody took.
    pub(super) fn end(self) -> Result<(), OutputSpecError> {
        match self.map.into_keys().next() {
            Some(key) => {
                let nearest = nearest(&key, self.known.iter().copied());
                Err(OutputSpecError::Unknown { kind: self.kind, key, nearest })
            }
            None => Ok(()),
        }
    }
}

pub(super) fn value_error(key: &str, value: String, expected: &str) -> OutputSpecError {
    OutputSpecError::Value { key: key.to_owned(), value, expected: expected.to_owned() }
}

/// Refuses what nobody can give to an image as a name; `name` stands in `value`, from byte `begin` on.
pub(super) fn check_name(
    key: &'static str,
    value: &str,
    begin: usize,
    name: &str,
) -> Result<(), OutputSpecError> {
    let reason = match name.parse::<Reference>() {
        Ok(reference) if reference.digest().is_none() => return Ok(()),
        Ok(_) => "nobody can give a digest to an image".to_owned(),
        Err(error) => error.reason().to_owned(),
    };
    let blank = key.chars().count() + 1 + value[..begin].chars().count();
    let mark = " ".repeat(blank) + &"^".repeat(name.chars().count());
    Err(OutputSpecError::Name { field: format!("{key}={value}"), mark, reason })
}

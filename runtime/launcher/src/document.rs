//! TOML as the launcher reads it: a key of another kind than is asked for is an error, an unknown one is passed over.
//!
//! `toml`'s own tree serves; to read types by `serde` would double the program.

use toml::de::{DeTable, DeValue};

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DocumentError(String);

/// Reads a document and hands it on.
pub(crate) fn parse<T>(
    bytes: &[u8],
    read: impl FnOnce(&Table<'_>) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    let text = std::str::from_utf8(bytes).map_err(|error| DocumentError(error.to_string()))?;
    let table =
        DeTable::parse(text).map_err(|error| DocumentError(error.to_string().trim_end().to_owned()))?;
    read(&Table(table.get_ref()))
}

/// A table.
pub(crate) struct Table<'a>(&'a DeTable<'a>);

fn wrong(key: &str, wanted: &str) -> DocumentError {
    DocumentError(format!("`{key}` is not {wanted}"))
}

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.0.get(key).map(|value| value.get_ref())
    }

    /// Returns all keys with their values, which are texts.
    pub(crate) fn texts(&self) -> Result<Vec<(String, String)>, DocumentError> {
        let all = self.0.iter().map(|(key, value)| {
            let text = value.get_ref().as_str().ok_or_else(|| wrong(key.get_ref(), "a text"))?;
            Ok((key.get_ref().to_string(), text.to_owned()))
        });
        all.collect()
    }

    /// Returns a text; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> Result<String, DocumentError> {
        match self.get(key) {
            None => Ok(String::new()),
            Some(value) => value.as_str().map(ToOwned::to_owned).ok_or_else(|| wrong(key, "a text")),
        }
    }

    /// Returns a truth value; false if there is none.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, DocumentError> {
        self.get(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| wrong(key, "true or false")))
    }

    /// Returns a list of texts; empty if there is none.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<String>, DocumentError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| wrong(key, "a list"))?;
        let text = |item: &DeValue<'_>| item.as_str().map(ToOwned::to_owned);
        items.iter().map(|item| text(item.get_ref()).ok_or_else(|| wrong(key, "a list of texts"))).collect()
    }

    /// Returns a list of texts, for which one text may stand.
    pub(crate) fn one_or_list(&self, key: &str) -> Result<Vec<String>, DocumentError> {
        match self.get(key).and_then(|value| value.as_str()) {
            Some(text) => Ok(vec![text.to_owned()]),
            None => self.list(key),
        }
    }

    /// Returns what each table of a list is read as.
    pub(crate) fn tables<T>(
        &self,
        key: &str,
        read: impl Fn(&Table<'_>) -> Result<T, DocumentError>,
    ) -> Result<Vec<T>, DocumentError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| wrong(key, "a list of tables"))?;
        let one = |item: &'a DeValue<'a>| item.as_table().ok_or_else(|| wrong(key, "a list of tables"));
        items.iter().map(|item| read(&Table(one(item.get_ref())?))).collect()
    }
}

//! What a JSON or a YAML text says, with the place of everything.

use rb_diag::{Span, Spanned};

/// One value of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) said: Said,
    /// What it does to the same place of an earlier file.
    pub(crate) mark: Mark,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Null,
    Bool(bool),
    /// A number as it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text; a name may stand there twice in JSON.
    Map(Entries),
}

/// Names and values in the order of the text.
pub(crate) type Entries = Vec<(Spanned<String>, Node)>;

/// How a value of a later file meets one of an earlier file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Mark {
    /// It is merged with it.
    #[default]
    Merge,
    /// It takes its place: `!override`.
    Override,
    /// It removes it: `!reset`.
    Reset,
}

impl Node {
    pub(crate) fn new(span: Span, said: Said) -> Self {
        Self { span, said, mark: Mark::Merge }
    }

    pub(crate) fn text(span: Span, text: impl Into<String>) -> Self {
        Self::new(span, Said::Text(text.into()))
    }

    /// Returns the entry of a map, the last of its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().rev().find(|(key, _)| key.value == name).map(|(_, node)| node)
    }

    /// Returns the entries of a map; none of what is no map.
    pub(crate) fn entries(&self) -> &[(Spanned<String>, Self)] {
        if let Said::Map(entries) = &self.said { entries } else { &[] }
    }

    /// Returns the elements of a list; none of what is no list.
    pub(crate) fn elements(&self) -> &[Self] {
        if let Said::List(elements) = &self.said { elements } else { &[] }
    }

    /// Returns a text, a number or a boolean as a text.
    pub(crate) fn scalar(&self) -> Option<String> {
        match &self.said {
            Said::Text(text) | Said::Number(text) => Some(text.clone()),
            Said::Bool(value) => Some(value.to_string()),
            Said::Null | Said::List(_) | Said::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.said == Said::Null
    }

    /// Returns what kind of thing it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.said {
            Said::Null => "nothing",
            Said::Bool(_) => "a boolean",
            Said::Number(_) => "a number",
            Said::Text(_) => "a text",
            Said::List(_) => "a list",
            Said::Map(_) => "a mapping",
        }
    }
}

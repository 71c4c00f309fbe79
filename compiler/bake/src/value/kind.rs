//! The types of values, and how they are called.

use std::collections::BTreeMap;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Any: what a null has that nobody gave a type, and what `any` stands for.
    Any,
    Bool,
    Number,
    Text,
    List(Box<Self>),
    Set(Box<Self>),
    Map(Box<Self>),
    Tuple(Vec<Self>),
    /// The type of each attribute, and whether it may be missing.
    Object(BTreeMap<String, (Self, bool)>),
}

impl Kind {
    /// Whether it is a text, a number or a boolean.
    pub(crate) fn is_primitive(&self) -> bool {
        matches!(self, Self::Bool | Self::Number | Self::Text)
    }

    /// Returns the type of the elements of a list, a set or a map.
    pub(crate) fn element(&self) -> Option<&Self> {
        match self {
            Self::List(element) | Self::Set(element) | Self::Map(element) => Some(element),
            Self::Any | Self::Bool | Self::Number | Self::Text | Self::Tuple(_) | Self::Object(_) => None,
        }
    }

    /// Returns its name as messages and lists of variables use it.
    pub(crate) fn name(&self) -> String {
        self.told("any type")
    }

    fn told(&self, any: &str) -> String {
        let single = "any single type";
        match self {
            Self::Any => any.to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Text => "string".to_owned(),
            Self::List(element) => format!("list of {}", element.told(single)),
            Self::Set(element) => format!("set of {}", element.told(single)),
            Self::Map(element) => format!("map of {}", element.told(single)),
            Self::Tuple(_) => "tuple".to_owned(),
            Self::Object(_) => "object".to_owned(),
        }
    }
}

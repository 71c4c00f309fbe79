//! What expressions work with: values that know their types.
//!
//! The types are those of HCL's own reference implementation: texts, numbers of any size, booleans; lists, sets and maps
//! of one type; tuples and objects of many. **Invariant:** elements of a list, set or map have the type it says; a set is
//! sorted and has nothing twice.

mod convert;
mod json;
mod kind;
mod number;

use std::cmp::Ordering;
use std::collections::BTreeMap;

pub(crate) use convert::{convert, primitive, unify};
pub(crate) use json::{encode, parse_as};
pub(crate) use kind::Kind;
pub(crate) use number::{Number, bounded, parse_number, to_i64, whole, written};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing, of a type.
    Null(Kind),
    Bool(bool),
    Number(Number),
    Text(String),
    /// Elements of one type.
    List(Kind, Vec<Self>),
    /// Elements of one type, sorted, each once.
    Set(Kind, Vec<Self>),
    /// Values of one type by name.
    Map(Kind, BTreeMap<String, Self>),
    /// Values of many types, in order.
    Tuple(Vec<Self>),
    /// Values of many types by name.
    Object(BTreeMap<String, Self>),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn number(number: impl Into<Number>) -> Self {
        Self::Number(number.into())
    }

    /// Makes a list of texts.
    pub(crate) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(Kind::Text, texts.into_iter().map(Self::text).collect())
    }

    /// Makes a set: sorted, and each value once.
    pub(crate) fn set(kind: Kind, mut values: Vec<Self>) -> Self {
        values.sort_by(order);
        values.dedup();
        Self::Set(kind, values)
    }

    /// Returns its type.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Null(kind) => kind.clone(),
            Self::Bool(_) => Kind::Bool,
            Self::Number(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
            Self::List(kind, _) => Kind::List(Box::new(kind.clone())),
            Self::Set(kind, _) => Kind::Set(Box::new(kind.clone())),
            Self::Map(kind, _) => Kind::Map(Box::new(kind.clone())),
            Self::Tuple(values) => Kind::Tuple(values.iter().map(Self::kind).collect()),
            Self::Object(values) => Kind::Object(
                values.iter().map(|(name, value)| (name.clone(), (value.kind(), false))).collect(),
            ),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null(_))
    }

    /// Returns the elements of a list, a set or a tuple.
    pub(crate) fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::List(_, values) | Self::Set(_, values) | Self::Tuple(values) => Some(values),
            Self::Null(_)
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Map(..)
            | Self::Object(_) => None,
        }
    }

    /// Returns the entries of a map or an object.
    pub(crate) fn entries(&self) -> Option<&BTreeMap<String, Self>> {
        match self {
            Self::Map(_, entries) | Self::Object(entries) => Some(entries),
            Self::Null(_)
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::List(..)
            | Self::Set(..)
            | Self::Tuple(_) => None,
        }
    }

    /// Returns keys and values of anything that a loop can go over.
    pub(crate) fn pairs(&self) -> Option<Vec<(Self, Self)>> {
        if let Some(entries) = self.entries() {
            return Some(entries.iter().map(|(name, value)| (Self::text(name), value.clone())).collect());
        }
        let of_set = matches!(self, Self::Set(..));
        let key = |at: usize, value: &Self| if of_set { value.clone() } else { Self::number(at as u64) };
        Some(self.elements()?.iter().enumerate().map(|(at, value)| (key(at, value), value.clone())).collect())
    }

    /// Whether both are of one type and equal; what is null equals all that is null.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self.is_null(), other.is_null()) {
            (true, true) => true,
            (false, false) => self == other,
            (true, false) | (false, true) => false,
        }
    }
}

/// The order of a set's elements: texts by their letters, numbers by size, others by how they are written.
fn order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (left, right) => encode(left).cmp(&encode(right)),
    }
}

//! Values: texts, whole numbers, yes or no, and lists of these.

use std::fmt;

/// What an expression means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A text.
    String(String),
    /// A whole number.
    Int(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A list; its items need not be of one type.
    List(Vec<Self>),
}

impl Value {
    /// Returns what a condition makes of it: only `true` and `false` say yes or no.
    pub fn truth(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::String(_) | Self::Int(_) | Self::List(_) => None,
        }
    }

    /// Returns the name of its type, without an article: `string`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Int(_) => "number",
            Self::Bool(_) => "bool",
            Self::List(_) => "list",
        }
    }
}

/// The text form: a list's items with one space in between, `true` or `false`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{item}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn has_a_text_form() {
        let list = Value::List(vec![
            Value::Int(-1),
            Value::Bool(true),
            Value::List(vec![]),
            Value::String("a b".into()),
        ]);
        assert_eq!(list.to_string(), "-1 true  a b");
        assert_eq!(Value::List(vec![]).to_string(), "");
    }

    #[test]
    fn only_bools_are_true_or_false() {
        assert_eq!(Value::Bool(false).truth(), Some(false));
        assert_eq!(Value::String("true".into()).truth(), None);
        assert_eq!(Value::Int(1).truth(), None);
        assert_eq!(Value::List(vec![]).truth(), None);
    }
}

//! The functions of the standard library of bake files.
//!
//! In: a name, values, and what is known of the machine. Out: a value, or what is wrong with the arguments. `try`, `can`
//! and `convert` look at expressions, not values, and stand beside the evaluation. What a function learns of the time, the
//! home and of chance comes from [`Outside`]. Source: buildx docs/bake-stdlib.md; go-cty's standard library.

mod collections;
mod encoding;
mod format;
mod names;
mod network;
mod numbers;
mod sequences;
mod sets;
mod texts;
mod times;
mod versions;

use crate::value::{Kind, Number, Value, convert, to_i64};

pub(crate) use numbers::divide;

/// What functions learn of the machine.
pub trait Outside {
    /// The time of this run, in seconds since 1970, for `timestamp`.
    fn seconds(&self) -> i64;
    /// The home of who runs this, for `homedir`.
    fn home(&self) -> Option<String>;
    /// Sixteen bytes of chance, other ones at each call, for `uuidv4` and `bcrypt`.
    fn chance(&self) -> [u8; 16];
}

/// One call.
pub(crate) struct Call<'c> {
    outside: &'c dyn Outside,
    values: &'c [Value],
}

type Body = fn(&Call<'_>) -> Result<Value, String>;

/// A function: its name, how many arguments it takes at least and at most, and what it does.
pub(crate) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    body: Body,
}

/// As many arguments as one likes.
const MANY: usize = usize::MAX;

const fn function(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function { name, least, most, body }
}

/// The tables of all functions.
const TABLES: &[&[Function]] = &[
    collections::FUNCTIONS,
    encoding::FUNCTIONS,
    format::FUNCTIONS,
    names::FUNCTIONS,
    network::FUNCTIONS,
    numbers::FUNCTIONS,
    sets::FUNCTIONS,
    sequences::FUNCTIONS,
    texts::FUNCTIONS,
    times::FUNCTIONS,
];

/// Returns the function of this name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLES.iter().flat_map(|table| table.iter()).find(|function| function.name == name)
}

/// Returns the names of all functions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let named = TABLES.iter().flat_map(|table| table.iter()).map(|function| function.name);
    named.chain(["try", "can", "convert"])
}

impl Function {
    pub(crate) fn call(&self, outside: &dyn Outside, values: &[Value]) -> Result<Value, String> {
        let given = values.len();
        if given < self.least || given > self.most {
            let wanted = match (self.least, self.most) {
                (least, MANY) => format!("at least {least}"),
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("it takes {wanted} arguments, not {given}"));
        }
        (self.body)(&Call { outside, values })
    }
}

impl Call<'_> {
    fn get(&self, at: usize) -> Result<&Value, String> {
        match self.values.get(at) {
            Some(value) if value.is_null() => Err(format!("argument {} must not be null", at + 1)),
            Some(value) => Ok(value),
            None => Err(format!("argument {} is missing", at + 1)),
        }
    }

    fn converted(&self, at: usize, kind: &Kind) -> Result<Value, String> {
        convert(self.get(at)?.clone(), kind).map_err(|why| format!("argument {}: {why}", at + 1))
    }

    fn text(&self, at: usize) -> Result<String, String> {
        let Value::Text(text) = self.converted(at, &Kind::Text)? else { return Err(not(at, "a text")) };
        Ok(text)
    }

    fn number(&self, at: usize) -> Result<Number, String> {
        let Value::Number(number) = self.converted(at, &Kind::Number)? else {
            return Err(not(at, "a number"));
        };
        Ok(number)
    }

    /// Returns a whole number.
    fn whole(&self, at: usize) -> Result<i64, String> {
        to_i64(&self.number(at)?).ok_or_else(|| not(at, "a whole number of a usual size"))
    }

    fn truth(&self, at: usize) -> Result<bool, String> {
        let Value::Bool(value) = self.converted(at, &Kind::Bool)? else { return Err(not(at, "a bool")) };
        Ok(value)
    }

    /// Returns the elements of a list, converted to one type.
    fn list(&self, at: usize, element: Kind) -> Result<(Kind, Vec<Value>), String> {
        match self.converted(at, &Kind::List(Box::new(element)))? {
            Value::List(kind, values) => Ok((kind, values)),
            _ => Err(not(at, "a list")),
        }
    }

    /// Returns a list of texts.
    fn texts(&self, at: usize) -> Result<Vec<String>, String> {
        let text = |value| {
            if let Value::Text(text) = value {
                Ok(text)
            } else {
                Err(not(at, "a list of texts without null"))
            }
        };
        self.list(at, Kind::Text)?.1.into_iter().map(text).collect()
    }

    /// Returns the elements of a list, a set or a tuple as they are.
    fn elements(&self, at: usize) -> Result<&[Value], String> {
        self.get(at)?.elements().ok_or_else(|| not(at, "a list, a set or a tuple"))
    }
}

fn not(at: usize, wanted: &str) -> String {
    format!("argument {} has to be {wanted}", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once() {
        let mut all: Vec<_> = names().collect();
        let length = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), length);
        assert_eq!(length, 106, "buildx documents 106 functions");
    }
}

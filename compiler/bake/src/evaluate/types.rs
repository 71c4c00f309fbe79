//! Types as they are written: `list(string)`, `object({name = string})`.

use std::collections::BTreeMap;

use hcl_edit::expr::{Expression as Hcl, ObjectKey};
use rb_diag::Diagnostic;

use super::fault;
use crate::codes;
use crate::syntax::{At, Expression};
use crate::value::Kind;

/// Reads the type of a variable.
pub(crate) fn require_kind(expression: &Expression) -> Result<Kind, Diagnostic> {
    match expression.to_hcl() {
        Some((expression, at)) => parse_kind(&expression, at),
        None => Err(fault(codes::TYPE, "a type is wanted here", expression.span()).with_help(HELP)),
    }
}

const HELP: &str =
    "types are `string`, `number`, `bool`, `any`, `list(…)`, `set(…)`, `map(…)`, `tuple([…])`, `object({…})`";

/// Reads a type.
pub(crate) fn parse_kind(expression: &Hcl, at: At) -> Result<Kind, Diagnostic> {
    let refused = |message: String| fault(codes::TYPE, message, at.span(expression)).with_help(HELP);
    match expression {
        Hcl::Variable(name) => match name.value().as_str() {
            "string" => Ok(Kind::Text),
            "number" => Ok(Kind::Number),
            "bool" => Ok(Kind::Bool),
            "any" => Ok(Kind::Any),
            name @ ("list" | "set" | "map" | "tuple" | "object") => {
                Err(refused(format!("`{name}` needs the type of what is in it")))
            }
            name => {
                let known = ["string", "number", "bool", "any"];
                let fault = refused(format!("there is no type `{name}`"));
                Err(fault.with_nearest(rb_diag::nearest(name, known)))
            }
        },
        Hcl::Parenthesis(inner) => parse_kind(inner.inner(), at),
        Hcl::FuncCall(call) => {
            let name = call.name.name.value().as_str();
            let mut arguments = call.args.iter();
            let (Some(argument), None) = (arguments.next(), arguments.next()) else {
                return Err(refused(format!("`{name}(…)` takes one argument")));
            };
            match (name, argument) {
                ("list", inner) => parse_kind(inner, at).map(|kind| Kind::List(Box::new(kind))),
                ("set", inner) => parse_kind(inner, at).map(|kind| Kind::Set(Box::new(kind))),
                ("map", inner) => parse_kind(inner, at).map(|kind| Kind::Map(Box::new(kind))),
                ("tuple", Hcl::Array(kinds)) => {
                    kinds.iter().map(|kind| parse_kind(kind, at)).collect::<Result<_, _>>().map(Kind::Tuple)
                }
                ("object", Hcl::Object(attributes)) => {
                    let mut kinds = BTreeMap::new();
                    for (key, value) in attributes {
                        kinds.insert(name_of(key, at)?, attribute(value.expr(), at)?);
                    }
                    Ok(Kind::Object(kinds))
                }
                ("tuple", _) => Err(refused("`tuple` takes a list of types".to_owned())),
                ("object", _) => Err(refused("`object` takes an object of types".to_owned())),
                (name, _) => Err(refused(format!("there is no type `{name}(…)`"))),
            }
        }
        _ => Err(refused("a type is wanted here".to_owned())),
    }
}

fn name_of(key: &ObjectKey, at: At) -> Result<String, Diagnostic> {
    match key {
        ObjectKey::Ident(name) => Ok(name.value().to_string()),
        ObjectKey::Expression(Hcl::Variable(name)) => Ok(name.value().to_string()),
        ObjectKey::Expression(Hcl::String(name)) => Ok(name.value().clone()),
        ObjectKey::Expression(other) => {
            Err(fault(codes::TYPE, "the name of an attribute is wanted here", at.span(other)))
        }
    }
}

/// Reads the type of an attribute; `optional(…)` may be missing.
fn attribute(expression: &Hcl, at: At) -> Result<(Kind, bool), Diagnostic> {
    if let Hcl::FuncCall(call) = expression
        && call.name.name.value().as_str() == "optional"
    {
        return match call.args.iter().collect::<Vec<_>>().as_slice() {
            [kind] => parse_kind(kind, at).map(|kind| (kind, true)),
            _ => Err(fault(codes::TYPE, "`optional(…)` takes a type", at.span(expression))),
        };
    }
    parse_kind(expression, at).map(|kind| (kind, false))
}

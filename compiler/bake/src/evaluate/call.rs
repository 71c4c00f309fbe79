//! Calls of functions.

use hcl_edit::expr::{Expression as Hcl, FuncCall};
use rb_diag::{Diagnostic, Span};

use super::{Place, fault, parse_kind, unfit};
use crate::codes;
use crate::functions;
use crate::value::{Value, convert};

impl Place<'_> {
    pub(super) fn call(self, call: &FuncCall, span: Span) -> Result<Value, Diagnostic> {
        let name = call.name.name.value().as_str();
        if call.name.is_namespaced() {
            return Err(unknown(self, name, span));
        }
        let arguments: Vec<&Hcl> = call.args.iter().collect();
        // These three look at their arguments before, or instead of, their values.
        match name {
            "try" => return self.first(&arguments, span),
            "can" => {
                let [argument] = arguments.as_slice() else {
                    return Err(unfit("`can` takes one argument", span));
                };
                return Ok(Value::Bool(self.value(argument).is_ok()));
            }
            "convert" => {
                let [value, kind] = arguments.as_slice() else {
                    return Err(unfit("`convert` takes a value and a type", span));
                };
                let kind = parse_kind(kind, self.at)?;
                return convert(self.value(value)?, &kind).map_err(|why| refused(name, &why, span));
            }
            _ => {}
        }
        let mut values = Vec::new();
        for (at, argument) in arguments.iter().enumerate() {
            let value = self.value(argument)?;
            if call.args.expand_final() && at + 1 == arguments.len() {
                let Some(elements) = value.elements() else {
                    return Err(unfit("only a list can be spread by `...`", self.at.span(*argument)));
                };
                values.extend(elements.iter().cloned());
            } else {
                values.push(value);
            }
        }
        if let Some(function) = functions::find(name) {
            return function.call(self.world.outside(), &values).map_err(|why| refused(name, &why, span));
        }
        self.world.call(name, &values, span).unwrap_or_else(|| Err(unknown(self, name, span)))
    }

    fn first(self, arguments: &[&Hcl], span: Span) -> Result<Value, Diagnostic> {
        let mut last = unfit("`try` takes at least one argument", span);
        for argument in arguments {
            match self.value(argument) {
                Ok(value) => return Ok(value),
                Err(why) => last = why,
            }
        }
        Err(last.with_trail("in `try`, none of whose arguments has a value"))
    }
}

fn refused(name: &str, why: &str, span: Span) -> Diagnostic {
    fault(codes::FUNCTION, format!("`{name}`: {why}"), span)
}

fn unknown(place: Place<'_>, name: &str, span: Span) -> Diagnostic {
    let names = place.world.names();
    let names = names.iter().map(String::as_str);
    fault(codes::UNKNOWN_FUNCTION, format!("there is no function `{name}`"), span)
        .with_nearest(rb_diag::nearest(name, names))
}

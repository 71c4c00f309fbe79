//! `.name`, `[index]`, `.*` and `[*]`.

use hcl_edit::expr::{Expression as Hcl, TraversalOperator};
use rb_diag::{Diagnostic, Span};

use super::{Place, unfit};
use crate::value::{Kind, Value, convert, to_i64};

type Step = hcl_edit::Decorated<TraversalOperator>;

/// What a block gave, and the steps that are left.
type Found<'s> = (Result<Value, Diagnostic>, &'s [Step]);

impl Place<'_> {
    pub(super) fn traverse(self, root: &Hcl, steps: &[Step], span: Span) -> Result<Value, Diagnostic> {
        if let Hcl::Variable(name) = root
            && self.scope.get(name.value().as_str()).is_none()
            && let Some((value, rest)) = self.block(name.value().as_str(), steps, span)
        {
            return self.steps(value?, rest);
        }
        self.steps(self.value(root)?, steps)
    }

    /// Evaluates `target.name` or `target.name.attribute`: no more of a block than is asked for.
    fn block<'s>(self, kind: &str, steps: &'s [Step], span: Span) -> Option<Found<'s>> {
        let name = |at: usize| match steps.get(at).map(|step| step.value()) {
            Some(TraversalOperator::GetAttr(name)) => Some(name.value().as_str()),
            _ => None,
        };
        let (block, attribute) = (name(0)?, name(1));
        let value = self.world.block(kind, Some(block), attribute, span)?;
        Some((value, &steps[if attribute.is_some() { 2 } else { 1 }..]))
    }

    fn steps(self, mut value: Value, steps: &[Step]) -> Result<Value, Diagnostic> {
        for (at, step) in steps.iter().enumerate() {
            let span = self.at.span(step);
            value = match step.value() {
                TraversalOperator::GetAttr(name) => attribute(value, name.value().as_str(), span)?,
                TraversalOperator::Index(index) => {
                    let key = self.value(index)?;
                    index_of(&value, &key).map_err(|why| unfit(why, span))?
                }
                TraversalOperator::LegacyIndex(index) => {
                    index_of(&value, &Value::number(*index.value())).map_err(|why| unfit(why, span))?
                }
                TraversalOperator::FullSplat(_) => return self.splat(value, &steps[at + 1..]),
                TraversalOperator::AttrSplat(_) => {
                    // Only names belong to it; an index after them is one into the list it makes.
                    let rest = &steps[at + 1..];
                    let names =
                        rest.iter().take_while(|step| matches!(step.value(), TraversalOperator::GetAttr(_)));
                    let (each, rest) = rest.split_at(names.count());
                    let all = self.splat(value, each)?;
                    return self.steps(all, rest);
                }
            };
        }
        Ok(value)
    }

    fn splat(self, value: Value, steps: &[Step]) -> Result<Value, Diagnostic> {
        if value.is_null() {
            return Ok(Value::Tuple(Vec::new()));
        }
        let values = value.elements().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        values.into_iter().map(|value| self.steps(value, steps)).collect::<Result<_, _>>().map(Value::Tuple)
    }
}

fn attribute(value: Value, name: &str, span: Span) -> Result<Value, Diagnostic> {
    if value.is_null() {
        return Err(unfit(format!("this is null, so it has no `{name}`"), span));
    }
    let Some(entries) = value.entries() else {
        let kind = value.kind().name();
        let help = value.elements().is_some().then_some("write `[0]` for the first element, `[*]` for all");
        let fault = unfit(format!("a {kind} has no `{name}`"), span);
        return Err(if let Some(help) = help { fault.with_help(help) } else { fault });
    };
    entries.get(name).cloned().ok_or_else(|| {
        unfit(format!("there is no `{name}` in it"), span)
            .with_nearest(rb_diag::nearest(name, entries.keys().map(String::as_str)))
    })
}

/// Returns the element of a collection.
pub(crate) fn index_of(value: &Value, key: &Value) -> Result<Value, String> {
    if value.is_null() {
        return Err("this is null, so it has no elements".to_owned());
    }
    if key.is_null() {
        return Err("an index must not be null".to_owned());
    }
    if let Some(entries) = value.entries() {
        let Value::Text(name) = convert(key.clone(), &Kind::Text)? else {
            return Err("a key must be a text".to_owned());
        };
        return entries.get(&name).cloned().ok_or_else(|| format!("there is no `{name}` in it"));
    }
    if matches!(value, Value::Set(..)) {
        return Err("the elements of a set have no order, so none has an index".to_owned());
    }
    let Some(elements) = value.elements() else {
        return Err(format!("a {} has no elements", value.kind().name()));
    };
    let Value::Number(number) = convert(key.clone(), &Kind::Number)? else {
        return Err("an index must be a number".to_owned());
    };
    let at = to_i64(&number).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| elements.get(at)).cloned().ok_or_else(|| {
        format!("there is no element {}; it has {}", crate::value::written(&number), elements.len())
    })
}

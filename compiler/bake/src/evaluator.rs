//! What the files' names stand for: variables with what overrides them, functions, and attributes of targets.
//!
//! Everything is evaluated when it is first asked for, and once. **Invariant:** nothing is evaluated while it is being
//! evaluated: a circle is an error at the place that closes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostic, Span};

use crate::decode;
use crate::document::{ATTRIBUTES, Document, Function, SectionKind, Variable};
use crate::evaluate::{Scope, World, evaluate, fault, require_kind, unfit};
use crate::fields::split;
use crate::functions::{self, Outside};
use crate::value::{Kind, Value, convert, parse_as, primitive};
use crate::{Group, Target, codes};

/// Where variables get their values from, beside the files.
pub(crate) struct Given<'g> {
    /// Names that the program itself gives a value.
    pub(crate) own: BTreeMap<String, String>,
    /// A value for a variable from the command line or the environment.
    pub(crate) lookup: &'g dyn Fn(&str) -> Option<String>,
    pub(crate) outside: &'g dyn Outside,
}

/// A target or a group with one of the values of its matrix.
pub(crate) struct Instance {
    /// Which block of the document.
    pub(crate) block: usize,
    pub(crate) names: BTreeMap<String, Value>,
}

/// How deep one name may stand for another.
const DEEPEST: usize = 100;

pub(crate) struct Evaluator<'d> {
    pub(crate) document: &'d Document,
    given: Given<'d>,
    values: RefCell<BTreeMap<String, Value>>,
    open: RefCell<BTreeSet<String>>,
    /// Blocks by kind and name, once their names are known; the last of a name counts.
    instances: RefCell<BTreeMap<(SectionKind, String), std::rc::Rc<Instance>>>,
}

impl<'d> Evaluator<'d> {
    pub(crate) fn new(document: &'d Document, given: Given<'d>) -> Self {
        Self {
            document,
            given,
            values: RefCell::default(),
            open: RefCell::default(),
            instances: RefCell::default(),
        }
    }

    /// Makes a block known under its name.
    pub(crate) fn know(&self, kind: SectionKind, name: &str, instance: std::rc::Rc<Instance>) {
        self.instances.borrow_mut().insert((kind, name.to_owned()), instance);
    }

    /// Evaluates what stands outside of all loops.
    pub(crate) fn value_of(&self, expression: &crate::syntax::Expression) -> Result<Value, Diagnostic> {
        evaluate(self, expression, &Scope::default())
    }

    /// Does something under a name that must not come up again meanwhile.
    fn once<T>(
        &self,
        what: String,
        span: Span,
        make: impl FnOnce() -> Result<T, Diagnostic>,
    ) -> Result<T, Diagnostic> {
        if self.open.borrow().len() >= DEEPEST {
            return Err(fault(
                codes::CYCLE,
                format!("more than {DEEPEST} names stand for one another"),
                span,
            ));
        }
        if !self.open.borrow_mut().insert(what.clone()) {
            return Err(fault(codes::CYCLE, format!("{what} needs its own value"), span));
        }
        let made = make();
        self.open.borrow_mut().remove(&what);
        made.map_err(|why| if why.trail.len() < 8 { why.with_trail(format!("for {what}")) } else { why })
    }

    /// Returns the value of a variable of the files, and the type it was given.
    pub(crate) fn resolve(&self, name: &str, span: Span) -> Result<Option<Value>, Diagnostic> {
        if let Some(value) = self.values.borrow().get(name) {
            return Ok(Some(value.clone()));
        }
        let value = if let Some(own) = self.given.own.get(name) {
            Value::text(own)
        } else if let Some(value) = self.document.values.get(name) {
            self.once(format!("`{name}`"), span, || {
                let value = self.value_of(&value.expression)?;
                let declared = self.document.variables.contains_key(name);
                if declared { self.overridden(name, None, Some(value), span) } else { Ok(value) }
            })?
        } else if let Some(variable) = self.document.variables.get(name) {
            self.once(format!("variable `{name}`"), span, || self.variable_value(variable))?
        } else {
            return Ok(None);
        };
        self.values.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(Some(value))
    }

    /// Returns the type that a variable was given, if it was.
    pub(crate) fn kind_of(variable: &Variable) -> Result<Option<Kind>, Diagnostic> {
        variable.kind.as_ref().map(require_kind).transpose()
    }

    fn variable_value(&self, variable: &Variable) -> Result<Value, Diagnostic> {
        let kind = Self::kind_of(variable)?;
        let default = match &variable.default {
            None => None,
            Some(default) => {
                let value = self.value_of(default)?;
                Some(convert(value, kind.as_ref().unwrap_or(&Kind::Any)).map_err(|why| {
                    let name = &variable.name.value;
                    unfit(format!("the default of `{name}` is not of its type: {why}"), default.span())
                })?)
            }
        };
        self.overridden(&variable.name.value, kind, default, variable.name.span)
    }

    /// Returns what the command line or the environment says of a variable, else its default.
    fn overridden(
        &self,
        name: &str,
        kind: Option<Kind>,
        default: Option<Value>,
        span: Span,
    ) -> Result<Value, Diagnostic> {
        let Some((text, json)) = self.override_of(name, kind.is_some()) else {
            return Ok(default.unwrap_or_else(|| kind.map_or_else(|| Value::text(""), Value::Null)));
        };
        let wrong = |why: String| unfit(format!("the value given for `{name}` does not fit: {why}"), span);
        match (kind, default) {
            (Some(kind), _) if json => parse_as(&text, &kind).map_err(wrong),
            (Some(kind), _) if kind.is_primitive() => primitive(name, &text, &kind).map_err(wrong),
            (Some(kind), _) => from_fields(name, &text, &kind).map_err(wrong),
            (None, None | Some(Value::Null(_))) => Ok(Value::text(text)),
            (None, Some(default)) if default.kind().is_primitive() => {
                primitive(name, &text, &default.kind()).map_err(wrong)
            }
            (None, Some(default)) => {
                let why = format!(
                    "nothing says what a text becomes where the default is of type {}",
                    default.kind().name()
                );
                Err(wrong(why).with_help("give the variable a `type`"))
            }
        }
    }

    /// Returns the text that overrides a variable, and whether it is JSON: `NAME_JSON` is, unless it is a variable.
    fn override_of(&self, name: &str, typed: bool) -> Option<(String, bool)> {
        let plain = (self.given.lookup)(name);
        if plain.is_none() || typed {
            let json = format!("{name}_JSON");
            let own = self.document.variables.contains_key(&json) || self.given.own.contains_key(&json);
            if !own && let Some(text) = (self.given.lookup)(&json) {
                return Some((text, true));
            }
        }
        plain.map(|text| (text, false))
    }

    /// Evaluates some attributes of a target, or all.
    pub(crate) fn target(
        &self,
        instance: &Instance,
        only: Option<&str>,
        label: &str,
    ) -> Result<Target, Diagnostic> {
        let section = &self.document.blocks[instance.block];
        let scope = Scope { names: instance.names.clone(), around: None };
        let mut target = Target::default();
        for attribute in &section.body.attributes {
            let name = attribute.name.value.as_str();
            if !ATTRIBUTES.contains(&name) || only.is_some_and(|only| only != name) {
                continue;
            }
            let what = format!("`target.{label}.{name}`");
            self.once(what, attribute.name.span, || {
                let value = evaluate(self, &attribute.expression, &scope)?;
                decode::attribute(&mut target, name, value).map_err(|why| {
                    unfit(format!("`{name}` of target `{label}`: {why}"), attribute.expression.span())
                })
            })?;
        }
        Ok(target)
    }

    /// Evaluates a group.
    pub(crate) fn group(&self, instance: &Instance, label: &str) -> Result<Group, Diagnostic> {
        let section = &self.document.blocks[instance.block];
        let mut group = Group::default();
        let mut listed = false;
        for attribute in &section.body.attributes {
            let span = attribute.expression.span();
            let wrong =
                |why: String| unfit(format!("`{}` of group `{label}`: {why}", attribute.name.value), span);
            match attribute.name.value.as_str() {
                "description" => {
                    group.description = decode::text(self.value_of(&attribute.expression)?)
                        .map_err(wrong)?
                        .unwrap_or_default();
                }
                "targets" => {
                    listed = true;
                    group.targets = decode::texts(self.value_of(&attribute.expression)?)
                        .map_err(wrong)?
                        .unwrap_or_default();
                }
                _ => {}
            }
        }
        if listed {
            Ok(group)
        } else {
            Err(fault(codes::BLOCK, format!("group `{label}` has no `targets`"), section.label.span))
        }
    }

    fn call_own(
        &self,
        function: &Function,
        name: &str,
        values: &[Value],
        span: Span,
    ) -> Result<Value, Diagnostic> {
        let given = values.len();
        let wanted = function.parameters.len();
        if given < wanted || (given > wanted && function.variadic.is_none()) {
            let mut wanted = function.parameters.clone();
            wanted.extend(function.variadic.iter().map(|name| format!("{name}...")));
            let message = format!("`{name}({})` does not take {given} arguments", wanted.join(", "));
            return Err(fault(codes::FUNCTION, message, span));
        }
        let mut names: BTreeMap<String, Value> =
            function.parameters.iter().cloned().zip(values.iter().cloned()).collect();
        if let Some(variadic) = &function.variadic {
            names.insert(variadic.clone(), Value::Tuple(values[wanted..].to_vec()));
        }
        self.once(format!("function `{name}`"), span, || {
            evaluate(self, &function.result, &Scope { names, around: None })
        })
    }
}

impl World for Evaluator<'_> {
    fn variable(&self, name: &str, span: Span) -> Result<Option<Value>, Diagnostic> {
        self.resolve(name, span)
    }

    fn block(
        &self,
        kind: &str,
        name: Option<&str>,
        attribute: Option<&str>,
        span: Span,
    ) -> Option<Result<Value, Diagnostic>> {
        let section = SectionKind::parse(kind)?;
        let Some(name) = name else {
            let fault = fault(codes::VALUE, format!("`{kind}` alone has no value"), span);
            return Some(Err(fault.with_help(format!("write `{kind}.NAME.ATTRIBUTE`"))));
        };
        let instances = self.instances.borrow();
        let Some(instance) = instances.get(&(section, name.to_owned())).map(std::rc::Rc::clone) else {
            let names = instances.keys().filter(|(kind, _)| *kind == section).map(|(_, name)| name.as_str());
            let fault = fault(codes::NO_SUCH_TARGET, format!("there is no {kind} `{name}`"), span);
            return Some(Err(fault.with_nearest(rb_diag::nearest(name, names))));
        };
        drop(instances);
        let value = match section {
            SectionKind::Group => self.group(&instance, name).map(|group| decode::group_value(name, &group)),
            SectionKind::Target => {
                self.target(&instance, attribute, name).map(|target| decode::target_value(name, &target))
            }
        };
        Some(value.and_then(|value| match (attribute, value) {
            (None, value) => Ok(value),
            (Some(attribute), Value::Object(mut entries)) => entries.remove(attribute).ok_or_else(|| {
                unfit(format!("a {kind} has no `{attribute}`"), span)
                    .with_nearest(rb_diag::nearest(attribute, entries.keys().map(String::as_str)))
            }),
            (Some(_), value) => Ok(value),
        }))
    }

    fn call(&self, name: &str, values: &[Value], span: Span) -> Option<Result<Value, Diagnostic>> {
        let function = self.document.functions.get(name)?;
        Some(self.call_own(function, name, values, span))
    }

    fn names(&self) -> Vec<String> {
        let document = self.document;
        let names = document.variables.keys().chain(document.values.keys()).chain(document.functions.keys());
        names.chain(self.given.own.keys()).cloned().chain(functions::names().map(str::to_owned)).collect()
    }

    fn outside(&self) -> &dyn Outside {
        self.given.outside
    }
}

/// Reads comma-separated fields as a list, a set, a tuple or a map of plain values.
fn from_fields(name: &str, text: &str, kind: &Kind) -> Result<Value, String> {
    let simple = |element: &Kind| {
        if element.is_primitive() {
            Ok(())
        } else {
            Err(format!("what is a {} cannot be written with commas; set `{name}_JSON`", kind.name()))
        }
    };
    match kind {
        Kind::List(element) | Kind::Set(element) => {
            simple(element)?;
            let values = split(text, ',')?
                .iter()
                .map(|field| primitive(name, field, element))
                .collect::<Result<_, _>>()?;
            convert(Value::List((**element).clone(), values), kind)
        }
        Kind::Tuple(kinds) => {
            let fields = split(text, ',')?;
            if fields.len() != kinds.len() {
                return Err(format!("it has {} elements, not {}", kinds.len(), fields.len()));
            }
            let value =
                |(field, kind): (&String, &Kind)| simple(kind).and_then(|()| primitive(name, field, kind));
            fields.iter().zip(kinds).map(value).collect::<Result<_, _>>().map(Value::Tuple)
        }
        Kind::Map(element) => {
            simple(element)?;
            let mut entries = BTreeMap::new();
            for field in split(text, ',')? {
                let pair = split(&field, ':')?;
                let [key, value] = pair.as_slice() else {
                    return Err(format!("`{field}` is not of the form key:value"));
                };
                entries.insert(key.clone(), primitive(name, value, element)?);
            }
            Ok(Value::Map((**element).clone(), entries))
        }
        Kind::Any | Kind::Bool | Kind::Number | Kind::Text | Kind::Object(_) => {
            Err(format!("no plain text is of type {}; set `{name}_JSON`", kind.name()))
        }
    }
}

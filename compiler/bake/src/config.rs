//! From the files to all targets and groups by name, as they are written: nothing is inherited yet.
//!
//! In: a [`Document`] and what overrides its variables. Out: a [`Config`]: each target once, laid over that of the same
//! name in an earlier file; a target with a matrix as many, and a group of them under its own name.

use std::collections::BTreeMap;
use std::rc::Rc;

use rb_diag::{Diagnostic, Diagnostics, Span};

use crate::decode;
use crate::document::{Document, Section, SectionKind};
use crate::evaluate::{Scope, evaluate, fault, unfit};
use crate::evaluator::{Evaluator, Given, Instance};
use crate::target::unique;
use crate::value::{Kind, Value, convert, encode};
use crate::{Group, Target, Variable, codes};

/// All targets and groups.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) groups: Vec<(String, Group)>,
    pub(crate) targets: Vec<(String, Target)>,
    pub(crate) variables: Vec<Variable>,
}

impl Config {
    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|(known, _)| known == name).map(|(_, group)| group)
    }

    pub(crate) fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|(known, _)| known == name).map(|(_, target)| target)
    }

    fn put_target(&mut self, name: &str, target: Target) {
        match self.targets.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.merge(&target),
            None => self.targets.push((name.to_owned(), target)),
        }
    }

    fn put_group(&mut self, name: &str, group: Group) {
        match self.groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = group,
            None => self.groups.push((name.to_owned(), group)),
        }
    }
}

/// Whether a text can be the name of a target.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Evaluates the files, over the targets that compose files gave.
pub(crate) fn evaluate_document(
    document: &Document,
    given: Given<'_>,
    mut config: Config,
) -> Result<Config, Diagnostics> {
    let evaluator = Evaluator::new(document, given);
    config.variables = variables(&evaluator)?;
    let mut instances = Vec::new();
    let mut renamed: BTreeMap<(SectionKind, &str), Vec<String>> = BTreeMap::new();
    for (at, section) in document.blocks.iter().enumerate() {
        for (name, instance) in named(&evaluator, at, section).map_err(|why| vec![why])? {
            renamed.entry((section.kind, &section.label.value)).or_default().push(name.clone());
            instances.push((section.kind, name, Rc::new(instance)));
        }
        renamed.entry((section.kind, &section.label.value)).or_default();
    }
    for (kind, name, instance) in &instances {
        evaluator.know(*kind, name, Rc::clone(instance));
    }
    let mut faults = Vec::new();
    for (kind, name, instance) in &instances {
        match kind {
            SectionKind::Target => match evaluator.target(instance, None, name) {
                Ok(target) => config.put_target(name, target),
                Err(why) => faults.push(why),
            },
            SectionKind::Group => match evaluator.group(instance, name) {
                Ok(group) => config.put_group(name, group),
                Err(why) => faults.push(why),
            },
        }
    }
    for (name, value) in &document.values {
        if let Err(why) = evaluator.resolve(name, value.name.span) {
            faults.push(why);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    for ((_, label), names) in renamed {
        let names = unique(names);
        if names != [label] {
            config.groups.push((label.to_owned(), Group { targets: names, ..Group::default() }));
        }
    }
    for (_, group) in &mut config.groups {
        group.targets = unique(std::mem::take(&mut group.targets));
    }
    Ok(config)
}

/// Evaluates all variables and what has to be true of them.
fn variables(evaluator: &Evaluator<'_>) -> Result<Vec<Variable>, Diagnostics> {
    let mut faults = Vec::new();
    let mut variables = Vec::new();
    for (name, variable) in &evaluator.document.variables {
        let told = || -> Result<Variable, Diagnostic> {
            let value = evaluator.resolve(name, variable.name.span)?.unwrap_or(Value::Null(Kind::Any));
            let kind = Evaluator::kind_of(variable)?;
            let description = variable.description.as_ref();
            let description = description
                .map(|text| decode::text(evaluator.value_of(text)?).map_err(|why| unfit(why, text.span())));
            Ok(Variable {
                name: name.clone(),
                description: description.transpose()?.flatten().unwrap_or_default(),
                kind: kind.map(|kind| kind.name()).unwrap_or_default(),
                value: (!value.is_null()).then(|| match convert(value.clone(), &Kind::Text) {
                    Ok(Value::Text(text)) => text,
                    _ => encode(&value),
                }),
            })
        };
        match told() {
            Ok(variable) => variables.push(variable),
            Err(why) => faults.push(why),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    for (name, variable) in &evaluator.document.variables {
        for rule in &variable.rules {
            let span = rule.condition.span();
            let holds =
                evaluator.value_of(&rule.condition).and_then(|value| match convert(value, &Kind::Bool) {
                    Ok(Value::Bool(holds)) => Ok(holds),
                    Ok(_) => Err(unfit("a condition must not be null", span)),
                    Err(why) => Err(unfit(format!("a condition must be true or false: {why}"), span)),
                });
            match holds {
                Ok(true) => {}
                Ok(false) => {
                    let message = evaluator
                        .value_of(&rule.message)
                        .and_then(|value| decode::text(value).map_err(|why| unfit(why, rule.message.span())));
                    faults.push(match message {
                        Ok(message) => {
                            let message =
                                message.unwrap_or_else(|| format!("the value of `{name}` is not valid"));
                            fault(codes::VALIDATION, message, span)
                        }
                        Err(why) => why,
                    });
                }
                Err(why) => faults.push(why),
            }
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

/// Returns the blocks that one block stands for, with their names.
fn named(
    evaluator: &Evaluator<'_>,
    at: usize,
    section: &Section,
) -> Result<Vec<(String, Instance)>, Diagnostic> {
    check_name(&section.label.value, section.label.span)?;
    let matrix = section.body.attribute("matrix");
    let name = section.body.attribute("name");
    if section.kind == SectionKind::Group
        && let Some(attribute) = matrix.or(name)
    {
        let message = format!("a group has no `{}`", attribute.name.value);
        return Err(fault(codes::BLOCK, message, attribute.name.span));
    }
    let Some(matrix) = matrix else {
        if let Some(name) = name {
            let fault = fault(codes::BLOCK, "`name` needs a `matrix`", name.name.span);
            return Err(fault.with_help("without one, the label of the target is its name"));
        }
        return Ok(vec![(section.label.value.clone(), Instance { block: at, names: BTreeMap::new() })]);
    };
    let mut made: Vec<(String, Instance)> = Vec::new();
    for names in combinations(evaluator, &matrix.expression)? {
        let (label, span) = match name {
            None => (section.label.value.clone(), section.label.span),
            Some(name) => {
                let scope = Scope { names: names.clone(), around: None };
                let span = name.expression.span();
                let value = evaluate(evaluator, &name.expression, &scope)?;
                let text = decode::text(value).map_err(|why| unfit(why, span))?;
                (text.ok_or_else(|| unfit("a name must not be null", span))?, span)
            }
        };
        check_name(&label, span)?;
        if made.iter().any(|(known, _)| *known == label) {
            let fault = fault(codes::BLOCK, format!("the matrix makes two targets `{label}`"), span);
            return Err(fault.with_help("give the target a `name` made of the values of its matrix"));
        }
        made.push((label, Instance { block: at, names }));
    }
    Ok(made)
}

fn check_name(name: &str, span: Span) -> Result<(), Diagnostic> {
    if is_name(name) {
        return Ok(());
    }
    Err(fault(codes::NAME, format!("`{name}` cannot be the name of a target"), span)
        .with_help("names are made of letters, digits, `_` and `-`; `sanitize(…)` makes one of any text"))
}

/// So many targets one matrix makes at most.
const MOST: usize = 10_000;

/// Returns all combinations of the values of a matrix.
fn combinations(
    evaluator: &Evaluator<'_>,
    expression: &crate::syntax::Expression,
) -> Result<Vec<BTreeMap<String, Value>>, Diagnostic> {
    let span = expression.span();
    let value = evaluator.value_of(expression)?;
    let axes = value.entries().ok_or_else(|| unfit("a matrix is a map of lists", span))?;
    let mut all = vec![BTreeMap::new()];
    for (axis, values) in axes {
        let values =
            values.pairs().ok_or_else(|| unfit(format!("`{axis}` of a matrix has to be a list"), span))?;
        if all.len().saturating_mul(values.len()) > MOST {
            return Err(unfit(format!("this matrix makes more than {MOST} targets"), span));
        }
        let with = |value: &Value, names: &BTreeMap<String, Value>| {
            let mut names = names.clone();
            names.insert(axis.clone(), value.clone());
            names
        };
        all = values
            .iter()
            .flat_map(|(_, value)| all.iter().map(|names| with(value, names)).collect::<Vec<_>>())
            .collect();
    }
    Ok(all)
}

//! All bake files together: their variables, functions, targets and groups.
//!
//! In: the bodies of the files in their order. Out: a [`Document`], in which a later variable, function or value takes the
//! place of an earlier one of its name, and blocks stand in the order of the files. What no bake file has is told as a
//! warning, because other readers of these files pass over it.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Spanned};

use crate::codes;
use crate::evaluate::fault;
use crate::syntax::{Attribute, Block, Body, Expression};

/// What stands in the files.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) functions: BTreeMap<String, Function>,
    /// `NAME = value` outside of all blocks.
    pub(crate) values: BTreeMap<String, Attribute>,
    pub(crate) blocks: Vec<Section>,
}

/// A variable.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: Spanned<String>,
    pub(crate) kind: Option<Expression>,
    pub(crate) default: Option<Expression>,
    pub(crate) description: Option<Expression>,
    pub(crate) rules: Vec<Rule>,
}

/// What has to be true of a variable.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) condition: Expression,
    pub(crate) message: Expression,
}

/// A function of the files.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<String>,
    pub(crate) variadic: Option<String>,
    pub(crate) result: Expression,
}

/// Whether a block is a target or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SectionKind {
    Target,
    Group,
}

/// A target or a group as it is written.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    pub(crate) label: Spanned<String>,
    pub(crate) body: Body,
}

/// Attributes of a target, but for `name` and `matrix`.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "annotations",
    "args",
    "attest",
    "cache-from",
    "cache-to",
    "call",
    "context",
    "contexts",
    "description",
    "dockerfile",
    "dockerfile-inline",
    "entitlements",
    "extra-hosts",
    "inherits",
    "labels",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platforms",
    "policy",
    "pull",
    "resources",
    "secret",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

impl SectionKind {
    pub(crate) fn parse(kind: &str) -> Option<Self> {
        match kind {
            "target" => Some(Self::Target),
            "group" => Some(Self::Group),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Group => "group",
        }
    }
}

impl Document {
    /// Adds a file.
    pub(crate) fn add(&mut self, body: Body, warnings: &mut Vec<Diagnostic>) -> Result<(), Diagnostic> {
        for attribute in body.attributes {
            let name = &attribute.name.value;
            if matches!(name.as_str(), "target" | "group" | "variable" | "function") {
                let message = format!("`{name}` is a kind of block, so this value is passed over");
                warnings.push(
                    warning(message, &attribute.name).with_help(format!("write {name} \"name\" {{ … }}")),
                );
            } else {
                self.values.insert(name.clone(), attribute);
            }
        }
        for block in body.blocks {
            self.block(block, warnings)?;
        }
        Ok(())
    }

    fn block(&mut self, block: Block, warnings: &mut Vec<Diagnostic>) -> Result<(), Diagnostic> {
        const KINDS: [&str; 4] = ["target", "group", "variable", "function"];
        let kind = block.kind.value.as_str();
        if !KINDS.contains(&kind) {
            let near = rb_diag::nearest(kind, KINDS);
            warnings.push(
                warning(format!("there is no block `{kind}`; it is passed over"), &block.kind)
                    .with_nearest(near),
            );
            return Ok(());
        }
        let [label] = block.labels.as_slice() else {
            let found = block.labels.len();
            let message = format!("a {kind} has one name, and this one has {found}");
            return Err(fault(codes::BLOCK, message, block.kind.span)
                .with_help(format!("write {kind} \"name\" {{ … }}")));
        };
        let label = label.clone();
        match kind {
            "variable" => drop(self.variables.insert(label.value.clone(), variable(label, block.body)?)),
            "function" => drop(self.functions.insert(label.value.clone(), function(&label, &block.body)?)),
            kind => {
                let kind = if kind == "target" { SectionKind::Target } else { SectionKind::Group };
                check(kind, &block.body, warnings);
                self.blocks.push(Section { kind, label, body: block.body });
            }
        }
        Ok(())
    }
}

fn warning(message: String, name: &Spanned<String>) -> Diagnostic {
    Diagnostic::warning(codes::UNKNOWN, message).with_label(name.span, "")
}

/// Warns of attributes and blocks that mean nothing.
fn check(kind: SectionKind, body: &Body, warnings: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = match kind {
        SectionKind::Target => ATTRIBUTES.iter().copied().chain(["name", "matrix"]).collect(),
        SectionKind::Group => vec!["targets", "description", "name", "matrix"],
    };
    let of = kind.name();
    for Attribute { name, .. } in
        body.attributes.iter().filter(|attribute| !known.contains(&attribute.name.value.as_str()))
    {
        let message = format!("a {of} has no `{}`; it is passed over", name.value);
        warnings
            .push(warning(message, name).with_nearest(rb_diag::nearest(&name.value, known.iter().copied())));
    }
    for block in &body.blocks {
        let name = &block.kind.value;
        let fault = warning(format!("a {of} holds no blocks; `{name}` is passed over"), &block.kind);
        let meant = known.contains(&name.as_str());
        warnings.push(if meant { fault.with_help(format!("write `{name} = {{ … }}`")) } else { fault });
    }
}

fn variable(name: Spanned<String>, body: Body) -> Result<Variable, Diagnostic> {
    let mut rules = Vec::new();
    for block in body.blocks.iter().filter(|block| block.kind.value == "validation") {
        let part = |part: &str| {
            block.body.attribute(part).map(|attribute| attribute.expression.clone()).ok_or_else(|| {
                fault(codes::BLOCK, format!("a validation needs its `{part}`"), block.kind.span)
            })
        };
        rules.push(Rule { condition: part("condition")?, message: part("error_message")? });
    }
    let part = |part: &str| body.attribute(part).map(|attribute| attribute.expression.clone());
    Ok(Variable {
        kind: part("type"),
        default: part("default"),
        description: part("description"),
        rules,
        name,
    })
}

fn function(name: &Spanned<String>, body: &Body) -> Result<Function, Diagnostic> {
    let needs = |part: &str| fault(codes::BLOCK, format!("a function needs its `{part}`"), name.span);
    let parameters = &body.attribute("params").ok_or_else(|| needs("params"))?.expression;
    let result = body.attribute("result").ok_or_else(|| needs("result"))?.expression.clone();
    let named = |expression: &Expression| {
        expression.keyword().ok_or_else(|| fault(codes::BLOCK, "a parameter is a name", expression.span()))
    };
    let listed = parameters
        .elements()
        .ok_or_else(|| fault(codes::BLOCK, "`params` is a list of names", parameters.span()))?;
    let parameters = listed.iter().map(named).collect::<Result<_, _>>()?;
    let variadic =
        body.attribute("variadic_params").map(|attribute| named(&attribute.expression)).transpose()?;
    Ok(Function { parameters, variadic, result })
}

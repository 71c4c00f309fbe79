//! A bake file as attributes and blocks, whether it is written in HCL or in JSON.
//!
//! In: a text. Out: a [`Body`]: what is assigned, and blocks with their labels, both in the order of the text. Nothing is
//! evaluated here. The grammar of HCL is `hcl-edit`'s.

use std::rc::Rc;

use hcl_edit::structure::{BlockLabel, Body as HclBody, Structure};
use rb_diag::{Diagnostic, SourceFile, SourceId, Span, Spanned};

use crate::node::{Node, Said};
use crate::{codes, heredoc, json};

/// What stands in a file or in a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) blocks: Vec<Block>,
}

/// `name = expression`.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: Spanned<String>,
    pub(crate) expression: Expression,
}

/// `kind "label" { body }`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: Spanned<String>,
    pub(crate) labels: Vec<Spanned<String>>,
    pub(crate) body: Body,
}

/// An expression, not evaluated.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Hcl(Rc<hcl_edit::expr::Expression>, At),
    Json(Rc<Node>),
}

/// In which file an expression of HCL stands, or where all of it is said to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) source: SourceId,
    /// The text of a JSON value that holds the expression.
    pub(crate) within: Option<Span>,
}

impl At {
    /// Returns the place of something the parser made.
    pub(crate) fn span(&self, made: &impl hcl_edit::Span) -> Span {
        self.within.unwrap_or_else(|| {
            let range = made.span().unwrap_or_default();
            Span { source: self.source, start: range.start as u32, end: range.end as u32 }
        })
    }
}

impl Expression {
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::Hcl(expression, at) => at.span(&**expression),
            Self::Json(node) => node.span,
        }
    }

    /// Returns it as HCL where a name or a type is wanted, which JSON writes as a text.
    pub(crate) fn to_hcl(&self) -> Option<(Rc<hcl_edit::expr::Expression>, At)> {
        match self {
            Self::Hcl(expression, at) => Some((Rc::clone(expression), *at)),
            Self::Json(node) => {
                let Said::Text(text) = &node.said else { return None };
                let at = At { source: node.span.source, within: Some(node.span) };
                hcl_edit::parser::parse_expr(text).ok().map(|expression| (Rc::new(expression), at))
            }
        }
    }

    /// Returns the elements of a written list.
    pub(crate) fn elements(&self) -> Option<Vec<Self>> {
        match self {
            Self::Hcl(expression, at) => {
                let array = expression.as_array()?;
                Some(array.iter().map(|element| Self::Hcl(Rc::new(element.clone()), *at)).collect())
            }
            Self::Json(node) => match &node.said {
                Said::List(nodes) => {
                    Some(nodes.iter().map(|node| Self::Json(Rc::new(node.clone()))).collect())
                }
                Said::Null | Said::Bool(_) | Said::Number(_) | Said::Text(_) | Said::Map(_) => None,
            },
        }
    }

    /// Returns the name, if it is nothing but a name.
    pub(crate) fn keyword(&self) -> Option<String> {
        let (expression, _) = self.to_hcl()?;
        expression.as_variable().map(|name| name.to_string())
    }
}

impl Body {
    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().rev().find(|attribute| attribute.name.value == name)
    }
}

/// Reads a file of HCL.
pub(crate) fn parse_hcl(file: &SourceFile) -> Result<Body, Diagnostic> {
    let mut body = hcl_edit::parser::parse_body(&file.text).map_err(|error| {
        let start = error.location().offset().min(file.text.len()) as u32;
        let end = (start + 1).min(file.text.len() as u32);
        Diagnostic::error(codes::SYNTAX, format!("`{}` is no HCL", file.name))
            .with_label(Span { source: file.id, start, end }, error.message().replace('\n', "; "))
    })?;
    heredoc::settle(&file.text, &mut body);
    Ok(from_hcl(&body, At { source: file.id, within: None }))
}

fn from_hcl(body: &HclBody, at: At) -> Body {
    let mut made = Body::default();
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => made.attributes.push(Attribute {
                name: Spanned::new(attribute.key.to_string(), at.span(&attribute.key)),
                expression: Expression::Hcl(Rc::new(attribute.value.clone()), at),
            }),
            Structure::Block(block) => made.blocks.push(Block {
                kind: Spanned::new(block.ident.to_string(), at.span(&block.ident)),
                labels: block.labels.iter().map(|label| from_label(label, at)).collect(),
                body: from_hcl(&block.body, at),
            }),
        }
    }
    made
}

fn from_label(label: &BlockLabel, at: At) -> Spanned<String> {
    match label {
        BlockLabel::Ident(name) => Spanned::new(name.to_string(), at.span(name)),
        BlockLabel::String(text) => Spanned::new(text.to_string(), at.span(text)),
    }
}

/// The names that are blocks at the top of a JSON file; all have one label.
const TOP: &[&str] = &["target", "group", "variable", "function"];

/// Reads a file of JSON.
pub(crate) fn parse_json(file: &SourceFile) -> Result<Body, Diagnostic> {
    let node = json::parse(file)?;
    let mut body = Body::default();
    for object in objects(&node)? {
        for (name, value) in object.entries() {
            if name.value == "//" {
                continue;
            }
            if TOP.contains(&name.value.as_str()) {
                labelled(name, value, &mut body.blocks)?;
            } else {
                body.attributes.push(assigned(name, value));
            }
        }
    }
    Ok(body)
}

/// Returns the objects of a value that is one, or a list of them.
fn objects(node: &Node) -> Result<Vec<&Node>, Diagnostic> {
    match &node.said {
        Said::Map(_) => Ok(vec![node]),
        Said::List(nodes) => Ok(nodes.iter().map(objects).collect::<Result<Vec<_>, _>>()?.concat()),
        Said::Null => Ok(Vec::new()),
        Said::Bool(_) | Said::Number(_) | Said::Text(_) => {
            Err(Diagnostic::error(codes::SYNTAX, format!("an object is wanted here, not {}", node.kind()))
                .with_label(node.span, ""))
        }
    }
}

fn labelled(kind: &Spanned<String>, value: &Node, blocks: &mut Vec<Block>) -> Result<(), Diagnostic> {
    for object in objects(value)? {
        for (label, value) in object.entries().iter().filter(|(label, _)| label.value != "//") {
            for body in objects(value)? {
                let body = inner(body, kind.value == "variable")?;
                blocks.push(Block { kind: kind.clone(), labels: vec![label.clone()], body });
            }
        }
    }
    Ok(())
}

fn inner(object: &Node, validated: bool) -> Result<Body, Diagnostic> {
    let mut body = Body::default();
    for (name, value) in object.entries().iter().filter(|(name, _)| name.value != "//") {
        if validated && name.value == "validation" {
            for object in objects(value)? {
                body.blocks.push(Block {
                    kind: name.clone(),
                    labels: Vec::new(),
                    body: inner(object, false)?,
                });
            }
        } else {
            body.attributes.push(assigned(name, value));
        }
    }
    Ok(body)
}

fn assigned(name: &Spanned<String>, value: &Node) -> Attribute {
    Attribute { name: name.clone(), expression: Expression::Json(Rc::new(value.clone())) }
}

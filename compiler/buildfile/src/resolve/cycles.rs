//! Targets that need each other, and functions that call themselves, found before anything is evaluated.
//!
//! Every call that stands outside of IF and FOR is made whenever its recipe is evaluated, so a chain of such calls
//! back to its start never ends, whatever arguments it carries. What conditions and variables decide is caught by the
//! evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rb_diag::{Diagnostic, Diagnostics, Span};
use rb_frontend::{FunctionRef, ProjectRef, TargetRef};

use crate::codes;

/// A recipe that calls and is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Target(TargetRef),
    Function(FunctionRef),
}

impl Node {
    pub(super) fn project(&self) -> &ProjectRef {
        match self {
            Self::Target(target) => &target.project,
            Self::Function(function) => &function.project,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Target(target) => &target.name,
            Self::Function(function) => &function.name,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => target.fmt(out),
            Self::Function(function) => function.fmt(out),
        }
    }
}

/// Calls that are always made, by the recipe that makes them.
pub(super) type Graph = BTreeMap<Node, Vec<(Node, Span)>>;

/// Reports each cycle of a graph once, at the call that closes it.
pub(super) fn find(graph: &Graph) -> Diagnostics {
    let mut errors = Vec::new();
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        // Depth first, with the path on a stack of our own: a file may hold thousands of targets in one chain.
        let mut path: Vec<(&Node, &[(Node, Span)])> = Vec::new();
        // The nodes on the path again, to ask for one of them.
        let mut on_path = BTreeSet::new();
        if done.insert(start) {
            on_path.insert(start);
            path.push((start, calls(graph, start)));
        }
        while let Some((_, open)) = path.last_mut() {
            let Some(((next, span), rest)) = open.split_first() else {
                if let Some((node, _)) = path.pop() {
                    on_path.remove(node);
                }
                continue;
            };
            *open = rest;
            if on_path.contains(next) {
                let at = path.iter().position(|(node, _)| *node == next).unwrap_or_default();
                let round: Vec<&Node> = path[at..].iter().map(|(node, _)| *node).chain([next]).collect();
                errors.push(describe(&round).with_label(*span, "closes the circle"));
            } else if done.insert(next) {
                on_path.insert(next);
                path.push((next, calls(graph, next)));
            }
        }
    }
    errors
}

fn calls<'a>(graph: &'a Graph, node: &Node) -> &'a [(Node, Span)] {
    graph.get(node).map(Vec::as_slice).unwrap_or_default()
}

fn describe(round: &[&Node]) -> Diagnostic {
    let names: Vec<String> = round.iter().map(ToString::to_string).collect();
    if round.iter().any(|node| matches!(node, Node::Target(_))) {
        return cycle(&names);
    }
    let message = format!("functions call each other without end: {}", names.join(" → "));
    Diagnostic::error(codes::CYCLE, message).with_help("a call of itself has to stand in an IF that ends it")
}

/// Says that a chain of targets leads back to its start.
pub(crate) fn cycle(names: &[String]) -> Diagnostic {
    Diagnostic::error(codes::CYCLE, format!("targets need each other: {}", names.join(" → ")))
        .with_help("move what both need into a third target")
}

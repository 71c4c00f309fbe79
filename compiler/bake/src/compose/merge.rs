//! A later compose file over an earlier one.

use rb_diag::{Diagnostic, Span};

use super::refused;
use crate::node::{Entries, Mark, Node, Said};

/// Lists of `NAME=value` below a service; those of both files count, and each may be written as a mapping.
const NAMED: &[&[&str]] = &[
    &["build", "args"],
    &["build", "additional_contexts"],
    &["build", "labels"],
    &["build", "extra_hosts"],
    &["environment"],
    &["env_file"],
];

/// Lays `over` over `base`; `path` tells where, from the top.
pub(super) fn merge(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Diagnostic> {
    match over.mark {
        Mark::Override => return Ok(Node { mark: Mark::Merge, ..over }),
        Mark::Reset => return Ok(Node::new(over.span, Said::Null)),
        Mark::Merge => {}
    }
    let service: Vec<&str> = match path.as_slice() {
        [first, _, rest @ ..] if first == "services" => rest.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    if NAMED.contains(&service.as_slice()) {
        let mut all = listed(base)?;
        all.extend(listed(over.clone())?);
        return Ok(Node::new(over.span, Said::List(all)));
    }
    let (base, over) = if service == ["build"] { (built(base), built(over)) } else { (base, over) };
    let (span, kind) = (over.span, over.kind());
    match (base.said, over.said) {
        (base, Said::Null) => Ok(Node::new(span, base)),
        (Said::Map(base), Said::Map(over)) => Ok(Node::new(span, Said::Map(mapped(base, over, path)?))),
        (Said::List(mut base), Said::List(over)) => {
            for node in over {
                if !base.iter().any(|known| known.said == node.said) {
                    base.push(node);
                }
            }
            Ok(Node::new(span, Said::List(base)))
        }
        // One limit may be a number here and a pair there.
        (_, over) if service.first() == Some(&"build") && service.get(1) == Some(&"ulimits") => {
            Ok(Node::new(span, over))
        }
        (Said::Map(_), _) | (Said::List(_), _) => Err(refused(
            format!("`{}` cannot be {kind} here: it is something else in an earlier file", path.join(".")),
            span,
        )),
        (_, over) => Ok(Node::new(span, over)),
    }
}

fn mapped(mut base: Entries, over: Entries, path: &mut Vec<String>) -> Result<Entries, Diagnostic> {
    for (name, value) in over {
        match base.iter().position(|(known, _)| known.value == name.value) {
            None if value.mark == Mark::Reset => {}
            None => base.push((name, value)),
            Some(at) if value.mark == Mark::Reset => drop(base.remove(at)),
            Some(at) => {
                let (known, old) = base.swap_remove(at);
                path.push(name.value);
                let merged = merge(old, value, path);
                path.pop();
                base.push((known, merged?));
            }
        }
    }
    Ok(base)
}

/// Returns what `build` says as a mapping.
fn built(node: Node) -> Node {
    let span = node.span;
    match node.said {
        Said::Text(_) => {
            let entry = (rb_diag::Spanned::new("context".to_owned(), span), node);
            Node::new(span, Said::Map(vec![entry]))
        }
        _ => node,
    }
}

/// Returns a mapping, a list or a text as a list of `NAME=value`.
fn listed(node: Node) -> Result<Vec<Node>, Diagnostic> {
    let span = node.span;
    match node.said {
        Said::List(nodes) => Ok(nodes),
        Said::Map(entries) => entries
            .into_iter()
            .map(|(name, value)| pair(&name.value, &value))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat()),
        Said::Text(_) => Ok(vec![node]),
        Said::Null => Ok(Vec::new()),
        Said::Bool(_) | Said::Number(_) => Err(refused("a list or a mapping is wanted here", span)),
    }
}

fn pair(name: &str, value: &Node) -> Result<Vec<Node>, Diagnostic> {
    let text = |span: Span, text: String| Node::text(span, text);
    if value.is_null() {
        return Ok(vec![text(value.span, name.to_owned())]);
    }
    if let Said::List(nodes) = &value.said {
        let each = nodes.iter().map(|node| pair(name, node)).collect::<Result<Vec<_>, _>>()?;
        return Ok(each.concat());
    }
    let scalar = value.scalar().ok_or_else(|| refused(format!("`{name}` has to be a text"), value.span))?;
    Ok(vec![text(value.span, format!("{name}={scalar}"))])
}

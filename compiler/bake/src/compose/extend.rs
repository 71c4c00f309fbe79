//! Services that extend others, and files that include others.

use rb_diag::{Diagnostic, SourceFile, Spanned};
use rb_path::{clean, directory};

use super::merge::merge;
use super::{Around, interpolate, refused};
use crate::node::{Node, Said};
use crate::remote::is_remote;
use crate::yaml;

/// So deep files include others, and services extend others.
const DEEPEST: usize = 20;

/// Resolves `include` and `extends` of one file.
pub(super) fn resolve(model: &mut Node, around: &Around<'_>) -> Result<(), Diagnostic> {
    include(model, around, 0)?;
    resolve_services(model, around)
}

fn replace(model: &mut Node, name: &str, value: Node) {
    if let Said::Map(entries) = &mut model.said {
        entries.retain(|(known, _)| known.value != name);
        entries.push((Spanned::new(name.to_owned(), value.span), value));
    }
}

/// Puts the services and secrets of included files beside those of this one.
fn include(model: &mut Node, around: &Around<'_>, depth: usize) -> Result<(), Diagnostic> {
    let Some(included) = model.get("include").cloned() else { return Ok(()) };
    if depth >= DEEPEST {
        return Err(refused("files include one another too deeply", included.span));
    }
    for entry in included.elements() {
        let paths = match &entry.said {
            Said::Map(_) => entry.get("path").map(texts).unwrap_or_default(),
            _ => texts(entry),
        };
        if paths.is_empty() {
            return Err(refused("an include names a file", entry.span));
        }
        let mut other: Option<Node> = None;
        for path in &paths {
            let node = file(path, entry, around)?;
            other = Some(match other {
                Some(base) => merge(base, node, &mut Vec::new())?,
                None => node,
            });
        }
        let Some(mut other) = other else { continue };
        let base =
            entry.get("project_directory").and_then(Node::scalar).unwrap_or_else(|| directory(&paths[0]));
        include(&mut other, around, depth + 1)?;
        resolve_services(&mut other, around)?;
        rebase(&mut other, &base);
        for part in ["services", "secrets"] {
            let (Some(theirs), mine) = (other.get(part).cloned(), model.get(part).cloned()) else { continue };
            let merged = match mine {
                Some(mine) => merge(theirs, mine, &mut vec![part.to_owned()])?,
                None => theirs,
            };
            replace(model, part, merged);
        }
    }
    Ok(())
}

fn resolve_services(model: &mut Node, around: &Around<'_>) -> Result<(), Diagnostic> {
    let Some(services) = model.get("services").cloned() else { return Ok(()) };
    let mut made = Vec::new();
    for (name, service) in services.entries() {
        made.push((
            name.clone(),
            extended(service.clone(), &services, around, &mut vec![name.value.clone()])?,
        ));
    }
    replace(model, "services", Node::new(services.span, Said::Map(made)));
    Ok(())
}

fn texts(node: &Node) -> Vec<String> {
    match &node.said {
        Said::List(nodes) => nodes.iter().filter_map(Node::scalar).collect(),
        _ => node.scalar().into_iter().collect(),
    }
}

fn file(path: &str, named: &Node, around: &Around<'_>) -> Result<Node, Diagnostic> {
    let text = around.read(path, named.span)?;
    let text = text.ok_or_else(|| refused(format!("there is no file `{path}`"), named.span))?;
    // What is wrong within it is told at the place that names it.
    let file = SourceFile::new(named.span.source, path, text);
    let node = yaml::parse(&file).and_then(|node| interpolate::all(node, around));
    let mut node = node.map_err(|why| refused(format!("{path}: {}", why.message), named.span))?;
    moved(&mut node, named);
    Ok(node)
}

/// Gives everything in a node the place of another one.
fn moved(node: &mut Node, to: &Node) {
    node.span = to.span;
    match &mut node.said {
        Said::List(nodes) => nodes.iter_mut().for_each(|node| moved(node, to)),
        Said::Map(entries) => {
            for (name, node) in entries {
                name.span = to.span;
                moved(node, to);
            }
        }
        Said::Null | Said::Bool(_) | Said::Number(_) | Said::Text(_) => {}
    }
}

/// Lays a service over the one it extends.
fn extended(
    mut service: Node,
    services: &Node,
    around: &Around<'_>,
    above: &mut Vec<String>,
) -> Result<Node, Diagnostic> {
    let Some(extends) = service.get("extends").cloned() else { return Ok(service) };
    let name = match &extends.said {
        Said::Map(_) => extends.get("service").and_then(Node::scalar),
        _ => extends.scalar(),
    };
    let name = name.ok_or_else(|| refused("`extends` names a service", extends.span))?;
    let path = extends.get("file").and_then(Node::scalar);
    let key = format!("{}#{name}", path.as_deref().unwrap_or_default());
    if above.contains(&key) || (path.is_none() && above.contains(&name)) || above.len() >= DEEPEST {
        return Err(refused(format!("`{name}` extends itself"), extends.span));
    }
    above.push(if path.is_some() { key } else { name.clone() });
    let missing = || refused(format!("there is no service `{name}` to extend"), extends.span);
    let base = match &path {
        None => extended(services.get(&name).cloned().ok_or_else(missing)?, services, around, above)?,
        Some(path) => {
            let other = file(path, &extends, around)?;
            let services = other.get("services").cloned().ok_or_else(missing)?;
            let mut base =
                extended(services.get(&name).cloned().ok_or_else(missing)?, &services, around, above)?;
            rebase_service(&mut base, &directory(path));
            base
        }
    };
    above.pop();
    if let Said::Map(entries) = &mut service.said {
        entries.retain(|(name, _)| name.value != "extends");
    }
    merge(base, service, &mut vec!["services".to_owned(), name])
}

/// Makes the paths of a file that lies elsewhere relative to here.
fn rebase(model: &mut Node, base: &str) {
    let Said::Map(parts) = &mut model.said else { return };
    for (name, part) in parts {
        let Said::Map(entries) = &mut part.said else { continue };
        for (_, entry) in entries {
            match name.value.as_str() {
                "services" => rebase_service(entry, base),
                "secrets" => rebase_at(entry, "file", base),
                _ => {}
            }
        }
    }
}

fn rebase_service(service: &mut Node, base: &str) {
    let Said::Map(entries) = &mut service.said else { return };
    for (name, value) in entries {
        match (name.value.as_str(), &mut value.said) {
            ("build", Said::Text(path)) => *path = rebased(path, base),
            ("build", Said::Map(_)) => {
                rebase_at(value, "context", base);
                if let Said::Map(build) = &mut value.said
                    && let Some((_, contexts)) =
                        build.iter_mut().find(|(name, _)| name.value == "additional_contexts")
                    && let Said::Map(contexts) = &mut contexts.said
                {
                    for (_, context) in contexts {
                        if let Said::Text(path) = &mut context.said {
                            *path = rebased(path, base);
                        }
                    }
                }
            }
            ("env_file", Said::Text(path)) => *path = rebased(path, base),
            _ => {}
        }
    }
}

fn rebase_at(node: &mut Node, name: &str, base: &str) {
    if let Said::Map(entries) = &mut node.said
        && let Some((_, value)) = entries.iter_mut().find(|(known, _)| known.value == name)
        && let Said::Text(path) = &mut value.said
    {
        *path = rebased(path, base);
    }
}

fn rebased(path: &str, base: &str) -> String {
    if base == "."
        || path.starts_with('/')
        || path.contains("://")
        || path.starts_with("service:")
        || is_remote(path)
    {
        return path.to_owned();
    }
    clean(&format!("{base}/{path}"))
}

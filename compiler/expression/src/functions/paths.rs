//! Functions of paths: text alone, `/` in between, links not known.

use super::Arguments;
use crate::{Stop, Value};

type Outcome = Result<Value, Stop>;

fn on(arguments: &Arguments<'_>, work: fn(&str) -> &str) -> Outcome {
    Ok(Value::String(work(arguments.text(0)?).to_owned()))
}

pub(super) fn basename(arguments: &Arguments<'_>) -> Outcome {
    on(arguments, last_part)
}

pub(super) fn dirname(arguments: &Arguments<'_>) -> Outcome {
    on(arguments, |path| {
        let path = trimmed(path);
        match path.rfind('/') {
            Some(slash) => trimmed(&path[..=slash]),
            None => ".",
        }
    })
}

pub(super) fn stem(arguments: &Arguments<'_>) -> Outcome {
    on(arguments, |path| {
        let name = last_part(path);
        dot(name).map_or(name, |dot| &name[..dot])
    })
}

pub(super) fn extension(arguments: &Arguments<'_>) -> Outcome {
    on(arguments, |path| {
        let name = last_part(path);
        dot(name).map_or("", |dot| &name[dot + 1..])
    })
}

/// Returns where the extension starts; a dot in front hides a file, and `..` is no name.
fn dot(name: &str) -> Option<usize> {
    name.rfind('.').filter(|at| *at > 0 && name != "..")
}

/// Returns a path without slashes at its end, except the root.
fn trimmed(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/",
        path => path,
    }
}

fn last_part(path: &str) -> &str {
    match trimmed(path) {
        "/" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

pub(super) fn join_path(arguments: &Arguments<'_>) -> Outcome {
    let mut joined = String::new();
    for (at, part) in arguments.spread().iter().enumerate() {
        let Value::String(part) = part else { return Err(arguments.wrong_type(at, "string", part)) };
        if part.starts_with('/') {
            joined.clear();
        } else if !joined.is_empty() && !joined.ends_with('/') && !part.is_empty() {
            joined.push('/');
        }
        joined.push_str(part);
    }
    Ok(Value::String(joined))
}

pub(super) fn normalize_path(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::String(rb_path::clean(arguments.text(0)?)))
}

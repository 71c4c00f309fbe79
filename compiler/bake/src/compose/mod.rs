//! Compose files: each service with a `build` is a target.
//!
//! In: files, in their order. Out: targets named after services, and a group `default` of all. The walk: `yaml` →
//! `interpolate` (variables) → `extend` (services that extend others, included files) → `merge` (later files over earlier
//! ones) → `service` (a service → a target). Only what a build needs is looked at.
//! Source: compose-spec, build.md, 05-services.md, 13-merge.md; buildx, "x-bake".

mod dotenv;
mod extend;
mod interpolate;
mod merge;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{Diagnostic, SourceFile, Span};

use crate::config::Config;
use crate::node::{Node, Said};
use crate::{Group, Request, codes, of_file, yaml};

const CODE: &str = codes::COMPOSE;

/// Makes an error about a place in a compose file.
fn refused(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic::error(CODE, message).with_label(span, "")
}

/// Where compose files get their variables and other files from.
struct Around<'r> {
    request: &'r Request<'r>,
    dotenv: BTreeMap<String, String>,
}

impl Around<'_> {
    /// Returns a variable: from the command line, the environment, or `.env`.
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.request.lookup(name).or_else(|| self.dotenv.get(name).cloned());
        match value {
            // A project that nobody named has this name in bake files.
            None if name == "COMPOSE_PROJECT_NAME" => Some("bake".to_owned()),
            value => value,
        }
    }

    /// Returns the text of a file; `span` is where it is named.
    fn read(&self, path: &str, span: Span) -> Result<Option<String>, Diagnostic> {
        let text = self.request.surroundings.read(path);
        text.map_err(|why| refused(format!("`{path}` cannot be read: {why}"), span))
    }
}

/// Reads compose files.
pub(crate) fn load(files: &[&Arc<SourceFile>], request: &Request<'_>) -> Result<Config, Diagnostic> {
    let text = request
        .surroundings
        .read(".env")
        .map_err(|why| Diagnostic::error(CODE, format!("`.env` cannot be read: {why}")))?;
    let lookup = |name: &str| request.environment(name);
    let dotenv = dotenv::parse(&text.unwrap_or_default(), &lookup)
        .map_err(|why| Diagnostic::error(CODE, format!(".env: {why}")))?;
    let around = Around { request, dotenv };
    let mut model: Option<Node> = None;
    for file in files {
        let mut node = interpolate::all(yaml::parse(file)?, &around)?;
        if !matches!(node.said, Said::Map(_)) {
            return Err(of_file(file, CODE, format!("a compose file is a mapping, not {}", node.kind())));
        }
        extend::resolve(&mut node, &around)?;
        model = Some(match model {
            Some(base) => merge::merge(base, node, &mut Vec::new())?,
            None => node,
        });
    }
    let Some(model) = model else { return Ok(Config::default()) };
    let mut config = Config::default();
    let mut group = Group::default();
    let Some(services) = model.get("services") else { return Ok(config) };
    let mut services: Vec<_> = services.entries().iter().collect();
    services.sort_by(|(left, _), (right, _)| left.value.cmp(&right.value));
    for (name, service) in services {
        let span = name.span;
        let Some((name, target)) = service::target(name, service, model.get("secrets"), &around)? else {
            continue;
        };
        if let Some(other) = group.targets.iter().find(|other| **other == name) {
            return Err(refused(
                format!("two services are the target `{other}`, as `.` stands for `_` there"),
                span,
            ));
        }
        group.targets.push(name.clone());
        config.targets.push((name, target));
    }
    if !model.get("services").is_none_or(|services| services.entries().is_empty()) {
        config.groups.push(("default".to_owned(), group));
    }
    Ok(config)
}

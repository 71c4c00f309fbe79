//! Which files there are, what they are written in, and all of them together.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{Diagnostics, SourceFile};

use crate::config::{Config, evaluate_document};
use crate::document::Document;
use crate::evaluator::Given;
use crate::{Request, codes, compose, syntax, yaml};

/// The files that are read when none is named, as far as they exist, in this order.
pub const DEFAULT_FILES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// HCL.
    Hcl,
    /// JSON of the same meaning.
    Json,
    /// A compose file.
    Compose,
}

impl FileKind {
    /// Tells by the name of a file, else by its text.
    fn of(file: &SourceFile) -> Self {
        let name = file.name.to_lowercase();
        let ends = |end: &str| name.ends_with(end);
        if ends(".yml") || ends(".yaml") {
            return Self::Compose;
        }
        if ends(".json") {
            return Self::Json;
        }
        if ends(".hcl") {
            return Self::Hcl;
        }
        if file.text.trim_start().starts_with('{') {
            return Self::Json;
        }
        let services = yaml::parse(file).is_ok_and(|node| node.get("services").is_some());
        if services { Self::Compose } else { Self::Hcl }
    }
}

/// Reads all files.
pub(crate) fn load(request: &Request<'_>, warnings: &mut Diagnostics) -> Result<Config, Diagnostics> {
    if request.files.is_empty() {
        let fault = rb_diag::Diagnostic::error(codes::NO_FILE, "there is no bake file");
        return Err(vec![
            fault.with_help(format!("name one by -f, or write one of {}", DEFAULT_FILES.join(", "))),
        ]);
    }
    let mut composed: Vec<&Arc<SourceFile>> = Vec::new();
    let mut document = Document::default();
    let mut faults = Diagnostics::new();
    for file in request.files {
        let body = match FileKind::of(file) {
            FileKind::Compose => {
                composed.push(file);
                continue;
            }
            FileKind::Json => syntax::parse_json(file),
            FileKind::Hcl => syntax::parse_hcl(file),
        };
        if let Err(why) = body.and_then(|body| document.add(body, warnings)) {
            faults.push(why);
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let config = if composed.is_empty() {
        Config::default()
    } else {
        compose::load(&composed, request).map_err(|why| vec![why])?
    };
    let own = BTreeMap::from([
        ("BAKE_CMD_CONTEXT".to_owned(), request.context.clone()),
        ("BAKE_LOCAL_PLATFORM".to_owned(), request.platform.clone()),
    ]);
    let lookup = |name: &str| request.lookup(name);
    let given = Given { own, lookup: &lookup, outside: request.surroundings };
    evaluate_document(&document, given, config)
}

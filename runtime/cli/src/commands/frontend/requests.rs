//! Questions about a Buildfile in place of a build: `docker buildx build --call`.
//!
//! Answers have the members and tables of BuildKit's own. Source: BuildKit's `frontend/subrequests`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rb_buildfile::{TargetSummary, list_functions, list_targets, needs_of};
use rb_diag::{Diagnostic, Diagnostics, SourceMap};
use rb_frontend::{ProjectRef, World};
use serde_json::json;

use super::lint;
use super::outline::Outline;

const DESCRIBE: &str = "frontend.subrequests.describe";
const TARGETS: &str = "frontend.targets";
const OUTLINE: &str = "frontend.outline";
/// Name and what it does, of each that is answered.
const ANSWERED: [(&str, &str); 4] = [
    (DESCRIBE, "List available subrequest types"),
    (lint::NAME, "List what is unusual or wrong in a build file"),
    (OUTLINE, "List all parameters current build target supports"),
    (TARGETS, "List all targets current build supports"),
];
pub(super) const VERSION: &str = "1.0.0";

/// Of which target is asked, where one is named, and what it is given.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) target: Option<&'a str>,
    pub(super) args: &'a BTreeMap<String, String>,
}

/// Answers a question; nothing where it is none that this frontend knows.
pub(super) async fn answer(
    request: &str,
    world: &dyn World,
    sources: &SourceMap,
    asked: Asked<'_>,
) -> Result<Option<BTreeMap<String, Bytes>>, Diagnostics> {
    let (json, text) = match request {
        DESCRIBE => (described(), described_text()),
        TARGETS | OUTLINE => {
            let own = list_targets(world, &root()).await?;
            let chosen = asked.target.map(str::to_owned).or_else(|| chosen(&own));
            let targets: Vec<TargetSummary> = [base()].into_iter().chain(own).collect();
            let file = world.workspace().buildfile(&root()).await.ok();
            let file = file.and_then(|file| sources.get(file.id));
            let source = file.map(|file| STANDARD.encode(file.text.as_bytes()));
            if request == OUTLINE {
                let Some(outline) = outlined(world, &targets, chosen.as_deref(), asked).await? else {
                    return Err(vec![no_target(chosen.as_deref())]);
                };
                (outline.json(source), outline.text())
            } else {
                let functions = list_functions(world, &root()).await?;
                let chosen = chosen.as_deref();
                (listed(&targets, chosen, source), listed_text(&targets, chosen, &functions))
            }
        }
        _ => return Ok(None),
    };
    let pairs = [("result.json", json), ("result.txt", text), ("version", VERSION.to_owned())];
    Ok(Some(pairs.map(|(name, value)| (name.to_owned(), Bytes::from(value))).into()))
}

/// Returns what a target may be given and asks for; nothing where there is no such target.
async fn outlined(
    world: &dyn World,
    targets: &[TargetSummary],
    name: Option<&str>,
    asked: Asked<'_>,
) -> Result<Option<Outline>, Diagnostics> {
    let Some(target) = targets.iter().find(|target| Some(target.name.as_str()) == name) else {
        return Ok(None);
    };
    let needs = needs_of(world, &root(), &target.name).await?.unwrap_or_default();
    Ok(Some(Outline::new(target, needs, asked.args)))
}

/// The recipe above all targets, which every file has.
fn base() -> TargetSummary {
    TargetSummary {
        name: "base".to_owned(),
        doc: None,
        args: Vec::new(),
        saves_images: Vec::new(),
        saves_artifacts: Vec::new(),
        is_function: false,
    }
}

pub(super) fn no_target(name: Option<&str>) -> Diagnostic {
    let code = "rb::frontend::no_target";
    match name {
        Some(name) => Diagnostic::error(code, format!("the Buildfile has no target `{name}` to tell of")),
        None => Diagnostic::error(code, "the Buildfile has no target"),
    }
}

/// Returns the target that is built where none is named; none where there is none at all.
pub(super) async fn default_target(world: &dyn World) -> Result<Option<String>, Diagnostics> {
    Ok(chosen(&list_targets(world, &root()).await?))
}

/// The last one that saves an image, or else the last one.
fn chosen(targets: &[TargetSummary]) -> Option<String> {
    let last = targets.iter().rev().find(|target| !target.saves_images.is_empty()).or(targets.last());
    last.map(|target| target.name.clone())
}

pub(super) fn root() -> ProjectRef {
    ProjectRef::Local { dir: String::new() }
}

fn described() -> String {
    let metadata = [
        json!({ "name": "result.json", "description": "" }),
        json!({ "name": "result.txt", "description": "" }),
    ];
    let each = ANSWERED.iter().map(|(name, description)| {
        json!({
            "name": name, "version": VERSION, "type": "rpc", "description": description,
            "opts": [], "inputs": [], "metadata": metadata, "refs": [],
        })
    });
    format!("{:#}", serde_json::Value::Array(each.collect()))
}

fn described_text() -> String {
    let rows = ANSWERED.iter().map(|(name, description)| {
        vec![name.trim_start_matches("frontend.").to_owned(), VERSION.to_owned(), (*description).to_owned()]
    });
    table(
        [["NAME", "VERSION", "DESCRIPTION"].map(ToOwned::to_owned).to_vec()]
            .into_iter()
            .chain(rows)
            .collect(),
    )
}

fn listed(targets: &[TargetSummary], chosen: Option<&str>, source: Option<String>) -> String {
    let each = targets.iter().map(|target| {
        let mut told = serde_json::Map::new();
        told.insert("name".to_owned(), json!(target.name));
        if chosen == Some(&target.name) {
            told.insert("default".to_owned(), json!(true));
        }
        if let Some(doc) = &target.doc {
            told.insert("description".to_owned(), json!(doc));
        }
        serde_json::Value::Object(told)
    });
    format!(
        "{:#}",
        json!({ "targets": each.collect::<Vec<_>>(), "sources": source.into_iter().collect::<Vec<_>>() })
    )
}

/// Functions are no targets: what they are is told, so that nobody misses them.
fn listed_text(targets: &[TargetSummary], chosen: Option<&str>, functions: &[TargetSummary]) -> String {
    let rows = targets.iter().map(|target| {
        let mark = if chosen == Some(&target.name) { " (default)" } else { "" };
        let doc = target.doc.as_deref().and_then(|doc| doc.lines().next()).unwrap_or_default();
        vec![format!("{}{mark}", target.name), doc.to_owned()]
    });
    let mut text =
        table([vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]].into_iter().chain(rows).collect());
    if !functions.is_empty() {
        let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        text.push_str(&format!("\nFunctions, which recipes call with DO: {}\n", names.join(", ")));
    }
    text
}

/// Writes rows with every column but the last as wide as its longest cell and a blank.
pub(super) fn table(rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len).saturating_sub(1)).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            match widths.get(column) {
                Some(width) => text.push_str(&format!("{cell:width$} ")),
                None => text.push_str(cell),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that saves an image, if it is called so.
    fn target(name: &str) -> TargetSummary {
        let image = name
            .starts_with("image")
            .then(|| rb_buildfile::ImageSummary { name: "a:1".to_owned(), doc: None });
        TargetSummary {
            name: name.to_owned(),
            doc: Some("Does it.".to_owned()),
            args: Vec::new(),
            saves_images: image.into_iter().collect(),
            saves_artifacts: Vec::new(),
            is_function: false,
        }
    }

    #[test]
    fn without_a_name_it_is_the_last_image() {
        let names = |names: &[&str]| chosen(&names.iter().map(|name| target(name)).collect::<Vec<_>>());
        assert_eq!(names(&["a", "image", "imageb", "z"]).as_deref(), Some("imageb"));
        assert_eq!(names(&["a", "z"]).as_deref(), Some("z"));
        assert_eq!(names(&[]), None);
        let text = listed_text(&[target("a"), target("image")], Some("image"), &[]);
        assert_eq!(text, "TARGET          DESCRIPTION\na               Does it.\nimage (default) Does it.\n");
        let text = listed_text(&[target("a")], None, &[target("UP"), target("DOWN")]);
        assert!(text.ends_with("\nFunctions, which recipes call with DO: UP, DOWN\n"), "{text}");
    }
}

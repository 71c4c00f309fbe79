//! `--call=targets`: the stages that can be built.

use rb_diag::{Diagnostics, SourceMap};
use rb_frontend::Gateway;
use serde::Serialize;

use super::{Place, encoded, table};
use crate::contexts::Context;
use crate::options::Options;
use crate::parse::parse_for;

/// The stages of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetList {
    /// In the order of the file.
    pub targets: Vec<TargetStage>,
    /// The file, in base64.
    pub sources: Vec<String>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetStage {
    /// Its name; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built where no target is named.
    #[serde(rename = "default", skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
    /// What a comment above says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it starts from, as written.
    pub base: String,
    /// `--platform`, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Where it stands.
    pub location: Place,
}

impl TargetList {
    /// Writes a table of names and descriptions.
    pub fn text(&self) -> String {
        let name = |target: &TargetStage| match (target.name.as_str(), target.is_default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        let names: Vec<String> = self.targets.iter().map(name).collect();
        let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
        let described = names.iter().zip(&self.targets);
        rows.extend(
            described
                .map(|(name, target)| vec![name.as_str(), target.description.as_deref().unwrap_or_default()]),
        );
        table(&rows, 1)
    }
}

/// Lists the stages of a Dockerfile.
///
/// # Errors
/// The file cannot be read, or what is wrong with it.
pub async fn targets(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
) -> Result<TargetList, Diagnostics> {
    let context = Context::find(gateway, options).await.map_err(|error| vec![error])?;
    let texts = context.read(gateway, options, sources).await.map_err(|error| vec![error])?;
    let parsed = parse_for(&texts.dockerfile, &options.build_args);
    if !parsed.errors.is_empty() {
        return Err(parsed.errors);
    }
    let stages = parsed.dockerfile.stages;
    let last = stages.len().saturating_sub(1);
    let target = |(number, stage): (usize, crate::Stage)| TargetStage {
        name: stage.name.map(|(_, name)| name.value).unwrap_or_default(),
        is_default: number == last,
        description: stage.description,
        base: stage.base.value,
        platform: stage.platform.map(|platform| platform.value),
        location: Place::new(&texts.dockerfile, stage.span),
    };
    let targets = stages.into_iter().enumerate().map(target).collect();
    Ok(TargetList { targets, sources: encoded(&texts.dockerfile) })
}

//! `--call=outline`: which arguments, secrets and agents a target takes, with those of the stages it needs.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostics, SourceMap};
use rb_frontend::Gateway;
use serde::Serialize;

use super::{Place, encoded, table};
use crate::arguments::Declared;
use crate::options::Options;
use crate::plan::{first_platform, walk};
use crate::stages::NodeId;
use crate::walk::Outcome;

/// What a target takes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Name of the stage; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What a comment above says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Parameter>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Required>,
    /// Agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Required>,
    /// The file, in base64.
    pub sources: Vec<String>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What a comment above says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The value that it has; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where it is declared.
    pub location: Place,
}

/// A secret or an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Required {
    /// Its id.
    pub name: String,
    /// Whether it has to be there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it is first asked for.
    pub location: Place,
}

impl Outline {
    /// Writes tables, with an empty line behind each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || self.description.is_some() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = vec![vec!["TARGET:", name]];
            rows.extend(self.description.as_deref().map(|description| vec!["DESCRIPTION:", description]));
            text.push_str(&(table(&rows, 1) + "\n"));
        }
        if !self.args.is_empty() {
            let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
            rows.extend(self.args.iter().map(|arg| {
                vec![arg.name.as_str(), arg.value.as_str(), arg.description.as_deref().unwrap_or_default()]
            }));
            text.push_str(&(table(&rows, 3) + "\n"));
        }
        for (title, required) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !required.is_empty() {
                let mut rows = vec![vec![title, "REQUIRED"]];
                rows.extend(
                    required
                        .iter()
                        .map(|one| vec![one.name.as_str(), if one.required { "true" } else { "" }]),
                );
                text.push_str(&(table(&rows, 3) + "\n"));
            }
        }
        text
    }
}

/// Says what a target takes from outside.
///
/// # Errors
/// As [`crate::plan`].
pub async fn outline(
    gateway: &dyn Gateway,
    options: &Options,
    sources: &SourceMap,
) -> Result<Outline, Diagnostics> {
    let outcomes = walk(gateway, &first_platform(options), sources, &mut Vec::new()).await?;
    let outcome = outcomes.into_iter().next().expect("there is one platform at least");
    Ok(Gathering::default().outline(&outcome))
}

/// What was found in the stages that were looked at.
#[derive(Default)]
struct Gathering {
    seen: BTreeSet<NodeId>,
    args: BTreeMap<String, Declared>,
    secrets: BTreeMap<String, (rb_diag::Span, bool)>,
    agents: BTreeMap<String, (rb_diag::Span, bool)>,
}

impl Gathering {
    fn outline(mut self, outcome: &Outcome) -> Outline {
        self.add(outcome, outcome.target);
        let node = &outcome.graph.nodes[outcome.target];
        let place = |span| Place::new(&outcome.file, span);
        let required = |found: BTreeMap<String, (rb_diag::Span, bool)>| {
            let one = |(name, (span, required))| Required { name, required, location: place(span) };
            let mut all: Vec<Required> = found.into_iter().map(one).collect();
            all.sort_by_key(|required| required.location.line());
            all
        };
        let arg = |(name, declared): (String, Declared)| Parameter {
            value: match rb_llb::is_secret(&name) && !declared.value.is_empty() {
                true => rb_llb::STRUCK.to_owned(),
                false => declared.value,
            },
            name,
            description: declared.description,
            location: place(declared.span),
        };
        let mut args: Vec<Parameter> = self.args.into_iter().map(arg).collect();
        args.sort_by_key(|arg| arg.location.line());
        Outline {
            name: node.name.clone(),
            description: node.description.clone(),
            args,
            secrets: required(self.secrets),
            ssh: required(self.agents),
            sources: encoded(&outcome.file),
        }
    }

    /// Looks at a stage, then at those that it needs; what was found first stays.
    fn add(&mut self, outcome: &Outcome, id: NodeId) {
        if !self.seen.insert(id) {
            return;
        }
        let node = &outcome.graph.nodes[id];
        if let Some(parameters) = outcome.parameters.get(&id) {
            let mut waiting: Vec<String> =
                node.arguments.iter().chain(&parameters.arguments).cloned().collect();
            while let Some(name) = waiting.pop() {
                let known = parameters.declared.get(&name).or_else(|| outcome.arguments.declared.get(&name));
                let Some(declared) = known.filter(|_| !self.args.contains_key(&name)) else { continue };
                waiting.extend(declared.needs.iter().cloned());
                self.args.insert(name, declared.clone());
            }
            for (id, found) in &parameters.secrets {
                self.secrets.entry(id.clone()).or_insert(*found);
            }
            for (id, found) in &parameters.agents {
                self.agents.entry(id.clone()).or_insert(*found);
            }
        }
        let sources: Vec<NodeId> = outcome.graph.sources(id).map(|(source, _)| source).collect();
        node.base.into_iter().chain(sources).for_each(|needed| self.add(outcome, needed));
    }
}

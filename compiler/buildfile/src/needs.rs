//! What a target asks of its user beside arguments: secrets, ssh agents, and the caches that its steps fill.
//!
//! In: a file and a target of it. Out: [`TargetNeeds`], of that target and of all that it leads to in the same file. Nothing is evaluated,
//! so names are as written, and what stands in IF and FOR counts as if it were reached; what other files say is not read.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::Diagnostics;
use rb_frontend::{ProjectRef, World};
use rb_syntax::{Base, Buildfile, CopySource, FileSource, Parsed, Recipe, StepFlags, Stmt, StmtKind};

use crate::resolve::statements;
use crate::summary;

/// What a target asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetNeeds {
    /// Ids of secrets, and whether the build fails without one.
    pub secrets: BTreeMap<String, bool>,
    /// The same of ssh agents.
    pub agents: BTreeMap<String, bool>,
    /// Caches that have an id.
    pub caches: BTreeSet<String>,
}

/// How ids of secrets begin in older files.
const OLD_SECRET: &str = "+secrets/";
/// The recipe above all targets.
const BASE: &str = "base";
/// What the agent is called where none is named.
const AGENT: &str = "default";

/// Reads what a target asks for; nothing where the project has no such target.
pub async fn needs_of(
    world: &dyn World,
    project: &ProjectRef,
    target: &str,
) -> Result<Option<TargetNeeds>, Diagnostics> {
    Ok(of_target(&summary::parse(world, project).await?, target))
}

fn of_target(file: &Buildfile<Parsed>, target: &str) -> Option<TargetNeeds> {
    let mut needs = TargetNeeds::default();
    let mut seen = BTreeSet::new();
    let mut open = vec![target.to_owned()];
    let find = |name: &str| -> Option<&Recipe<Parsed>> {
        file.targets.iter().chain(&file.functions).find(|recipe| recipe.name.value == name)
    };
    if target != BASE {
        find(target)?;
    }
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let body = find(&name).map(|recipe| recipe.body.as_slice()).unwrap_or_default();
        // Each target begins with what stands above all of them, unless it says otherwise.
        for stmt in statements(&file.base).chain(statements(body)) {
            needs.take(stmt);
            open.extend(references(stmt).filter_map(own));
        }
    }
    Some(needs)
}

/// Returns the name of a target or function of the same file.
fn own(word: &str) -> Option<String> {
    let name = word.strip_prefix('+').or_else(|| word.strip_prefix("./+"))?;
    Some(name.split('/').next().unwrap_or(name).to_owned())
}

/// Returns what a statement names of targets and functions, as written.
fn references(stmt: &Stmt<Parsed>) -> impl Iterator<Item = &str> {
    let found: Vec<&str> = match &stmt.kind {
        StmtKind::From(from) => match &from.base {
            Base::Target(call) => vec![call.target.raw.as_str()],
            Base::Dockerfile(from) => {
                [Some(&from.context), from.file.as_ref()].into_iter().flatten().filter_map(of_file).collect()
            }
            Base::Buildpacks(from) => {
                let files = [&from.app]
                    .into_iter()
                    .chain(&from.buildpacks)
                    .chain(&from.descriptor)
                    .chain(&from.launcher);
                files.filter_map(of_file).collect()
            }
            Base::Scratch | Base::Image(_) | Base::Host { .. } => Vec::new(),
        },
        StmtKind::Build(call) => vec![call.target.raw.as_str()],
        StmtKind::Do(call) => vec![call.function.raw.as_str()],
        StmtKind::Copy(copy) => {
            let of_target = copy.sources.iter().filter_map(|source| match source {
                CopySource::Artifact { call, .. } => Some(call.target.raw.as_str()),
                CopySource::Path(_) | CopySource::Heredoc(_) => None,
            });
            of_target.collect()
        }
        _ => Vec::new(),
    };
    found.into_iter()
}

fn of_file(file: &FileSource<Parsed>) -> Option<&str> {
    match file {
        FileSource::Artifact { call, .. } => Some(&call.target.raw),
        FileSource::Path(_) => None,
    }
}

impl TargetNeeds {
    fn take(&mut self, stmt: &Stmt<Parsed>) {
        match &stmt.kind {
            StmtKind::Run(run) => self.step(&run.flags),
            StmtKind::Cache(cache) => self.caches.extend(cache.id.iter().map(|id| id.raw.clone())),
            StmtKind::If(stmt) => stmt.branches.iter().for_each(|branch| self.step(&branch.condition.flags)),
            _ => {}
        }
    }

    fn step(&mut self, flags: &StepFlags) {
        if flags.ssh.is_some() {
            need(&mut self.agents, AGENT, true);
        }
        for word in &flags.secrets {
            let id = word.raw.split_once('=').map_or(word.raw.as_str(), |(_, id)| id);
            self.secret(id, true);
        }
        for word in &flags.mounts {
            let options: BTreeMap<&str, &str> =
                word.raw.split(',').map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
            let id = options.get("id").copied().filter(|id| !id.is_empty());
            let is_required = options.get("required") != Some(&"false");
            match options.get("type").copied() {
                Some("secret") => self.secret(id.unwrap_or_default(), is_required),
                Some("ssh" | "ssh-experimental") => need(&mut self.agents, id.unwrap_or(AGENT), is_required),
                Some("cache") => self.caches.extend(id.map(str::to_owned)),
                _ => {}
            }
        }
    }

    fn secret(&mut self, id: &str, is_required: bool) {
        let id = id.strip_prefix(OLD_SECRET).unwrap_or(id);
        // None means: not this time.
        if !id.is_empty() {
            need(&mut self.secrets, id, is_required);
        }
    }
}

/// Notes a need; who needs it most counts.
fn need(all: &mut BTreeMap<String, bool>, id: &str, is_required: bool) {
    *all.entry(id.to_owned()).or_default() |= is_required;
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;

    use super::*;

    #[test]
    fn a_target_needs_what_those_need_that_it_leads_to() {
        let text = "VERSION 1\nground:\n    FROM scratch\n    RUN --secret word --ssh true\nlib:\n    FROM scratch\n    \
             RUN --mount=type=cache,id=pip,target=/c --secret NAME=+secrets/old true\n    SAVE ARTIFACT /x\n\
             WITH:\n    FUNCTION\n    IF --mount=type=secret,id=soft,required=false true\n        \
             RUN --mount=type=ssh,id=mine true\n    END\n\
             app:\n    FROM +ground\n    COPY +lib/x .\n    DO +WITH\n    CACHE --id=go /go\n\
             other:\n    FROM scratch\n    RUN --secret never --secret= true\n";
        let parse = rb_syntax::parse(&SourceMap::default().add("Buildfile", text));
        assert!(parse.diagnostics.is_empty(), "{:?}", parse.diagnostics);
        let file = parse.buildfile;
        let needs = of_target(&file, "app").expect("is a target");
        let all = |needs: &BTreeMap<String, bool>| -> Vec<String> {
            needs.iter().map(|(id, required)| format!("{id}{}", if *required { "!" } else { "" })).collect()
        };
        assert_eq!(all(&needs.secrets), ["old!", "soft", "word!"]);
        assert_eq!(all(&needs.agents), ["default!", "mine!"]);
        assert_eq!(needs.caches.into_iter().collect::<Vec<_>>(), ["go", "pip"]);
        assert_eq!(all(&of_target(&file, "other").expect("is one").secrets), ["never!"]);
        assert_eq!(of_target(&file, "none"), None);
        assert_eq!(of_target(&file, "base"), Some(TargetNeeds::default()));
    }
}

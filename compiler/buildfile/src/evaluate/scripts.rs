//! A warning: a copied script names an ARG that the step which runs it does not see.
//!
//! In `VERSION 1` a step sees the ARGs that its own text names. What a script names is not in that text, so the script
//! would find the variable unset. Every file that COPY takes from the project is remembered by its name; where a RUN
//! names it, its text is looked at, for ARGs of the scope only.
//! **Invariant:** what is looked at is bounded, and only warns: a plan is the same with and without it.

use std::collections::BTreeSet;

use rb_diag::{Diagnostic, Span};
use rb_frontend::{FileKind, ProjectRef};
use rb_syntax::{CommandLine, Edition, Run};

use super::Evaluator;
use super::frame::Frame;
use super::variables::{Kind, mentions, text_mentions};
use crate::{codes, glob};

/// The longest script that is looked at.
const MAX_SCRIPT_BYTES: usize = 64 << 10;

/// How many paths are looked for, for one RUN.
const MAX_LOOKS: usize = 32;

/// A path of the project that a COPY named: a file, a folder or a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) project: ProjectRef,
    pub(super) path: String,
    /// What it may be called in the recipe's filesystem.
    pub(super) alias: String,
}

impl Evaluator<'_> {
    /// Warns of each ARG that a script of a RUN names and its step does not see.
    pub(super) async fn warn_of_scripts(&self, frame: &Frame, run: &Run, at: Span) {
        if frame.edition() < Edition::One || frame.copied.is_empty() {
            return;
        }
        let hidden = hidden(frame, run);
        if hidden.is_empty() {
            return;
        }
        let words = words(&run.command);
        let mut looked = BTreeSet::new();
        for (project, path) in frame.copied.iter().rev().flat_map(|copied| scripts(copied, &words)) {
            if looked.len() == MAX_LOOKS {
                return;
            }
            if !looked.insert((project, path.clone())) {
                continue;
            }
            let Some(text) = self.script_text(project, &path).await else { continue };
            for name in hidden.iter().filter(|name| text_mentions(&text, name)) {
                let message = format!("`{path}` names `${name}`, which this step does not see");
                let help = format!("`RUN --env={name} …` passes it, if the script means that argument");
                let warning = Diagnostic::warning(codes::SCRIPT_ARGUMENT, message);
                self.warn(warning.with_label(at, "runs the script").with_help(help));
            }
        }
    }

    /// Returns a script's text; none where it is long, no file or no text, which is no reason to fail.
    async fn script_text(&self, project: &ProjectRef, path: &str) -> Option<String> {
        let workspace = self.world.workspace();
        let entry = workspace.stat(project, path).await.ok()??;
        if entry.kind != FileKind::File {
            return None;
        }
        let bytes = workspace.read(project, path).await.ok()?;
        if bytes.len() > MAX_SCRIPT_BYTES || bytes.contains(&0) {
            return None;
        }
        String::from_utf8(bytes).ok()
    }
}

/// Returns the ARGs of the scope that a step does not see.
fn hidden(frame: &Frame, run: &Run) -> Vec<String> {
    let variables = &frame.scope.variables;
    let local =
        variables.local.iter().filter(|(_, variable)| matches!(variable.kind, Kind::Arg | Kind::Builtin));
    let names = local.map(|(name, _)| name).chain(variables.global.keys());
    let passed =
        |name: &str| run.flags.env.iter().any(|env| env.value == name) || mentions(&run.command, name);
    let hidden = names.filter(|name| !passed(name) && frame.config.config.env(name).is_none());
    let mut hidden: Vec<String> = hidden.cloned().collect();
    hidden.sort();
    hidden.dedup();
    hidden
}

/// Returns the words of a command as far as they may name files.
fn words(command: &CommandLine) -> Vec<String> {
    let divided = |text: &str| {
        let end = |next: char| next.is_whitespace() || ";&|()<>\"'`".contains(next);
        text.split(end).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    match command {
        CommandLine::Shell(text) => divided(&text.raw),
        CommandLine::Script(script) => divided(&script.body.raw),
        CommandLine::Exec(args) => args.iter().map(|arg| arg.value.clone()).collect(),
    }
}

/// Returns the files of the project that words of a command may name, where one is what was copied, or lies in it.
fn scripts<'a>(copied: &'a Copied, words: &[String]) -> Vec<(&'a ProjectRef, String)> {
    let mut paths = Vec::new();
    let plain = |word: &&String| !word.starts_with('-') && !word.contains(['$', '=', '*', '?', '[', '{']);
    for word in words.iter().filter(plain) {
        let (name, own) = (last(word), last(&copied.path));
        if glob::is_pattern(&copied.path) {
            let folder = copied.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !glob::is_pattern(folder) && glob::matches(own, name) {
                paths.push(join(folder, name));
            }
            continue;
        }
        if name == own || (word.contains('/') && name == copied.alias) {
            paths.push(copied.path.clone());
        }
        // Of a folder each end of the word may be a path in it.
        if word.contains(['/', '.']) {
            let parts: Vec<&str> = word.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            let inside = (0..parts.len()).filter_map(|from| parts.get(from..));
            paths.extend(
                inside.filter(|rest| !rest.contains(&"..")).map(|rest| join(&copied.path, &rest.join("/"))),
            );
        }
    }
    paths.into_iter().map(|path| (&copied.project, path)).collect()
}

/// Returns the last part of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

//! Patterns of folders: `./services/*+test`, in `VERSION 1` also `./**+test`.
//!
//! In: a pattern. Out: the targets it means, sorted: one for each folder that fits, has a build file, and in it a
//! target of that name. `*`, `?` and `[a-z]` match within one folder's name; `**` stands for any number of folders,
//! at the end for at least one, and passes by hidden folders. Symbolic links are not followed: what they lead to has a
//! place of its own, or lies outside. Source: earthly-language 2.6.

use std::collections::BTreeSet;
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, Severity, Span, nearest};
use rb_frontend::{FileKind, ProjectRef, TargetRef, WorldError};

use super::{File, Pattern, Program, labelled, lock};
use crate::{OUTSIDE_HELP, codes, glob};

impl Program<'_> {
    /// Returns the targets a pattern means, never none.
    pub(crate) async fn expand_pattern(
        &self,
        pattern: &Pattern,
        at: Span,
    ) -> Result<Vec<TargetRef>, Diagnostic> {
        let (targets, mut found) = self.fitting(pattern, Some(at), None).await?;
        match found.iter().position(|found| found.severity == Severity::Error) {
            Some(first) => Err(found.swap_remove(first)),
            None => {
                lock(&self.warnings).extend(found);
                Ok(targets)
            }
        }
    }

    /// Returns the targets a pattern means, and what is found in files that were not read before. Stands in a file, or was
    /// `typed` so.
    pub(super) async fn fitting(
        &self,
        pattern: &Pattern,
        at: Option<Span>,
        typed: Option<&str>,
    ) -> Result<(Vec<TargetRef>, Diagnostics), Diagnostic> {
        if let Some(known) = lock(&self.patterns).get(pattern) {
            return Ok((known.clone(), Vec::new()));
        }
        let mut targets = Vec::new();
        let mut found = Vec::new();
        let mut without = Vec::new();
        let folders = self.folders(pattern, at).await?;
        let count = folders.len();
        for project in folders {
            let Some((file, fresh)) = self.load_if_there(&project, at).await? else { continue };
            found.extend(fresh);
            match file.buildfile.target(&pattern.name) {
                Some(_) => targets.push(TargetRef { project, name: pattern.name.clone() }),
                // In a file that cannot be read the target may be.
                None if file.broken => {}
                None => without.push(file),
            }
        }
        if targets.is_empty() && !found.iter().any(|found| found.severity == Severity::Error) {
            let folder = typed.and_then(|word| word.rsplit_once('+')).map(|(folder, _)| folder.to_owned());
            let (glob, name) = (folder.unwrap_or_else(|| shown(pattern)), &pattern.name);
            let error = Diagnostic::error(
                codes::BAD_PATTERN,
                format!("no folder that fits `{glob}` has a build file with a target `{name}`"),
            );
            let names = without
                .iter()
                .flat_map(|file| &file.buildfile.targets)
                .map(|recipe| recipe.name.value.as_str());
            let help = match nearest(name, names) {
                Some(near) => format!("did you mean `{glob}+{near}`?"),
                None if without.is_empty() => "no folder that fits has a build file".to_owned(),
                None => format!("add `{name}:` to one of the build files that fit"),
            };
            return Err(match at {
                Some(at) => error.with_label(at, "means no target").with_help(help),
                // Nobody sees the place it was typed at, so it is told what the pattern came upon.
                None => error.with_help(format!("{help} {}", looked_through(count, &without))),
            });
        }
        targets.sort();
        if found.is_empty() {
            lock(&self.patterns).insert(pattern.clone(), targets.clone());
        }
        Ok((targets, found))
    }

    /// Returns the folders that fit, whether they have a build file or not.
    async fn folders(&self, pattern: &Pattern, at: Option<Span>) -> Result<BTreeSet<ProjectRef>, Diagnostic> {
        let mut folders = BTreeSet::from([pattern.project.clone()]);
        let mut parts = pattern.glob.split('/').peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let mut next = BTreeSet::new();
            for folder in folders {
                match part {
                    "**" => {
                        next.extend(self.below(&folder, at).await?);
                        if !last {
                            next.insert(folder);
                        }
                    }
                    part if glob::is_pattern(part) => {
                        let inner = self.children(&folder, at).await?;
                        let fits = inner.iter().filter(|name| glob::matches(part, name));
                        next.extend(fits.map(|name| folder.join(name)));
                    }
                    part => {
                        next.insert(folder.join(part));
                    }
                }
            }
            folders = next;
        }
        Ok(folders)
    }

    /// Returns all folders below one that are not hidden.
    async fn below(&self, folder: &ProjectRef, at: Option<Span>) -> Result<BTreeSet<ProjectRef>, Diagnostic> {
        let mut below = BTreeSet::new();
        let mut open = vec![folder.clone()];
        while let Some(folder) = open.pop() {
            for name in self.children(&folder, at).await? {
                let child = folder.join(&name);
                if !name.starts_with('.') && below.insert(child.clone()) {
                    open.push(child);
                }
            }
        }
        Ok(below)
    }

    /// Lists the folders in a folder; one that does not exist has none.
    async fn children(&self, folder: &ProjectRef, at: Option<Span>) -> Result<Vec<String>, Diagnostic> {
        match self.workspace.list(folder, "").await {
            Ok(entries) => Ok(entries
                .into_iter()
                .filter(|entry| entry.kind == FileKind::Directory)
                .map(|entry| entry.name)
                .collect()),
            Err(WorldError::NotFound { .. }) => Ok(Vec::new()),
            Err(error @ (WorldError::Failed { .. } | WorldError::Step { .. })) => {
                let failed = Diagnostic::error(codes::WORKSPACE, error.to_string()).with_kind(error.kind());
                Err(labelled(failed, at, "looks for folders there").with_help(OUTSIDE_HELP))
            }
        }
    }
}

/// Says in which folders a pattern looked, and in which of them there are build files.
fn looked_through(folders: usize, files: &[Arc<File>]) -> String {
    const SHOWN: usize = 8;
    let folders = match folders {
        0 => return "(no folder fits)".to_owned(),
        1 => "1 folder".to_owned(),
        count => format!("{count} folders"),
    };
    let names: Vec<String> = files.iter().take(SHOWN).map(|file| format!("`{}`", file.source.name)).collect();
    match (files.len(), files.len().saturating_sub(SHOWN)) {
        (0, _) => format!("(looked through {folders})"),
        (_, 0) => format!("(looked through {folders}: {})", names.join(", ")),
        (_, more) => format!("(looked through {folders}: {} and {more} more)", names.join(", ")),
    }
}

/// Writes a pattern from the workspace's root.
fn shown(pattern: &Pattern) -> String {
    match &pattern.project {
        project @ (ProjectRef::Remote { .. } | ProjectRef::Dockerfile { .. }) => {
            project.join(&pattern.glob).to_string()
        }
        ProjectRef::Local { dir } if dir.is_empty() => format!("./{}", pattern.glob),
        project @ ProjectRef::Local { .. } => format!("{project}/{}", pattern.glob),
    }
}

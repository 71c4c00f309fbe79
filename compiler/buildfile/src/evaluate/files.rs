//! Questions about the user's tree, asked before anything runs.

use rb_diag::{Diagnostic, nearest};
use rb_frontend::{FileKind, ProjectRef};
use rb_syntax::Word;

use super::{Evaluator, Fallible, world_error};
use crate::lower::{Context, paths};
use crate::{codes, glob};

impl Evaluator<'_> {
    /// Checks one source of a COPY and notes it in `context`; returns its path in the project, normalised.
    pub(super) async fn local_source(
        &self,
        project: &ProjectRef,
        word: &Word,
        text: &str,
        if_exists: bool,
        context: &mut Context,
    ) -> Fallible<String> {
        if text.is_empty() {
            return Err(Diagnostic::error(codes::BAD_COPY, "the path is empty")
                .with_label(word.span, "")
                .with_help("write `.` for the whole folder"));
        }
        let path = paths::inside(text).map_err(|error| {
            Diagnostic::error(codes::PATH_OUTSIDE, format!("cannot copy `{text}`: {error}"))
                .with_label(word.span, "")
                .with_help("a project copies from its own folder only; let the other folder's Buildfile SAVE ARTIFACT it and COPY that")
        })?;
        let found = self.find(project, word, &path).await?;
        if found.is_none() && !if_exists {
            return Err(self.missing(project, word, &path).await);
        }
        if found == Some(FileKind::Symlink) || self.leads_through_link(project, word, &path).await? {
            context.links.push(path.clone());
        }
        if !context.patterns.contains(&path) {
            context.patterns.push(path.clone());
        }
        Ok(path)
    }

    /// Tells whether a folder on the way to a path is a link, so that what it leads to has to be taken along.
    async fn leads_through_link(&self, project: &ProjectRef, word: &Word, path: &str) -> Fallible<bool> {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        for dir in above.take_while(|dir| !glob::is_pattern(dir)) {
            let found = self.world.workspace().stat(project, dir).await;
            let found = found.map_err(|error| world_error(codes::WORKSPACE, &error, word.span))?;
            if found.is_some_and(|entry| entry.kind == FileKind::Symlink) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns what stands at a path, or what the first match of a pattern is.
    async fn find(&self, project: &ProjectRef, word: &Word, path: &str) -> Fallible<Option<FileKind>> {
        let workspace = self.world.workspace();
        let failed = |error| world_error(codes::WORKSPACE, &error, word.span);
        if !path.contains(['*', '?', '[', '\\']) {
            return Ok(workspace.stat(project, path).await.map_err(failed)?.map(|entry| entry.kind));
        }
        let mut found = vec![(String::new(), FileKind::Directory)];
        for part in path.split('/') {
            let mut next = Vec::new();
            for (dir, _) in
                found.iter().filter(|(_, kind)| matches!(kind, FileKind::Directory | FileKind::Symlink))
            {
                // What a link leads to may be no folder.
                let Ok(entries) = workspace.list(project, dir).await else { continue };
                let matching = entries.into_iter().filter(|entry| glob::matches(part, &entry.name));
                next.extend(matching.map(|entry| (join(dir, &entry.name), entry.kind)));
            }
            found = next;
        }
        Ok(found.first().map(|(_, kind)| *kind))
    }

    /// Says what is missing: the first part of the path that is not there, and what is there instead.
    async fn missing(&self, project: &ProjectRef, word: &Word, path: &str) -> Diagnostic {
        let shown = if glob::is_pattern(path) { "nothing matches" } else { "there is no" };
        let error = Diagnostic::error(codes::MISSING_FILE, format!("{shown} `{path}`"))
            .with_label(word.span, "relative to the Buildfile's folder");
        let workspace = self.world.workspace();
        let mut above = String::new();
        for (at, part) in path.split('/').enumerate() {
            let here = join(&above, part);
            let pattern = part.contains(['*', '?', '[', '\\']);
            if !pattern && matches!(workspace.stat(project, &here).await, Ok(Some(_))) {
                above = here;
                continue;
            }
            let entries = workspace.list(project, &above).await.unwrap_or_default();
            let near = nearest(part, entries.iter().map(|entry| entry.name.as_str())).filter(|_| !pattern);
            let rest = path.split('/').skip(at + 1);
            return match near {
                Some(near) => {
                    let full = rest.fold(join(&above, near), |path, part| join(&path, part));
                    error.with_help(format!("did you mean `{full}`?"))
                }
                None => match folder(project, &above) {
                    place if entries.is_empty() => error.with_help(format!("{place} has no files")),
                    place => {
                        let names = entries.iter().take(8).map(|entry| format!("`{}`", entry.name));
                        let more = if entries.len() > 8 { ", …" } else { "" };
                        error.with_help(format!("{place} has {}{more}", names.collect::<Vec<_>>().join(", ")))
                    }
                },
            };
        }
        error
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

fn folder(project: &ProjectRef, dir: &str) -> String {
    match &project.join(dir) {
        far @ (ProjectRef::Remote { .. } | ProjectRef::Dockerfile { .. }) => format!("`{far}`"),
        ProjectRef::Local { dir } if dir.is_empty() => "the folder".to_owned(),
        ProjectRef::Local { dir } => format!("`{dir}`"),
    }
}

//! What paths and artifacts mean that FROM DOCKERFILE and FROM BUILDPACKS name.
//!
//! In: a word, which may be a path of the project, `//path`, `+target/path`, or in `VERSION 1` a folder of a repository elsewhere.
//! Out: [`Found`]. A target is evaluated on the way; whether anything is there, who takes it has to look.

use rb_diag::{Diagnostic, Span};
use rb_frontend::{FileKind, ProjectRef, Repository};
use rb_llb::State;
use rb_syntax::{Call, CallArg, Edition, FileSource, Word};

use super::copy::check_saved;
use super::frame::Frame;
use super::{Evaluator, Fallible, world_error};
use crate::lower::paths;
use crate::resolve::{Reference, Resolved, dividing_plus, parse_project};
use crate::word::Escapes;
use crate::{codes, glob};

/// What a path turned out to be once its variables were filled in.
pub(super) enum Found {
    /// A path from a project's folder.
    Path(ProjectRef, String),
    /// A path among a target's artifacts.
    Artifact(Artifact),
}

/// A file or folder among a target's artifacts.
pub(super) struct Artifact {
    pub(super) tree: State,
    /// Absolute and normalised.
    pub(super) path: String,
    /// As people know it.
    pub(super) shown: String,
}

/// A folder that files are taken from.
pub(super) enum Context {
    /// One of the user's tree, or of a repository elsewhere.
    Folder(ProjectRef),
    /// One among artifacts.
    Artifact(Artifact),
}

impl Evaluator<'_> {
    /// Returns the folder that a statement names as `what`.
    pub(super) async fn folder(
        &self,
        frame: &mut Frame,
        source: &FileSource<Resolved>,
        args: &[CallArg],
        (what, at): (&str, Span),
    ) -> Fallible<Context> {
        Ok(match self.found(frame, source, args).await? {
            Found::Artifact(artifact) if glob::is_pattern(&artifact.path) => {
                let message = format!("`{}` is a pattern, and {what} is one folder", artifact.shown);
                return Err(Diagnostic::error(codes::BAD_COPY, message)
                    .with_label(at, "")
                    .with_help("name the folder: `+target/folder/`, or `+target/` for all artifacts"));
            }
            Found::Artifact(artifact) => Context::Artifact(artifact),
            Found::Path(project, path) => Context::Folder(project.folder().join(&path)),
        })
    }

    /// Returns what a path or an artifact means. `args` are those of the statement, which Earthfiles hand to targets, too.
    pub(super) async fn found(
        &self,
        frame: &mut Frame,
        source: &FileSource<Resolved>,
        args: &[CallArg],
    ) -> Fallible<Found> {
        let word = match source {
            FileSource::Artifact { call, path } => {
                let call = self.with_arguments(frame, call, args).await?;
                return self.artifact_in(frame, &call, path).await.map(Found::Artifact);
            }
            FileSource::Path(word) => word,
        };
        let text = self.expand(frame, word, Escapes::KeepPlus).await?;
        if let Some(plus) = dividing_plus(&text) {
            let slash = text[plus..].find('/').map_or(text.len(), |slash| plus + slash);
            let target = Word { raw: text[..slash].to_owned(), span: word.span };
            let path = Word { raw: text[slash..].to_owned(), span: word.span };
            let call = Call::bare(Reference::Dynamic(target), word.span);
            return self.artifact_in(frame, &call, &path).await.map(Found::Artifact);
        }
        let text = text.replace("\\+", "+");
        if text.is_empty() || text.starts_with('/') && frame.path_of(&text).1 == text {
            let message = if text.is_empty() { "the path is empty" } else { "the path is absolute" };
            return Err(Diagnostic::error(codes::PATH_OUTSIDE, message)
                .with_label(word.span, "")
                .with_help("write a path relative to this file, such as `.` or `./folder`"));
        }
        let is_elsewhere = frame.edition() == Edition::One
            && !text.starts_with(['.', '/'])
            && Repository::parse(&text).is_ok();
        if is_elsewhere {
            let project = parse_project(&text, &frame.scope.file.project, frame.edition());
            let project = project.map_err(|error| error.diagnostic().with_label(word.span, ""))?;
            return Ok(Found::Path(project, String::new()));
        }
        let (project, path) = frame.path_of(&text);
        Ok(Found::Path(project, path))
    }

    /// Returns a call with those of the statement's arguments that its file declares, if it is an Earthfile's.
    async fn with_arguments(
        &self,
        frame: &Frame,
        call: &Call<Resolved>,
        args: &[CallArg],
    ) -> Fallible<Call<Resolved>> {
        let mut call = call.clone();
        if let Reference::Settled { target, .. } = &call.target
            && frame.edition() < Edition::One
        {
            let file = self.program.target_file(target, Some(call.span)).await?;
            let facts = self.facts(&file);
            let is_declared = |arg: &&CallArg| facts.anywhere().any(|name| name == arg.name.value);
            call.args.extend(args.iter().filter(is_declared).cloned());
        }
        Ok(call)
    }

    async fn artifact_in(&self, frame: &mut Frame, call: &Call<Resolved>, path: &Word) -> Fallible<Artifact> {
        let path = self.expand(frame, path, Escapes::KeepPattern).await?;
        let callee = self.call_one(frame, call).await?.output;
        // `folder/*` is all that lies in the folder, as the folder itself is here.
        let path = paths::absolute("/", path.strip_suffix("/*").unwrap_or(&path));
        check_saved(&callee, &path, call.span)?;
        let shown = format!("{}{}", callee.key.target, path.trim_end_matches('/'));
        Ok(Artifact { tree: callee.artifact_tree.clone(), path, shown })
    }

    /// Tells whether a folder has a file of this name.
    pub(super) async fn has_file(&self, folder: &ProjectRef, name: &str, at: Span) -> Fallible<bool> {
        let entry = self.world.workspace().stat(folder, name).await;
        let entry = entry.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        Ok(entry.is_some_and(|entry| matches!(entry.kind, FileKind::File | FileKind::Symlink)))
    }
}

/// Returns where a path or an artifact is named.
pub(super) fn span_of(source: &FileSource<Resolved>) -> Span {
    match source {
        FileSource::Path(word) => word.span,
        FileSource::Artifact { call, path: _ } => call.span,
    }
}

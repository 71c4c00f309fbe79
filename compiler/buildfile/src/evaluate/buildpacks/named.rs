//! Buildpacks as a statement and a descriptor name them.
//!
//! In: words, paths and artifacts. Out: choices for the frontend; what is neither there nor an id is told where it is named.

use rb_buildpacks::frontend::{AppFilter, BuildpackChoice, BuildpackWord, PRODUCTION, WordError};
use rb_buildpacks::includes;
use rb_buildpacks::project::{BuildpackSource, ProjectBuildpack};
use rb_diag::{Diagnostic, Span};
use rb_frontend::{Answer, FileKind, Query};
use rb_llb::{NodeMeta, State};
use rb_syntax::FileSource;

use crate::codes;
use crate::evaluate::found::{Context, span_of};
use crate::evaluate::frame::Frame;
use crate::evaluate::{Evaluator, Fallible, internal, world_error};
use crate::lower::paths;
use crate::resolve::{Resolved, dividing_plus};
use crate::word::Escapes;

impl Evaluator<'_> {
    /// Reads what names a buildpack; returns how it is known, too.
    pub(super) async fn buildpack(
        &self,
        frame: &mut Frame,
        source: &FileSource<Resolved>,
        kept: &mut Vec<State>,
    ) -> Fallible<(BuildpackChoice, String)> {
        let at = span_of(source);
        let text = match source {
            FileSource::Path(word) => {
                let text = self.expand(frame, word, Escapes::KeepPlus).await?;
                dividing_plus(&text).is_none().then(|| text.replace("\\+", "+"))
            }
            FileSource::Artifact { .. } => None,
        };
        let Some(text) = text else {
            let Context::Artifact(artifact) = self.folder(frame, source, &[], ("a buildpack", at)).await?
            else {
                return Err(internal("an artifact was named and not found"));
            };
            kept.push(artifact.tree.clone());
            let choice = in_tree(artifact.tree, artifact.path, &artifact.shown);
            return Ok((choice, artifact.shown));
        };
        let (path, only) = match BuildpackWord::read(&text).map_err(|error| bad_word(&error, at))? {
            BuildpackWord::Choice(choice) => {
                let name = known_as(&choice).unwrap_or(text);
                return Ok((choice, name));
            }
            BuildpackWord::Registered { .. } => return Err(bad_word(&WordError::no_registry(&text), at)),
            BuildpackWord::Path { path, only } => (path, only),
        };
        let (project, path) = frame.path_of(&path);
        let base = Context::Folder(project.folder().clone());
        let choice = match self.buildpack_at(&base, &path, &text, at).await? {
            Some(choice) => choice,
            None if only => return Err(bad_word(&WordError::nowhere(&text), at)),
            None => BuildpackChoice::by_id(&text),
        };
        let name = known_as(&choice).unwrap_or(text);
        Ok((choice, name))
    }

    /// Returns the buildpack that lies at a path, if anything does.
    async fn buildpack_at(
        &self,
        base: &Context,
        path: &str,
        shown: &str,
        at: Span,
    ) -> Fallible<Option<BuildpackChoice>> {
        let folder = match base {
            Context::Artifact(artifact) => {
                let path = paths::absolute(&artifact.path, path);
                return Ok(Some(in_tree(artifact.tree.clone(), path, shown)));
            }
            Context::Folder(folder) => folder,
        };
        if path.starts_with('/') {
            return Err(Diagnostic::error(codes::PATH_OUTSIDE, "the path is absolute")
                .with_label(at, "")
                .with_help("write a path relative to this file, such as `./folder`"));
        }
        let entry = self.world.workspace().stat(folder, path).await;
        let entry = entry.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        let title = format!("load {shown}");
        Ok(match entry {
            Some(entry) if entry.kind == FileKind::File || is_archive(path) => {
                let (parent, file) = path.rsplit_once('/').unwrap_or(("", path));
                let only = AppFilter { include: vec![file.to_owned()], exclude: Vec::new() };
                let lent = self.lend_folder(&folder.join(parent), only, NodeMeta::named(title), at).await?;
                let path = paths::absolute(&lent.path, file);
                Some(BuildpackChoice::unpacked(&lent.state, &path, shown))
            }
            Some(_) => {
                let meta = NodeMeta::named(title);
                let lent = self.lend_folder(&folder.join(path), AppFilter::default(), meta, at).await?;
                Some(BuildpackChoice::Folder { state: lent.state, path: lent.path, shown: shown.to_owned() })
            }
            None => None,
        })
    }

    /// Returns the buildpacks that a descriptor names.
    pub(super) async fn of_descriptor(
        &self,
        all: &[ProjectBuildpack],
        app: &Context,
        at: Span,
    ) -> Fallible<Vec<BuildpackChoice>> {
        let mut choices = Vec::new();
        for one in all.iter().filter(|one| includes(&one.exec_env, PRODUCTION)) {
            choices.push(match &one.source {
                BuildpackSource::Inline { id, version, api, script, shell } => BuildpackChoice::Inline {
                    id: id.clone(),
                    version: version.clone(),
                    api: api.clone(),
                    script: script.clone(),
                    shell: shell.clone(),
                },
                // As for pack, an id is a word as any other: a path that is there, else an id.
                source @ (BuildpackSource::Id { .. } | BuildpackSource::Uri(_)) => {
                    let uri = &word_of(source);
                    match BuildpackWord::read(uri).map_err(|error| bad_word(&error, at))? {
                        BuildpackWord::Choice(choice) => choice,
                        BuildpackWord::Registered { .. } => {
                            return Err(bad_word(&WordError::no_registry(uri), at));
                        }
                        // In a tree that is yet to be made only what looks like a path is one.
                        BuildpackWord::Path { path, only } if only || matches!(app, Context::Folder(_)) => {
                            match self.buildpack_at(app, &path, uri, at).await? {
                                Some(found) => found,
                                None if only => return Err(bad_word(&WordError::nowhere(uri), at)),
                                None => BuildpackChoice::by_id(uri),
                            }
                        }
                        BuildpackWord::Path { path, .. } => self.in_artifact(app, &path, uri, at).await?,
                    }
                }
            });
        }
        Ok(choices)
    }

    /// Returns what a word names of an app that a target made: a path that is there, else an id.
    async fn in_artifact(
        &self,
        app: &Context,
        path: &str,
        word: &str,
        at: Span,
    ) -> Fallible<BuildpackChoice> {
        if let Context::Artifact(artifact) = app {
            let asked = Query::Exists { path: paths::absolute(&artifact.path, path) };
            let answer = self.world.gateway().query(&artifact.tree, asked).await;
            let answer = answer.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
            if answer == Answer::Exists(true)
                && let Some(found) = self.buildpack_at(app, path, word, at).await?
            {
                return Ok(found);
            }
        }
        Ok(BuildpackChoice::by_id(word))
    }
}

/// Returns what a descriptor says of a buildpack as one word.
fn word_of(source: &BuildpackSource) -> String {
    match source {
        BuildpackSource::Id { id, version: Some(version) } => format!("{id}@{version}"),
        BuildpackSource::Id { id: word, version: None } | BuildpackSource::Uri(word) => word.clone(),
        BuildpackSource::Inline { id, .. } => id.clone(),
    }
}

fn bad_word(error: &WordError, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BUILDPACKS, error.to_string()).with_label(at, "").with_help(error.help)
}

/// Returns what messages call a choice by.
fn known_as(choice: &BuildpackChoice) -> Option<String> {
    match choice {
        BuildpackChoice::Id { id, .. } | BuildpackChoice::Inline { id, .. } => Some(id.clone()),
        BuildpackChoice::Package(image) => Some(image.clone()),
        BuildpackChoice::Folder { shown, .. } | BuildpackChoice::Lent { shown, .. } => Some(shown.clone()),
        BuildpackChoice::Registered { id, .. } => Some(id.clone()),
        BuildpackChoice::FromBuilder => None,
    }
}

/// Returns the buildpack that lies in a tree; an archive is known by its name.
fn in_tree(tree: State, path: String, shown: &str) -> BuildpackChoice {
    match is_archive(&path) {
        true => BuildpackChoice::unpacked(&tree, &path, shown),
        false => BuildpackChoice::Folder { state: tree, path, shown: shown.to_owned() },
    }
}

fn is_archive(path: &str) -> bool {
    [".cnb", ".tgz", ".tar", ".tar.gz"].iter().any(|end| path.ends_with(end))
}

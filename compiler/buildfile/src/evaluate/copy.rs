//! COPY: files of the project and artifacts of targets into a recipe's filesystem.
//!
//! Only what is named is read of the user's tree; what an ignore file leaves out is not there. Source: earthly-language
//! section 4, COPY; section 6.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Span, nearest};
use rb_frontend::{ProjectRef, SavedArtifact, TargetOutput};
use rb_llb::{CopyMode, MkfileAction, NodeMeta, State};
use rb_syntax::{Call, CopySource, CopyStmt, Edition, Heredoc, Stmt, Word};

use super::caches::mode;
use super::frame::{Frame, Layer};
use super::scripts::{self, Copied};
use super::{Evaluator, Fallible, world_error};
use crate::lower::{self, Context, CopyFrom, CopyOptions, EARTHLY_TIMESTAMP, Folder, paths};
use crate::resolve::{Reference, Resolved, dividing_plus};
use crate::word::Escapes;
use crate::{codes, glob};

/// What a source turned out to be once its variables were filled in.
enum Source {
    /// Path in a project, and the folder above it from which on folders are kept.
    File { project: ProjectRef, path: String, base: Option<String> },
    /// Path among a target's artifacts, likewise.
    Artifact { tree: State, path: String, base: Option<String> },
    /// The file of a heredoc.
    Text { tree: State, path: String },
}

/// What of each project's folder a COPY reads.
type Contexts = BTreeMap<ProjectRef, Context>;

impl Evaluator<'_> {
    /// `COPY …`
    pub(super) async fn copy(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        copy: &CopyStmt<Resolved>,
    ) -> Fallible<()> {
        if frame.locally.is_some() {
            return self.copy_locally(frame, stmt, copy).await;
        }
        let (mut contexts, mut sources) = (Contexts::new(), Vec::new());
        for source in &copy.sources {
            match source {
                CopySource::Artifact { call, path } => {
                    sources.extend(self.artifacts(frame, copy, call, path).await?);
                }
                CopySource::Path(word) => {
                    sources.push(self.path_source(frame, copy, word, &mut contexts).await?);
                }
                CopySource::Heredoc(heredoc) => sources.push(self.heredoc(frame, stmt, heredoc).await?),
            }
        }
        let files = sources.iter().any(|source| matches!(source, Source::File { .. }));
        let artifacts = sources.iter().any(|source| matches!(source, Source::Artifact { .. }));
        if files && artifacts {
            return Err(Diagnostic::error(
                codes::BAD_COPY,
                "COPY takes paths or artifacts, not both at once",
            )
            .with_label(stmt.span, "")
            .with_help("write one COPY for the paths and one for the artifacts"));
        }
        let copied = sources.iter().filter_map(|source| match source {
            Source::File { project, path, base: _ } => Some((project.clone(), path.clone())),
            Source::Artifact { .. } | Source::Text { .. } => None,
        });
        let copied: Vec<_> = copied.collect();
        let mut locals = BTreeMap::new();
        for (project, context) in contexts {
            let state = self.context(frame, stmt.span, frame.meta(stmt), &project, context).await?;
            locals.insert(project, state);
        }
        let froms = sources.into_iter().filter_map(|source| match source {
            Source::File { project, path, base } => {
                let from = |place: &Folder| CopyFrom {
                    state: place.state.clone(),
                    path: format!("{}/{path}", place.path),
                    base: base.map(|base| place.path.clone() + &below(&base)),
                };
                locals.get(&project).map(from)
            }
            Source::Artifact { tree, path, base } => Some(CopyFrom { state: tree, path, base }),
            Source::Text { tree, path } => Some(CopyFrom { state: tree, path, base: None }),
        });
        let froms: Vec<CopyFrom> = froms.collect();
        if froms.is_empty() {
            return Ok(());
        }
        let text = self.expand(frame, &copy.destination, Escapes::Remove).await?;
        let into = froms.len() > 1 || copy.parents || paths::names_directory(&text);
        let dest = match paths::absolute(frame.cwd(), &text) {
            path if into => paths::into_directory(&path),
            path => path,
        };
        let alias = scripts::last(text.trim_end_matches('/')).to_owned();
        frame.copied.extend(copied.into_iter().map(|(project, path)| Copied {
            project,
            path,
            alias: alias.clone(),
        }));
        let options = self.copy_options(frame, copy, artifacts).await?;
        frame.state = match copy.link {
            true => {
                check_owner_of_link(&options, copy.chown.as_ref().map_or(stmt.span, |word| word.span))?;
                lower::copy_linked(&frame.state, &froms, &dest, &options, frame.meta(stmt))
            }
            false => lower::copy(&frame.state, &froms, &dest, &options, frame.meta(stmt)),
        };
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    /// Returns what a statement reads of one project's folder.
    pub(super) async fn context(
        &self,
        frame: &Frame,
        at: Span,
        meta: NodeMeta,
        project: &ProjectRef,
        mut context: Context,
    ) -> Fallible<Folder> {
        context.exclude = self.ignored(project, at).await?;
        // Who takes the whole folder wants the project and not its recipe: else a comment in it would be a change of
        // the project. Who names the build file gets it; Earthfiles get it as ever.
        let file = &frame.scope.file;
        let recipe = file.source.name.rsplit('/').next().unwrap_or_default();
        let whole = context.patterns.iter().any(|pattern| pattern.is_empty() || pattern.starts_with('*'));
        if file.edition == Edition::One
            && whole
            && *project == file.project
            && context.patterns.iter().all(|pattern| pattern != recipe)
        {
            context.exclude.push(recipe.to_owned());
        }
        // The folder itself holds all that other paths name.
        if context.patterns.iter().any(String::is_empty) {
            context.patterns.clear();
        }
        // A folder is looked at once in a build; what a command on the host may have changed is looked at again.
        context.unique = self.look_after_commands();
        let Some(repository) = project.repository() else {
            let state = lower::context(project, &context, &frame.platform, meta);
            return Ok(Folder { state, path: String::new() });
        };
        let pinned = self.world.workspace().pin(repository).await;
        let pinned = pinned.map_err(|error| world_error(codes::WORKSPACE, &error, at))?;
        Ok(lower::folder_elsewhere(repository, &pinned, project.dir(), &context.exclude, meta))
    }

    async fn copy_options(
        &self,
        frame: &Frame,
        copy: &CopyStmt<Resolved>,
        artifacts: bool,
    ) -> Fallible<CopyOptions> {
        let owner = match &copy.chown {
            Some(word) => {
                let owner = self.expand(frame, word, Escapes::Remove).await?;
                if ["", ":"].contains(&&*owner) || owner.contains(char::is_whitespace) {
                    return Err(Diagnostic::error(codes::BAD_FLAG, format!("`{owner}` is not an owner"))
                        .with_label(word.span, "")
                        .with_help("write `--chown=user`, `--chown=user:group`, `--chown=:group` or numbers in their place"));
                }
                Some(owner)
            }
            None if artifacts && copy.keep_owner => None,
            None => Some(default_owner(frame)),
        };
        let mode = match &copy.chmod {
            Some(word) => CopyMode::Bits(mode(&self.expand(frame, word, Escapes::Remove).await?, word.span)?),
            None => CopyMode::Keep,
        };
        Ok(CopyOptions {
            whole_directories: copy.dir,
            if_exists: copy.if_exists,
            follow_symlink: !copy.symlink_no_follow,
            mode,
            owner,
            timestamp: timestamp(frame, copy.keep_times),
        })
    }

    /// A source without a plus as written; with its variables filled in it may be an artifact after all.
    async fn path_source(
        &self,
        frame: &mut Frame,
        copy: &CopyStmt<Resolved>,
        word: &Word,
        contexts: &mut Contexts,
    ) -> Fallible<Source> {
        if word.raw.contains(['$', '{']) {
            let text = self.expand(frame, word, Escapes::KeepPlus).await?;
            if let Some(plus) = dividing_plus(&text) {
                let Some(slash) = text[plus..].find('/').map(|slash| plus + slash) else {
                    let message = format!("`{text}` names a target, and COPY needs one of its artifacts");
                    return Err(Diagnostic::error(codes::BAD_COPY, message)
                        .with_label(word.span, "")
                        .with_help(format!("write `{text}/name`, or `{text}/` for all of them")));
                };
                let target = Word { raw: text[..slash].to_owned(), span: word.span };
                let call = Call::bare(Reference::Dynamic(target), word.span);
                return self.artifact(frame, copy, &call, &text[slash..]).await;
            }
        }
        let text = self.expand(frame, word, Escapes::KeepPattern).await?;
        let (project, text) = frame.path_of(&text);
        let context = contexts.entry(project.clone()).or_default();
        let path = self.local_source(&project, word, &text, copy.if_exists, context).await?;
        let base = copy.parents.then(|| paths::inside(kept_from(&text)).unwrap_or_default());
        Ok(Source::File { project, path, base })
    }

    /// `<<NAME`: a file of that content.
    async fn heredoc(&self, frame: &Frame, stmt: &Stmt<Resolved>, heredoc: &Heredoc) -> Fallible<Source> {
        let text = match heredoc.expand {
            true => {
                let word = Word { raw: quoted(&heredoc.body.raw), span: heredoc.body.span };
                self.expand(frame, &word, Escapes::Remove).await?
            }
            false => heredoc.body.raw.clone(),
        };
        let path = format!("/{}", heredoc.name.value);
        let file = MkfileAction {
            path: path.clone(),
            mode: 0o644,
            data: text.into_bytes().into(),
            owner: None,
            timestamp: None,
        };
        let meta = NodeMeta { span: Some(stmt.span), ..NodeMeta::named(format!("<<{}", heredoc.name.value)) };
        Ok(Source::Text { tree: State::scratch().mkfile(file, meta), path })
    }

    /// Evaluates what an artifact's reference means; a pattern stands for one artifact of each match.
    async fn artifacts(
        &self,
        frame: &mut Frame,
        copy: &CopyStmt<Resolved>,
        call: &Call<Resolved>,
        path: &Word,
    ) -> Fallible<Vec<Source>> {
        let path = self.expand(frame, path, Escapes::KeepPattern).await?;
        let Reference::Pattern { pattern, written } = &call.target else {
            return Ok(vec![self.artifact(frame, copy, call, &path).await?]);
        };
        let mut sources = Vec::new();
        for target in self.program.expand_pattern(pattern, call.span).await? {
            let target = Reference::Settled { target, via: pattern.via, written: written.clone() };
            let call = Call { target, ..call.clone() };
            sources.push(self.artifact(frame, copy, &call, &path).await?);
        }
        Ok(sources)
    }

    async fn artifact(
        &self,
        frame: &mut Frame,
        copy: &CopyStmt<Resolved>,
        call: &Call<Resolved>,
        path: &str,
    ) -> Fallible<Source> {
        let callee = self.call_one(frame, call).await?.output;
        let base = copy.parents.then(|| below(paths::absolute("/", kept_from(path)).trim_matches('/')));
        let path = paths::absolute("/", path);
        if !copy.if_exists {
            check_saved(&callee, &path, call.span)?;
        }
        Ok(Source::Artifact { tree: callee.artifact_tree.clone(), path, base })
    }
}

/// A layer that depends on nothing below it cannot ask there who is meant by a name.
fn check_owner_of_link(options: &CopyOptions, at: Span) -> Fallible<()> {
    let is_number = |part: &str| part.is_empty() || part.bytes().all(|byte| byte.is_ascii_digit());
    let owner = options.owner.as_deref().unwrap_or_default();
    if owner.split(':').all(is_number) {
        return Ok(());
    }
    let message =
        format!("`{owner}` is a name, and COPY --link does not look into the image that it lies on");
    Err(Diagnostic::error(codes::BAD_COPY, message)
        .with_label(at, "")
        .with_help("write the owner in numbers, such as `--chown=1000:1000`, or leave `--link` out"))
}

/// Returns the part of a path whose folders are not kept: what stands before `/./`.
fn kept_from(path: &str) -> &str {
    path.split_once("/./").map_or("", |(before, _)| before)
}

/// Writes a path as one below another; of that itself nothing.
fn below(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

/// Writes a heredoc's lines as a word in which only variables mean something.
fn quoted(body: &str) -> String {
    let mut raw = String::with_capacity(body.len());
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek().is_some_and(|next| matches!(next, '$' | '\\')) => {
                raw.push('\\');
                raw.extend(letters.next());
            }
            '\\' | '\'' | '"' => raw.extend(['\\', letter]),
            other => raw.push(other),
        }
    }
    raw
}

/// The owner of copied files where the statement names none: the image's user, else root.
pub(super) fn default_owner(frame: &Frame) -> String {
    let user = frame.config.config.user.as_deref().filter(|user| !user.is_empty());
    user.unwrap_or("0:0").to_owned()
}

pub(super) fn timestamp(frame: &Frame, keep: bool) -> Option<i64> {
    (!keep && frame.edition() < Edition::One).then_some(EARTHLY_TIMESTAMP)
}

/// Checks that a target saves what is copied of it, as far as names tell: what lies in a saved directory, or came
/// from a pattern, is known only when it is built.
pub(super) fn check_saved(callee: &TargetOutput, path: &str, at: Span) -> Fallible<()> {
    let wanted: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let saves = |saved: &SavedArtifact| {
        let have = saved.path.split('/').filter(|part| !part.is_empty());
        have.zip(&wanted).all(|(have, wanted)| glob::matches(wanted, have))
    };
    if callee.artifacts.iter().any(saves) {
        return Ok(());
    }
    let target = &callee.key.target;
    let shown = path.trim_start_matches('/');
    let names = callee.artifacts.iter().map(|saved| saved.path.trim_start_matches('/'));
    let error = match callee.artifacts.is_empty() {
        true => Diagnostic::error(codes::UNKNOWN_ARTIFACT, format!("{target} saves no artifacts"))
            .with_help(format!("add `SAVE ARTIFACT {shown}` to it")),
        false => {
            let error =
                Diagnostic::error(codes::UNKNOWN_ARTIFACT, format!("{target} saves no artifact `{shown}`"));
            match nearest(shown, names.clone()) {
                Some(near) => error.with_help(format!("did you mean `{target}/{near}`?")),
                None => {
                    let names = names.map(|name| format!("`{name}`")).collect::<Vec<_>>();
                    error.with_help(format!("it saves {}", names.join(", ")))
                }
            }
        }
    };
    Err(error.with_label(at, "no such artifact"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_mean_something_in_a_heredoc() {
        assert_eq!(quoted("it's \"$x\"\n"), "it\\'s \\\"$x\\\"\n");
        assert_eq!(quoted(r"\$x \\ \n"), r"\$x \\ \\n");
    }
}

//! COPY and SAVE ARTIFACT: files into a target, and out of it.

use rb_diag::{Diagnostic, Span, nearest};
use rb_frontend::{LocalOutput, SavedArtifact, TargetOutput};
use rb_llb::{CopyMode, State};
use rb_syntax::{Call, CopySource, CopyStmt, Edition, SaveArtifact, Stmt, Word};

use super::frame::{Frame, Layer};
use super::{Evaluator, Fallible};
use crate::lower::paths::OutsideError;
use crate::lower::{self, Context, CopyFrom, CopyOptions, EARTHLY_TIMESTAMP, paths};
use crate::resolve::{Reference, Resolved, dividing_plus};
use crate::word::Escapes;
use crate::{codes, glob};

/// What a source turned out to be once its variables were filled in.
enum Source {
    /// Path in the project.
    File(String),
    Artifact {
        tree: State,
        path: String,
    },
}

impl Evaluator<'_> {
    /// `COPY …`
    pub(super) async fn copy(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        copy: &CopyStmt<Resolved>,
    ) -> Fallible<()> {
        let mut context = Context::default();
        let mut sources = Vec::new();
        for source in &copy.sources {
            sources.push(match source {
                CopySource::Artifact { call, path } => {
                    let path = self.expand(frame, path, Escapes::KeepPattern)?;
                    self.artifact(frame, copy, call, &path).await?
                }
                CopySource::Path(word) => self.path_source(frame, copy, word, &mut context).await?,
            });
        }
        let platform = frame.key.platform.clone();
        let files = sources.iter().filter(|source| matches!(source, Source::File(_))).count();
        if files != 0 && files != sources.len() {
            return Err(Diagnostic::error(
                codes::BAD_COPY,
                "COPY takes paths or artifacts, not both at once",
            )
            .with_label(stmt.span, "")
            .with_help("write one COPY for the paths and one for the artifacts"));
        }
        // Who takes the whole folder wants the project and not its recipe: else a comment in it would be a change of
        // the project. Who names the build file gets it; Earthfiles get it as ever.
        let recipe = frame.file.source.name.rsplit('/').next().unwrap_or_default();
        let whole = context.patterns.iter().any(|pattern| pattern.is_empty() || pattern.starts_with('*'));
        if frame.file.edition == Edition::One
            && whole
            && context.patterns.iter().all(|pattern| pattern != recipe)
        {
            context.exclude.push(recipe.to_owned());
        }
        // The folder itself holds all that other paths name.
        if context.patterns.iter().any(String::is_empty) {
            context.patterns.clear();
        }
        let local = lower::context(&frame.file.project, &context, &platform, frame.meta(stmt));
        let froms: Vec<CopyFrom> = sources
            .into_iter()
            .map(|source| match source {
                Source::File(path) => CopyFrom { state: local.clone(), path: format!("/{path}") },
                Source::Artifact { tree, path } => CopyFrom { state: tree, path },
            })
            .collect();
        let text = self.expand(frame, &copy.destination, Escapes::Remove)?;
        let into = froms.len() > 1 || paths::names_directory(&text);
        let dest = match paths::absolute(frame.cwd(), &text) {
            path if into => paths::into_directory(&path),
            path => path,
        };
        let options = self.copy_options(frame, copy, files == 0)?;
        frame.state = lower::copy(&frame.state, &froms, &dest, &options, frame.meta(stmt));
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    fn copy_options(
        &self,
        frame: &Frame,
        copy: &CopyStmt<Resolved>,
        artifacts: bool,
    ) -> Fallible<CopyOptions> {
        let owner = match &copy.chown {
            Some(word) => {
                let owner = self.expand(frame, word, Escapes::Remove)?;
                if owner.is_empty() || owner.starts_with(':') || owner.contains(char::is_whitespace) {
                    return Err(Diagnostic::error(codes::BAD_FLAG, format!("`{owner}` is not an owner"))
                        .with_label(word.span, "")
                        .with_help("write `--chown=user`, `--chown=user:group` or numbers in their place"));
                }
                Some(owner)
            }
            None if artifacts && copy.keep_owner => None,
            None => Some(default_owner(frame)),
        };
        let mode = match &copy.chmod {
            Some(word) => self.mode(frame, word)?,
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

    fn mode(&self, frame: &Frame, word: &Word) -> Fallible<CopyMode> {
        let text = self.expand(frame, word, Escapes::Remove)?;
        let octal = (1..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if octal && bits <= 0o7777 => Ok(CopyMode::Bits(bits)),
            _ => Err(Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a file mode"))
                .with_label(word.span, "")
                .with_help("write octal digits, such as `--chmod=644` or `--chmod=0755`")),
        }
    }

    /// A source without a plus as written; with its variables filled in it may be an artifact after all.
    async fn path_source(
        &self,
        frame: &Frame,
        copy: &CopyStmt<Resolved>,
        word: &Word,
        context: &mut Context,
    ) -> Fallible<Source> {
        if word.raw.contains('$') {
            let text = self.expand(frame, word, Escapes::KeepPlus)?;
            if let Some(plus) = dividing_plus(&text) {
                let Some(slash) = text[plus..].find('/').map(|slash| plus + slash) else {
                    let message = format!("`{text}` names a target, and COPY needs one of its artifacts");
                    return Err(Diagnostic::error(codes::BAD_COPY, message)
                        .with_label(word.span, "")
                        .with_help(format!("write `{text}/name`, or `{text}/` for all of them")));
                };
                let target = Word { raw: text[..slash].to_owned(), span: word.span };
                let call = Call { target: Reference::Dynamic(target), span: word.span, args: Vec::new() };
                return self.artifact(frame, copy, &call, &text[slash..]).await;
            }
        }
        let text = self.expand(frame, word, Escapes::KeepPattern)?;
        let project = frame.file.project.clone();
        self.local_source(&project, word, &text, copy.if_exists, context).await.map(Source::File)
    }

    async fn artifact(
        &self,
        frame: &Frame,
        copy: &CopyStmt<Resolved>,
        call: &Call<Resolved>,
        path: &str,
    ) -> Fallible<Source> {
        let callee = self.call_one(frame, call).await?.output;
        let path = paths::absolute("/", path);
        if !copy.if_exists {
            check_saved(&callee, &path, call.span)?;
        }
        Ok(Source::Artifact { tree: callee.artifact_tree.clone(), path })
    }

    /// `SAVE ARTIFACT …`
    pub(super) fn save_artifact(
        &self,
        frame: &mut Frame,
        stmt: &Stmt<Resolved>,
        save: &SaveArtifact,
    ) -> Fallible<()> {
        let text = self.expand(frame, &save.source, Escapes::KeepPattern)?;
        let source = paths::absolute(frame.cwd(), &text);
        let many = glob::is_pattern(&source);
        if source == "/" {
            return Err(Diagnostic::error(
                codes::BAD_COPY,
                "the root directory cannot be saved as an artifact",
            )
            .with_label(save.source.span, "")
            .with_help("name what is in it, or save `/*`"));
        }
        let name = match &save.destination {
            Some(word) => self.expand(frame, word, Escapes::Remove)?,
            None => "./".to_owned(),
        };
        let path = match paths::absolute("/", &name) {
            dir if many => dir,
            dir if paths::names_directory(&name) => paths::absolute(&dir, paths::base_name(&source)),
            path => path,
        };
        let local = match &save.local {
            Some(word) => Some(self.local_output(frame, save, word, many)?),
            None => None,
        };
        let dest = if many { paths::into_directory(&path) } else { path.clone() };
        // A directory that is there already takes what is in a second one of that name, not the second one itself.
        let there = frame.artifacts.iter().any(|saved| paths::is_within(&saved.path, &path));
        let options = CopyOptions {
            whole_directories: many || !there,
            if_exists: save.if_exists,
            follow_symlink: !save.symlink_no_follow,
            timestamp: timestamp(frame, save.keep_times),
            ..CopyOptions::default()
        };
        let from = [CopyFrom { state: frame.state.clone(), path: source }];
        let copy =
            |onto: &State, options: &CopyOptions| lower::copy(onto, &from, &dest, options, frame.meta(stmt));
        let alone = CopyOptions { whole_directories: true, ..options.clone() };
        let state = copy(&State::scratch(), &alone);
        frame.artifact_tree = copy(&frame.artifact_tree, &options);
        frame.artifacts.push(SavedArtifact {
            path,
            many,
            optional: save.if_exists,
            state,
            local,
            span: stmt.span,
        });
        Ok(())
    }

    fn local_output(
        &self,
        frame: &Frame,
        save: &SaveArtifact,
        word: &Word,
        many: bool,
    ) -> Fallible<LocalOutput> {
        let text = self.expand(frame, word, Escapes::Remove)?;
        let into = paths::names_directory(&text);
        if many && !into {
            let message = "AS LOCAL of a pattern needs a folder";
            return Err(Diagnostic::error(codes::BAD_COPY, message)
                .with_label(word.span, "one name for many files")
                .with_help(format!("write `{text}/`")));
        }
        let project = &frame.file.project;
        let path = match paths::inside(&text) {
            Ok(path) => project.join(&path).dir().to_owned(),
            Err(OutsideError::Absolute) if save.force => paths::absolute("/", &text),
            Err(OutsideError::Above) if save.force => project.join(&text).dir().to_owned(),
            Err(error) => {
                let message = format!("cannot write `{text}`: {error}");
                return Err(Diagnostic::error(codes::PATH_OUTSIDE, message)
                    .with_label(word.span, "")
                    .with_help("`SAVE ARTIFACT --force` may write anywhere"));
            }
        };
        Ok(LocalOutput { path, into })
    }
}

/// The owner of copied files where the statement names none: the image's user, else root.
fn default_owner(frame: &Frame) -> String {
    let user = frame.config.config.user.as_deref().filter(|user| !user.is_empty());
    user.unwrap_or("0:0").to_owned()
}

fn timestamp(frame: &Frame, keep: bool) -> Option<i64> {
    (!keep && frame.file.edition < Edition::One).then_some(EARTHLY_TIMESTAMP)
}

/// Checks that a target saves what is copied of it, as far as names tell: what lies in a saved directory, or came
/// from a pattern, is known only when it is built.
fn check_saved(callee: &TargetOutput, path: &str, at: Span) -> Fallible<()> {
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

//! What mounts of a step take from elsewhere: files of the project, artifacts, images (`VERSION 1`).
//!
//! `--mount=type=bind,source=PATH` shows a path of the project, `from=+target` an artifact of a target and `from=IMAGE` a path of an
//! image; a cache with `from=` begins as that. A bind is read-only, and with `rw` what is written to it is forgotten. Only the path that
//! is shown is in the step's key. Source: BuildKit's Dockerfile frontend, `RUN --mount` (facts).

use rb_diag::{Diagnostic, Span};
use rb_llb::{NodeMeta, State};
use rb_oci::Platform;
use rb_syntax::{Call, Edition, StepFlags, Word};

use super::caches::{Options, bad_mount};
use super::copy::check_saved;
use super::frame::Frame;
use super::{Evaluator, Fallible};
use crate::lower::{Bind, Context, Step, paths};
use crate::resolve::{Reference, dividing_plus};
use crate::word::Escapes;
use crate::{codes, glob};

/// Keys that say something of a bind.
const KEYS_OF_BINDS: [&str; 5] = ["type", "target", "source", "from", "rw"];

/// A tree that a mount of a step shows, or begins as.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    target: String,
    tree: State,
    /// Path in it; empty is all of it.
    selector: String,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bind { writable: bool },
    Cache,
}

impl Evaluator<'_> {
    /// Returns what the mounts of a step take from elsewhere; in LOCALLY there are no mounts.
    pub(super) async fn taken(&self, frame: &mut Frame, flags: &StepFlags) -> Fallible<Vec<Taken>> {
        let mut taken = Vec::new();
        if frame.locally.is_some() {
            return Ok(taken);
        }
        for word in &flags.mounts {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            let options = Options::read(&text, word.span)?;
            let what = match options.get("type") {
                Some("bind") => What::Bind { writable: options.get("rw") == Some("true") },
                Some("cache") if options.get("from").is_some() => What::Cache,
                _ => continue,
            };
            check(frame, &options, what, word.span)?;
            let target = paths::absolute(frame.cwd(), options.get("target").unwrap_or_default());
            let (tree, selector) = self.source_of(frame, word, &options).await?;
            taken.push(Taken { target, tree, selector, what });
        }
        Ok(taken)
    }

    /// Returns the tree that a mount names, and the path in it.
    async fn source_of(
        &self,
        frame: &mut Frame,
        word: &Word,
        options: &Options<'_>,
    ) -> Fallible<(State, String)> {
        let source = options.get("source").unwrap_or_default();
        if glob::is_pattern(source) {
            return Err(bad_mount(format!("`{source}` is a pattern, and a mount shows one path"), word.span)
                .with_help("name a folder, or COPY what matches"));
        }
        let meta = |name: &str| NodeMeta {
            name: Some(format!("{} | --mount {name}", frame.key)),
            span: Some(word.span),
            description: frame.calls(),
            ..NodeMeta::default()
        };
        let Some(from) = options.get("from") else {
            return self.of_project(frame, word, source, meta(source)).await;
        };
        let inside = |source: &str| match paths::absolute("/", source) {
            path if path == "/" => String::new(),
            path => path,
        };
        if from == "scratch" {
            return Ok((State::scratch(), inside(source)));
        }
        if let Some(plus) = dividing_plus(from) {
            let end = from[plus..].find('/').map_or(from.len(), |slash| plus + slash);
            let (target, artifact) = from.split_at(end);
            let target = Word { raw: target.to_owned(), span: word.span };
            let call = Call::bare(Reference::Dynamic(target), word.span);
            let callee = self.call_one(frame, &call).await?.output;
            let selector = inside(&format!("{artifact}/{source}"));
            if !selector.is_empty() {
                check_saved(&callee, &selector, word.span)?;
            }
            return Ok((callee.artifact_tree.clone(), selector));
        }
        let meta = meta(from);
        let platform: Platform = frame.key.platform.clone();
        let (state, _) = self.image_of(frame, word, from, &platform, meta).await?;
        Ok((state, inside(source)))
    }

    /// Returns a path of the project's folder; `//` begins at the root.
    async fn of_project(
        &self,
        frame: &Frame,
        word: &Word,
        source: &str,
        meta: NodeMeta,
    ) -> Fallible<(State, String)> {
        let source = if source.is_empty() { "." } else { source };
        let (project, path) = frame.path_of(source);
        let mut context = Context::default();
        let path = self.local_source(&project, word, &path, false, &mut context).await?;
        let folder = self.context(frame, word.span, meta, &project, context).await?;
        let below = if path.is_empty() { path } else { format!("/{path}") };
        Ok((folder.state, folder.path + &below))
    }
}

/// Gives a step what its mounts take from elsewhere.
pub(super) fn give(step: &mut Step, taken: Vec<Taken>, at: Span) -> Fallible<()> {
    for Taken { target, tree, selector, what } in taken {
        match what {
            What::Bind { writable } => step.binds.push(Bind { target, tree, selector, writable }),
            What::Cache => {
                let cache = step.caches.iter_mut().find(|cache| cache.target == target);
                if let Some(cache) = cache {
                    cache.from = Some((tree, selector));
                }
            }
        }
    }
    super::caches::check_targets(step, at)
}

fn check(frame: &Frame, options: &Options<'_>, what: What, at: Span) -> Fallible<()> {
    if frame.edition() < Edition::One {
        let message = if what == What::Cache { "`from` of a mount" } else { "a bind mount" };
        return Err(Diagnostic::error(codes::BAD_MOUNT, format!("{message} needs `VERSION 1`"))
            .with_label(at, "")
            .with_help("copy it: `COPY +target/path destination`"));
    }
    let problem = match what {
        What::Bind { .. } => options.other_than(&KEYS_OF_BINDS).map(|key| format!("a bind has no `{key}`")),
        What::Cache => ["mode", "chmod", "uid", "gid"]
            .into_iter()
            .find(|key| options.get(key).is_some())
            .map(|key| format!("a cache with `from` has no `{key}`: it begins as what that has")),
    };
    if let Some(problem) = problem {
        return Err(bad_mount(problem, at).with_help("take it away"));
    }
    match options.get("target") {
        Some(path) if !path.is_empty() => Ok(()),
        _ => Err(bad_mount("the mount has no target".to_owned(), at)),
    }
}

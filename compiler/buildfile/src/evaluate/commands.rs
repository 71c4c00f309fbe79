//! The statements, one by one: which of them goes where, and what may stand before a FROM or in LOCALLY.

use std::future::ready;

use rb_diag::Diagnostic;
use rb_syntax::{Import, Stmt, StmtKind};

use super::control::Work;
use super::frame::Frame;
use super::run::{forbidden, later};
use super::{Evaluator, Fallible, trust};
use crate::codes;
use crate::describe::keyword;
use crate::resolve::{Imported, ProjectReference, Resolved, Via, default_alias, parse_project};
use crate::word::Escapes;

impl Evaluator<'_> {
    /// Evaluates one statement other than BUILD. Each kind has a future of its own on the heap, so that nested blocks
    /// and functions cost little stack.
    pub(super) fn execute<'f>(&'f self, frame: &'f mut Frame, stmt: &'f Stmt<Resolved>) -> Work<'f> {
        if works_on_base(&stmt.kind) && !frame.based {
            let message = format!("{} stands before any FROM", keyword(&stmt.kind));
            let error = Diagnostic::error(codes::NO_BASE, message)
                .with_label(stmt.span, "works on nothing")
                .with_help(
                    "start the target, or the file, with `FROM scratch`, `FROM +target` or `FROM @host`",
                );
            return Box::pin(ready(Err(error)));
        }
        match &stmt.kind {
            StmtKind::From(from) => Box::pin(self.from(frame, stmt, from)),
            StmtKind::Locally(_) => Box::pin(ready(self.locally(frame, stmt))),
            StmtKind::Run(run) => Box::pin(self.run(frame, stmt, run)),
            StmtKind::Copy(copy) => Box::pin(self.copy(frame, stmt, copy)),
            StmtKind::Arg(arg) => Box::pin(self.argument(frame, arg)),
            StmtKind::Let(assignment) => Box::pin(self.declare(frame, assignment)),
            StmtKind::Set(assignment) => Box::pin(self.assign(frame, assignment)),
            StmtKind::GitClone(clone) => Box::pin(self.git_clone(frame, stmt, clone)),
            StmtKind::Cache(cache) => Box::pin(self.cache(frame, cache, stmt.span)),
            StmtKind::SaveArtifact(save) => Box::pin(self.save_artifact(frame, stmt, save)),
            StmtKind::SaveImage(save) => Box::pin(self.save_image(frame, stmt, save)),
            StmtKind::Do(call) => Box::pin(self.function(frame, stmt, call)),
            StmtKind::Import(import) => Box::pin(self.import(frame, import)),
            StmtKind::If(branches) => Box::pin(self.branch(frame, branches)),
            StmtKind::For(each) => Box::pin(self.repeat(frame, stmt, each)),
            StmtKind::Wait(body) => Box::pin(self.wait(frame, stmt.span, body)),
            StmtKind::Try(attempt) => self.attempt(frame, stmt.span, attempt),
            StmtKind::Later(what) => Box::pin(ready(Err(later(&what.name, what.keyword)))),
            // BUILDs are taken in runs by `body`; PROJECT names a cloud's project, which nothing here needs.
            StmtKind::Build(_) | StmtKind::Project(_) => Box::pin(ready(Ok(()))),
            StmtKind::Env(_)
            | StmtKind::Workdir(_)
            | StmtKind::User(_)
            | StmtKind::Entrypoint(_)
            | StmtKind::Cmd(_)
            | StmtKind::Shell(_)
            | StmtKind::Expose(_)
            | StmtKind::Volume(_)
            | StmtKind::Label(_)
            | StmtKind::Healthcheck(_)
            | StmtKind::StopSignal(_)
            | StmtKind::Host(_) => Box::pin(self.metadata(frame, stmt)),
        }
    }

    /// `LOCALLY`
    fn locally(&self, frame: &mut Frame, stmt: &Stmt<Resolved>) -> Fallible<()> {
        if !self.config.capabilities.locally {
            return Err(forbidden("LOCALLY", "locally", stmt.span));
        }
        if self.request.options.strict {
            return Err(Diagnostic::error(
                codes::NOT_ALLOWED,
                "LOCALLY runs commands outside of every sandbox",
            )
            .with_label(stmt.span, "not allowed with `--strict`")
            .with_help("build without `--strict` or `--ci`, or run the command in a step"));
        }
        trust::check(frame, "LOCALLY", stmt.span)?;
        self.start_locally(frame);
        Ok(())
    }

    /// `IMPORT …`
    async fn import(&self, frame: &mut Frame, import: &Import<Resolved>) -> Fallible<()> {
        let (project, written) = match &import.project {
            ProjectReference::Settled { project, written } => (project.clone(), written.raw.clone()),
            ProjectReference::Dynamic(word) => {
                let text = self.expand(frame, word, Escapes::KeepPlus).await?;
                let scope = &frame.scope;
                let project = parse_project(&text, &scope.file.project, scope.file.edition);
                let refuse = |error: crate::resolve::ReferenceError| {
                    error.diagnostic().with_label(word.span, format!("this is `{text}`"))
                };
                (project.map_err(refuse)?, text)
            }
        };
        let alias = match &import.alias {
            Some(alias) => alias.value.clone(),
            None => default_alias(&written).ok_or_else(|| {
                Diagnostic::error(codes::BAD_IMPORT, format!("`{written}` gives no name to call it by"))
                    .with_label(import.span, "")
                    .with_help("write `IMPORT … AS name`")
            })?,
        };
        let via =
            Via { pass_args: import.pass_args, allow_privileged: import.allow_privileged, imported: true };
        frame.scope.imports.add(&alias, Imported { project, via, span: import.span })
    }
}

/// Returns whether a statement needs a filesystem to work on.
fn works_on_base(kind: &StmtKind<Resolved>) -> bool {
    match kind {
        StmtKind::From(_)
        | StmtKind::Locally(_)
        | StmtKind::Arg(_)
        | StmtKind::Let(_)
        | StmtKind::Set(_)
        | StmtKind::Build(_)
        | StmtKind::Import(_)
        | StmtKind::Project(_)
        // What of these needs a base says so itself.
        | StmtKind::Do(_)
        | StmtKind::If(_)
        | StmtKind::For(_)
        | StmtKind::Wait(_)
        | StmtKind::Try(_)
        | StmtKind::Later(_) => false,
        StmtKind::Run(_)
        | StmtKind::Copy(_)
        | StmtKind::Env(_)
        | StmtKind::Workdir(_)
        | StmtKind::User(_)
        | StmtKind::Entrypoint(_)
        | StmtKind::Cmd(_)
        | StmtKind::Shell(_)
        | StmtKind::Expose(_)
        | StmtKind::Volume(_)
        | StmtKind::Label(_)
        | StmtKind::Healthcheck(_)
        | StmtKind::StopSignal(_)
        | StmtKind::Host(_)
        | StmtKind::GitClone(_)
        | StmtKind::Cache(_)
        | StmtKind::SaveArtifact(_)
        | StmtKind::SaveImage(_) => true,
    }
}

//! Statements inside blocks, and what a statement calls.

use rb_syntax::{Base, Call, CopySource, FileSource, Stage, Stmt, StmtKind};

use super::Resolved;

/// Returns all statements of a recipe in the order of the text, those of blocks included.
pub(crate) fn statements<S: Stage>(body: &[Stmt<S>]) -> impl Iterator<Item = &Stmt<S>> {
    walk(body).map(|(stmt, _)| stmt)
}

/// Returns all statements in the order of the text, and whether something decides if a statement is evaluated.
pub(super) fn walk<S: Stage>(body: &[Stmt<S>]) -> impl Iterator<Item = (&Stmt<S>, bool)> {
    // A stack of our own: how deep blocks nest is the file's business.
    let mut open = vec![(body.iter(), false)];
    std::iter::from_fn(move || {
        loop {
            let (rest, conditional) = open.last_mut()?;
            let conditional = *conditional;
            let Some(stmt) = rest.next() else {
                open.pop();
                continue;
            };
            let (bodies, decides) = blocks(stmt);
            let inner = bodies.into_iter().rev().map(|body| (body.iter(), conditional || decides));
            open.extend(inner);
            return Some((stmt, conditional));
        }
    })
}

/// Returns a statement's blocks, and whether something decides if they are evaluated.
pub(super) fn blocks<S: Stage>(stmt: &Stmt<S>) -> (Vec<&[Stmt<S>]>, bool) {
    match &stmt.kind {
        StmtKind::If(stmt) => {
            let branches = stmt.branches.iter().map(|branch| branch.body.as_slice());
            (branches.chain(stmt.otherwise.as_deref()).collect(), true)
        }
        StmtKind::For(stmt) => (vec![&stmt.body], true),
        StmtKind::Wait(body) => (vec![body], false),
        StmtKind::Try(stmt) => {
            let parts = [Some(&stmt.body), stmt.catch.as_ref(), stmt.finally.as_ref()];
            (parts.into_iter().flatten().map(Vec::as_slice).collect(), stmt.catch.is_some())
        }
        StmtKind::Later(later) => (later.blocks.iter().map(Vec::as_slice).collect(), true),
        StmtKind::From(_)
        | StmtKind::Locally(_)
        | StmtKind::Run(_)
        | StmtKind::Copy(_)
        | StmtKind::Arg(_)
        | StmtKind::Let(_)
        | StmtKind::Set(_)
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
        | StmtKind::SaveImage(_)
        | StmtKind::Build(_)
        | StmtKind::Do(_)
        | StmtKind::Import(_)
        | StmtKind::Project(_) => (Vec::new(), false),
    }
}

/// Returns the targets that one statement calls itself, in order; those in its blocks are their statements'.
pub(crate) fn calls(stmt: &Stmt<Resolved>) -> impl Iterator<Item = &Call<Resolved>> {
    let none = [None, None, None];
    let (mut sources, mut files) = (&[][..], &[][..]);
    let own = match &stmt.kind {
        StmtKind::From(from) => match &from.base {
            Base::Target(call) => [Some(call), None, None],
            Base::Dockerfile(from) => [from.file.as_ref().and_then(called), called(&from.context), None],
            Base::Buildpacks(from) => {
                files = from.buildpacks.as_slice();
                let [descriptor, launcher] =
                    [&from.descriptor, &from.launcher].map(|file| file.as_ref().and_then(called));
                [called(&from.app), descriptor, launcher]
            }
            Base::Scratch | Base::Image(_) | Base::Host { .. } => none,
        },
        StmtKind::Build(call) => [Some(call), None, None],
        StmtKind::Copy(copy) => {
            sources = copy.sources.as_slice();
            none
        }
        _ => none,
    };
    let artifacts = sources.iter().filter_map(|source| match source {
        CopySource::Artifact { call, .. } => Some(call),
        CopySource::Path(_) | CopySource::Heredoc(_) => None,
    });
    own.into_iter().flatten().chain(files.iter().filter_map(called)).chain(artifacts)
}

fn called(source: &FileSource<Resolved>) -> Option<&Call<Resolved>> {
    match source {
        FileSource::Artifact { call, path: _ } => Some(call),
        FileSource::Path(_) => None,
    }
}

//! The keywords of statements, as messages name them.

use rb_syntax::StmtKind;

use crate::resolve::Resolved;

/// Returns the keyword of a statement.
pub(crate) fn keyword(kind: &StmtKind<Resolved>) -> &str {
    match kind {
        StmtKind::From(_) => "FROM",
        StmtKind::Locally(_) => "LOCALLY",
        StmtKind::Run(_) => "RUN",
        StmtKind::Copy(_) => "COPY",
        StmtKind::Arg(_) => "ARG",
        StmtKind::Let(_) => "LET",
        StmtKind::Set(_) => "SET",
        StmtKind::Env(_) => "ENV",
        StmtKind::Workdir(_) => "WORKDIR",
        StmtKind::User(_) => "USER",
        StmtKind::Entrypoint(_) => "ENTRYPOINT",
        StmtKind::Cmd(_) => "CMD",
        StmtKind::Shell(_) => "SHELL",
        StmtKind::Expose(_) => "EXPOSE",
        StmtKind::Volume(_) => "VOLUME",
        StmtKind::Label(_) => "LABEL",
        StmtKind::Healthcheck(_) => "HEALTHCHECK",
        StmtKind::StopSignal(_) => "STOPSIGNAL",
        StmtKind::Host(_) => "HOST",
        StmtKind::GitClone(_) => "GIT CLONE",
        StmtKind::Cache(_) => "CACHE",
        StmtKind::SaveArtifact(_) => "SAVE ARTIFACT",
        StmtKind::SaveImage(_) => "SAVE IMAGE",
        StmtKind::Build(_) => "BUILD",
        StmtKind::Do(_) => "DO",
        StmtKind::Import(_) => "IMPORT",
        StmtKind::Project(_) => "PROJECT",
        StmtKind::If(_) => "IF",
        StmtKind::For(_) => "FOR",
        StmtKind::Wait(_) => "WAIT",
        StmtKind::Try(_) => "TRY",
        StmtKind::Later(later) => &later.name,
    }
}

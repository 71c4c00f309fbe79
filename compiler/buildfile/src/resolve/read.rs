//! The text of a project's build file, or why there is none and which folder may be meant.

use std::sync::Arc;

use rb_diag::{Diagnostic, ErrorKind, SourceFile, Span, nearest};
use rb_frontend::{FileKind, ProjectRef, Workspace, WorldError};

use crate::{OUTSIDE_HELP, codes};

/// Reads the text of a project's build file; `at` is the reference that leads there.
pub(crate) async fn read(
    workspace: &dyn Workspace,
    project: &ProjectRef,
    at: Option<Span>,
) -> Result<Arc<SourceFile>, Diagnostic> {
    match workspace.buildfile(project).await {
        Ok(source) => Ok(source),
        Err(cause) => Err(no_buildfile(workspace, project, &cause, at).await),
    }
}

async fn no_buildfile(
    workspace: &dyn Workspace,
    project: &ProjectRef,
    cause: &WorldError,
    at: Option<Span>,
) -> Diagnostic {
    let label = |error: Diagnostic| match at {
        Some(span) => error.with_label(span, "leads there"),
        None => error,
    };
    let (what, help) = match cause {
        WorldError::NotFound { what, help } => (what, help),
        WorldError::Failed { .. } | WorldError::Step { .. } => {
            let error = Diagnostic::error(codes::NO_BUILDFILE, cause.to_string()).with_kind(cause.kind());
            let help = match cause.kind() {
                ErrorKind::Input if project.repository().is_some() => {
                    "see whether host, path and tag are right"
                }
                ErrorKind::Input => "mend the file that is named",
                ErrorKind::Build | ErrorKind::Environment | ErrorKind::Internal => OUTSIDE_HELP,
            };
            return label(error.with_help(help));
        }
    };
    // Where it is looked for is said as the user sees it: `a Buildfile in …`.
    let what = what.strip_prefix("a ").unwrap_or(what);
    let error = label(Diagnostic::error(codes::NO_BUILDFILE, format!("there is no {what}")));
    match (near_folder(workspace, project).await, help) {
        (Some(near), _) => error.with_help(format!("did you mean `{near}`?")),
        (None, Some(help)) => error.with_help(help.clone()),
        (None, None) if project.dockerfile().is_some() => error
            .with_help("a Dockerfile of another name is named by it: `-f FILE`, or `./folder:FILE+stage`"),
        (None, None) => {
            error.with_help("a Buildfile, an Earthfile or a build.earth makes a folder a project")
        }
    }
}

/// Returns the folder beside a project that its path may misspell.
pub(crate) async fn near_folder(workspace: &dyn Workspace, project: &ProjectRef) -> Option<String> {
    let dir = project.dir();
    let (parent, name) = dir.rsplit_once('/').unwrap_or(("", dir));
    if name.is_empty() || name == ".." {
        return None;
    }
    let folder = project.root().join(parent);
    let folders = folders(workspace, &folder).await;
    // A folder that is there was meant, whichever file of it is not.
    if project.dockerfile().is_some() && folders.iter().any(|folder| folder == name) {
        return None;
    }
    let near = folder.join(nearest(name, folders.iter().map(String::as_str))?);
    Some(match near {
        ProjectRef::Local { dir } => dir,
        ProjectRef::Remote { .. } | ProjectRef::Dockerfile { .. } => near.to_string(),
    })
}

/// Returns the folder of a project that an alias may mean: the one of that name, or a near one.
pub(super) async fn folder_like(
    workspace: &dyn Workspace,
    project: &ProjectRef,
    alias: &str,
) -> Option<String> {
    let folders = folders(workspace, project).await;
    let exact = folders.iter().find(|folder| *folder == alias).map(String::as_str);
    exact.or_else(|| nearest(alias, folders.iter().map(String::as_str))).map(str::to_owned)
}

/// Lists a project's folders. Where that fails there is nothing near, and the error at hand is told without it.
async fn folders(workspace: &dyn Workspace, project: &ProjectRef) -> Vec<String> {
    let entries = workspace.list(project, "").await.unwrap_or_default();
    let folders = entries.into_iter().filter(|entry| entry.kind == FileKind::Directory);
    folders.map(|entry| entry.name).collect()
}

//! Ignore files: what of a project's folder no COPY sees.
//!
//! `.rbignore`, `.earthlyignore` or `.earthignore`, one of them, in the folder of the target; the syntax is that of
//! `.dockerignore`. Source: earthly-language section 6.

use rb_diag::{Diagnostic, Span};
use rb_frontend::{FileKind, ProjectRef};

use super::{Evaluator, Fallible, world_error};
use crate::codes;

const NAMES: [&str; 3] = [".rbignore", ".earthlyignore", ".earthignore"];

impl Evaluator<'_> {
    /// Returns the patterns of a project's ignore file, as BuildKit's exclude patterns.
    pub(super) async fn ignored(&self, project: &ProjectRef, at: Span) -> Fallible<Vec<String>> {
        let workspace = self.world.workspace();
        let failed = |error| world_error(codes::WORKSPACE, &error, at);
        let mut found: Option<&str> = None;
        for name in NAMES {
            let entry = workspace.stat(project, name).await.map_err(failed)?;
            if !entry.is_some_and(|entry| matches!(entry.kind, FileKind::File | FileKind::Symlink)) {
                continue;
            }
            if let Some(first) = found {
                let message = format!("the folder has two ignore files, `{first}` and `{name}`");
                return Err(Diagnostic::error(codes::IGNORE_FILE, message)
                    .with_label(at, "copies from there")
                    .with_help(format!("keep one of them: move the lines of `{name}` into `{first}`")));
            }
            found = Some(name);
        }
        let Some(name) = found else { return Ok(Vec::new()) };
        let bytes = workspace.read(project, name).await.map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Diagnostic::error(codes::IGNORE_FILE, format!("`{name}` is not UTF-8 text"))
                .with_label(at, "copies from its folder")
                .with_help("write it in UTF-8")
        })?;
        Ok(patterns(&text))
    }
}

/// Reads the lines of an ignore file. Source: Docker's "dockerignore" rules for comments, blanks and slashes.
fn patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let lines =
        text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    let pattern = |line: &str| {
        let (not, path) = match line.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None => ("", line),
        };
        let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        let mut kept: Vec<&str> = Vec::new();
        for part in parts {
            match part {
                ".." => {
                    kept.pop();
                }
                part => kept.push(part),
            }
        }
        (!kept.is_empty()).then(|| format!("{not}{}", kept.join("/")))
    };
    lines.filter_map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use super::patterns;

    #[test]
    fn lines_become_patterns() {
        let text = "\u{FEFF}# no\n/target/\n  a/../b \n\n!keep/me\n! x\n.\n#\n";
        assert_eq!(patterns(text), ["target", "b", "!keep/me", "!x"]);
    }
}

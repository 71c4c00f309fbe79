//! Comments as documentation: the block right above a recipe or statement, where its first word is the name.

use crate::{Parsed, StmtKind};

/// A comment line without `#`.
#[derive(Debug)]
pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) indented: bool,
}

/// Returns the documentation of a target or function: comments in the first column, as its header stands there.
pub(crate) fn of_recipe(comments: &[Comment], name: &str) -> Option<String> {
    let indented = comments.iter().rposition(|comment| comment.indented);
    let lines = comments.get(indented.map_or(0, |last| last + 1)..)?;
    (first_word(lines)? == name).then(|| text(lines))
}

/// Returns the documentation of what a statement declares: an argument, an artifact, an image.
pub(crate) fn of_statement(comments: &[Comment], kind: &StmtKind<Parsed>) -> Option<String> {
    let first = first_word(comments)?;
    let named = match kind {
        StmtKind::Arg(arg) => arg.name.value == first,
        StmtKind::SaveArtifact(save) => {
            let words = [Some(&save.source), save.destination.as_ref(), save.local.as_ref()];
            words.into_iter().flatten().any(|word| word.raw == first || last_part(&word.raw) == first)
        }
        StmtKind::SaveImage(save) => save.names.iter().any(|name| {
            let raw = name.raw.as_str();
            raw == first
                || last_part(raw) == first
                || untagged(raw) == first
                || untagged(last_part(raw)) == first
        }),
        _ => false,
    };
    named.then(|| text(comments))
}

fn first_word(comments: &[Comment]) -> Option<&str> {
    comments.first()?.text.split_whitespace().next()
}

fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Returns an image's name without `:tag`.
fn untagged(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

fn text(comments: &[Comment]) -> String {
    let lines = comments.iter().map(|line| line.text.strip_prefix(' ').unwrap_or(&line.text).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

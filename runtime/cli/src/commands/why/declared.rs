//! Where what changed is written, beyond the step that saw it: the line of a variable, the line of an ignore file, the word of
//! the command line.
//!
//! In: the files as they are now. Out: a place, where there is just one that it can be.

mod in_dockerfile;

use std::path::{Path, PathBuf};

use rb_api::PartKind;

use super::super::record::document::{Document, RecordStep};
use super::cause::Cause;
use super::explain::IGNORE_FILES;

/// Where files are as they are now.
pub(super) struct Written {
    /// What places of steps are seen from.
    pub(super) root: PathBuf,
    /// The context of a Dockerfile; none of a Buildfile.
    pub(super) context: Option<PathBuf>,
}

impl Written {
    /// Returns the file and line that a cause is written in.
    pub(super) fn place(&self, step: &RecordStep, cause: &Cause) -> Option<(String, u32)> {
        match &self.context {
            Some(context) => in_dockerfile::place(&self.root, context, step, cause),
            None => place(&self.root, step, cause),
        }
    }
}

fn place(root: &Path, step: &RecordStep, cause: &Cause) -> Option<(String, u32)> {
    match cause {
        Cause::Part { kind: PartKind::Env, name, .. } => statement(root, step, &["ENV"], name),
        Cause::Part { kind: PartKind::Arg, name, .. } => statement(root, step, &["ARG"], name),
        Cause::Part { kind: PartKind::Variable, name, .. } => {
            statement(root, step, &["LET", "SET", "FOR"], name)
        }
        Cause::IgnoreRule { pattern, .. } => rule(root, step, pattern),
        _ => None,
    }
}

/// Returns how an argument was given: to the step's target, or to the build of a Dockerfile.
pub(super) fn given(document: &Document, step: &RecordStep, cause: &Cause) -> Option<String> {
    let Cause::Part { kind: PartKind::Arg, name, now: Some(value), .. } = cause else { return None };
    if document.dockerfile.is_some() {
        return document.args.contains(name).then(|| format!("`--build-arg {name}={value}`"));
    }
    let flag = format!("--{name}={value}");
    let label = format!("{} ", step.label());
    label.contains(&format!(" {flag} ")).then(|| format!("`{flag}`"))
}

/// Finds the last statement above the step that names a variable.
fn statement(root: &Path, step: &RecordStep, words: &[&str], name: &str) -> Option<(String, u32)> {
    let (file, line) = step.place.as_ref()?;
    let text = std::fs::read_to_string(root.join(file)).ok()?;
    let above = text.lines().take(usize::try_from(*line).ok()?.saturating_sub(1));
    let names = |line: &str| {
        let mut parts = line.split_whitespace();
        let is_one = parts.next().is_some_and(|word| words.contains(&word));
        is_one && parts.any(|part| part.split('=').next() == Some(name))
    };
    let found = above.enumerate().filter(|(_, line)| names(line)).map(|(at, _)| at).last()?;
    Some((file.clone(), u32::try_from(found + 1).ok()?))
}

/// Finds a rule in the ignore file beside the step's file.
fn rule(root: &Path, step: &RecordStep, pattern: &str) -> Option<(String, u32)> {
    let (file, _) = step.place.as_ref()?;
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let name = IGNORE_FILES.iter().find(|name| root.join(folder).join(name).is_file())?;
    let path = folder.join(name);
    line_of(root, &path, pattern)
}

/// Finds a rule in an ignore file.
fn line_of(root: &Path, path: &Path, pattern: &str) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(root.join(path)).ok()?;
    let bare = |line: &str| line.trim().trim_start_matches('/').trim_end_matches('/').to_owned();
    let found = text.lines().position(|line| bare(line) == pattern)?;
    Some((path.to_string_lossy().into_owned(), u32::try_from(found + 1).ok()?))
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;

    use super::super::super::record::document::Verdict;
    use super::*;

    #[test]
    fn the_last_statement_above_a_step_is_found() {
        let root = tempfile::tempdir().expect("temp dir");
        let text = "VERSION 1\nt:\n    ARG A=1\n    ENV B=2 C=3\n    ENV B=4\n    RUN $A\n    ENV B=5\n";
        std::fs::write(root.path().join("Buildfile"), text).expect("writes");
        std::fs::write(root.path().join(".rbignore"), "# no\n/target/\n").expect("writes");
        let mut step = RecordStep::of("+t --A=2 | RUN $A", Digest::of("x"), Verdict::Ran);
        step.place = Some(("Buildfile".to_owned(), 6));
        let part = |kind, name: &str| Cause::Part {
            kind,
            name: name.to_owned(),
            was: Some("1".to_owned()),
            now: Some("2".to_owned()),
        };
        let line = |cause: &Cause| place(root.path(), &step, cause).map(|(_, line)| line);
        assert_eq!(line(&part(PartKind::Env, "B")), Some(5));
        assert_eq!(line(&part(PartKind::Env, "C")), Some(4));
        assert_eq!(line(&part(PartKind::Arg, "A")), Some(3));
        assert_eq!(line(&part(PartKind::Arg, "B")), None);
        let ignored = Cause::IgnoreRule { pattern: "target".to_owned(), added: true, paths: vec![] };
        assert_eq!(place(root.path(), &step, &ignored), Some((".rbignore".to_owned(), 2)));
        let mut document = Document::default();
        assert_eq!(given(&document, &step, &part(PartKind::Arg, "A")).as_deref(), Some("`--A=2`"));
        assert_eq!(given(&document, &step, &part(PartKind::Arg, "B")), None);
        document.dockerfile = Some(Default::default());
        document.args = vec!["B".to_owned()];
        assert_eq!(given(&document, &step, &part(PartKind::Arg, "A")), None);
        assert_eq!(given(&document, &step, &part(PartKind::Arg, "B")).as_deref(), Some("`--build-arg B=2`"));
    }
}

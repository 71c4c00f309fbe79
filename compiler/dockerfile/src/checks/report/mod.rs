//! What build checks found, to be read: as text, as JSON, as SARIF.
//!
//! In: findings and errors of one file or several. Out: texts. The first two forms are those of `docker buildx build
//! --call=check`, so that what reads the one reads the other; SARIF is for editors and code hosts.
//! Source: BuildKit's frontend/subrequests/lint and solver/errdefs; buildx, commands/build.go; SARIF 2.1.0.

use std::ops::RangeInclusive;
use std::sync::Arc;

use rb_diag::{Diagnostic, SourceFile, SourceMap, Span};

use super::Finding;

mod json;
mod sarif;
mod text;

#[cfg(test)]
mod tests;

/// Returns lines of a file with some around, as clients of BuildKit show them: two of a single line, one of several.
pub fn excerpt(file: &SourceFile, marked: RangeInclusive<u32>) -> String {
    let mut text = String::new();
    text::add_lines(&mut text, file, marked);
    text
}

/// What was found, with the files it was found in.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What build checks found.
    pub findings: &'a [Finding],
    /// Why the file could not be built, if so.
    pub errors: &'a [Diagnostic],
    /// Every file that a place is in.
    pub sources: &'a SourceMap,
}

impl Report<'_> {
    /// Returns whether there is nothing to mend; otherwise a check exits with 1.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.errors.is_empty()
    }

    /// Returns what people read, findings only: errors are shown as those of every other build.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Returns what `--format=json` gives.
    pub fn json(&self) -> String {
        json::json(self)
    }

    /// Returns a SARIF log.
    pub fn sarif(&self) -> String {
        sarif::sarif(self)
    }

    /// Returns the file of a place and its lines, counted from 1.
    fn lines(&self, span: Span) -> Option<(Arc<SourceFile>, RangeInclusive<u32>)> {
        let file = self.sources.get(span.source)?;
        let lines = file.position(span.start).line..=file.position(span.end).line;
        Some((file, lines))
    }

    /// Returns the files that something was found in, each once, in the order of their names.
    fn files(&self) -> Vec<Arc<SourceFile>> {
        let findings = self.findings.iter().map(|finding| finding.span);
        let errors = self.errors.iter().filter_map(|error| error.labels.first()).map(|label| label.span);
        let mut files: Vec<Arc<SourceFile>> =
            findings.chain(errors).filter_map(|span| self.sources.get(span.source)).collect();
        files.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        files.dedup_by_key(|file| file.id);
        files
    }
}

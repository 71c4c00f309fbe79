//! What is unusual or wrong in a Buildfile, in place of a build: `docker buildx build --check`.
//!
//! In: what the plan of a build has found. Out: an answer with the members of BuildKit's own; a rule is called by the code of our finding.
//! There is room for one error: others follow in its words. Source: BuildKit's `frontend/subrequests/lint`.
//! **Invariant:** every place is in a file of the answer, as clients look there unasked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Severity, SourceFile, SourceId, SourceMap, Span};
use rb_dockerfile::checks::report;
use serde_json::{Value, json};

use super::requests::VERSION;

/// What it is asked for by.
pub(super) const NAME: &str = "frontend.lint";

/// Answers with what was found; what is wrong outside of the files is no answer. `root` is the build file itself.
pub(super) fn answer(
    found: Diagnostics,
    root: SourceId,
    sources: &SourceMap,
) -> Result<BTreeMap<String, Bytes>, Diagnostics> {
    let is_outside = |found: &Diagnostic| matches!(found.kind, ErrorKind::Environment | ErrorKind::Internal);
    if found.iter().any(|found| found.severity == Severity::Error && is_outside(found)) {
        return Err(found);
    }
    let files = Files::of(&found, root, sources);
    let (errors, mut warnings): (Vec<_>, Vec<_>) =
        found.iter().partition(|found| found.severity == Severity::Error);
    warnings
        .sort_by_key(|found| found.labels.first().map(|label| (files.index(label.span), label.span.start)));
    let status = u8::from(!found.is_empty());
    let mut told = json!({
        "warnings": warnings.iter().map(|found| warning(found, &files)).collect::<Vec<_>>(),
        "sources": files.0.iter().map(|file| source(file)).collect::<Vec<_>>(),
    });
    if let Some(first) = errors.first() {
        let message = errors.iter().map(|found| words(found, &files)).collect::<Vec<_>>().join("\n");
        // Of an error without a place clients want one all the same.
        let place =
            first.labels.first().and_then(|label| files.location(label.span)).unwrap_or_else(|| json!({}));
        told["buildError"] = json!({ "message": message, "location": place });
    }
    let pairs = [
        ("result.json", format!("{told:#}")),
        ("result.txt", warnings.iter().map(|found| text(found, &files)).collect()),
        ("result.statuscode", status.to_string()),
        ("version", VERSION.to_owned()),
    ];
    Ok(pairs.map(|(name, value)| (name.to_owned(), Bytes::from(value))).into())
}

/// The files of an answer: the build file, then others that something was found in.
struct Files(Vec<Arc<SourceFile>>);

impl Files {
    fn of(found: &[Diagnostic], root: SourceId, sources: &SourceMap) -> Self {
        let mut ids = vec![root];
        for label in found.iter().filter_map(|found| found.labels.first()) {
            if !ids.contains(&label.span.source) {
                ids.push(label.span.source);
            }
        }
        Self(ids.into_iter().filter_map(|id| sources.get(id)).collect())
    }

    fn index(&self, span: Span) -> Option<usize> {
        self.0.iter().position(|file| file.id == span.source)
    }

    /// Returns the file of a place and its first and last line.
    fn lines(&self, span: Span) -> Option<(&SourceFile, u32, u32)> {
        let file = &self.0[self.index(span)?];
        Some((file, file.position(span.start).line, file.position(span.end.max(span.start)).line))
    }

    fn location(&self, span: Span) -> Option<Value> {
        let (_, first, last) = self.lines(span)?;
        let range = |line: u32| json!({ "start": { "line": line }, "end": { "line": line } });
        Some(
            json!({ "sourceIndex": self.index(span)?, "ranges": (first..=last).map(range).collect::<Vec<_>>() }),
        )
    }
}

fn source(file: &SourceFile) -> Value {
    json!({ "filename": file.name, "data": STANDARD.encode(file.text.as_bytes()), "language": "Buildfile" })
}

fn warning(found: &Diagnostic, files: &Files) -> Value {
    let meaning = rb_buildfile::CODES.iter().find(|(code, _)| *code == found.code);
    let meaning = meaning.map_or("", |(_, meaning)| meaning.trim_start_matches("Warning: "));
    let place = found.labels.first().and_then(|label| files.location(label.span));
    json!({
        "ruleName": found.code,
        "description": meaning,
        "detail": detail(found),
        // So a finding without a place is told.
        "location": place.unwrap_or_else(|| json!({ "sourceIndex": -1 })),
    })
}

fn detail(found: &Diagnostic) -> String {
    let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}{help}", found.message)
}

/// `Buildfile:3: message (help)`.
fn words(found: &Diagnostic, files: &Files) -> String {
    let place = found.labels.first().and_then(|label| files.lines(label.span));
    let place = place.map(|(file, line, _)| format!("{}:{line}: ", file.name)).unwrap_or_default();
    format!("{place}{}", detail(found))
}

/// Writes a warning for people, as clients write it.
fn text(found: &Diagnostic, files: &Files) -> String {
    let mut text = format!("\nWARNING: {}\n{}\n", found.code, detail(found));
    if let Some((file, first, last)) = found.labels.first().and_then(|label| files.lines(label.span)) {
        let _ = write!(text, "{}", report::excerpt(file, first..=last));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(found: Diagnostics, sources: &SourceMap) -> BTreeMap<String, String> {
        let told = answer(found, SourceId(0), sources).expect("all is in the files");
        told.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect()
    }

    #[test]
    fn findings_are_told_as_buildkits_own_frontend_tells_them() {
        let sources = SourceMap::default();
        let root = sources.add("Buildfile", "VERSION 1\na:\n    FROM scratch\n    SAVE IMAGE\n");
        let other = sources.add("lib/Buildfile", "VERSION 1\nb:\n    FROM x\n");
        let at = |source: SourceId, start, end| Span { source, start, end };
        let here = Diagnostic::warning("rb::evaluate::unnamed_image", "it saves nothing")
            .with_label(at(root.id, 34, 44), "")
            .with_help("name it");
        let nowhere = Diagnostic::warning("rb::x", "something else");
        let first = Diagnostic::error("rb::y", "no base").with_label(at(other.id, 17, 23), "");
        let second = Diagnostic::error("rb::z", "no target");

        let clean = told(Vec::new(), &sources);
        assert_eq!((clean["result.statuscode"].as_str(), clean["result.txt"].as_str()), ("0", ""));
        let json: Value = serde_json::from_str(&clean["result.json"]).expect("JSON");
        assert_eq!(
            (&json["warnings"], json["sources"][0]["filename"].as_str()),
            (&json!([]), Some("Buildfile"))
        );
        assert_eq!(json.get("buildError"), None);

        let warned = told(vec![here.clone(), nowhere.clone()], &sources);
        assert_eq!(warned["result.statuscode"], "1");
        let json: Value = serde_json::from_str(&warned["result.json"]).expect("JSON");
        let found = &json["warnings"][1];
        assert_eq!(found["ruleName"], "rb::evaluate::unnamed_image");
        assert_eq!(
            found["location"],
            json!({ "sourceIndex": 0, "ranges": [{ "start": { "line": 4 }, "end": { "line": 4 } }] })
        );
        assert_eq!(json["warnings"][0]["location"]["sourceIndex"], -1);
        assert!(warned["result.txt"].contains(
            "WARNING: rb::evaluate::unnamed_image\nit saves nothing (name it)\nBuildfile:4\n--------------------\n"
        ));
        assert!(warned["result.txt"].contains("   4 | >>>     SAVE IMAGE\n"), "{}", warned["result.txt"]);

        let wrong = told(vec![first, here, second], &sources);
        let json: Value = serde_json::from_str(&wrong["result.json"]).expect("JSON");
        assert_eq!(json["buildError"]["message"], "lib/Buildfile:3: no base\nno target");
        assert_eq!(json["buildError"]["location"]["sourceIndex"], 1);
        assert_eq!(json["sources"][1]["filename"], "lib/Buildfile");

        // What is wrong with the way to a registry is no fault of the file.
        let gone = Diagnostic { kind: ErrorKind::Environment, ..Diagnostic::error("rb::y", "no registry") };
        assert!(answer(vec![gone], SourceId(0), &sources).is_err());
    }
}

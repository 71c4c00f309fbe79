//! Every file of the corpus, against its snapshot.
//!
//! A file holds one case, or several behind lines `--- name`. Files below `ok` have no errors (warnings may be),
//! every case below `err` has at least one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rb_diag::Severity;
use rb_syntax::{CODES, parse};

use crate::print::{print, source};

/// A case and where it comes from.
pub(crate) struct Case {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Loads the cases of one folder of the corpus, sorted by file.
pub(crate) fn cases(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("--- ") {
            cases.push(Case { file, name: String::new(), text });
            continue;
        }
        for part in format!("\n{text}").split("\n--- ").skip(1) {
            let (name, text) = part.split_once('\n').unwrap_or((part, ""));
            // What `split` took is the newline at the end of the case.
            let text = if text.is_empty() {
                String::new()
            } else {
                format!("{}\n", text.strip_suffix('\n').unwrap_or(text))
            };
            let text = text.strip_suffix("<END>\n").map(str::to_owned).unwrap_or(text);
            cases.push(Case { file: file.clone(), name: name.to_owned(), text });
        }
    }
    cases
}

fn snapshot(folder: &str, expect_errors: bool) {
    let cases = cases(folder);
    for chunk in cases.chunk_by(|left, right| left.file == right.file) {
        let mut out = String::new();
        for case in chunk {
            let file = source(&case.text);
            let parse = parse(&file);
            let errors = parse.diagnostics.iter().any(|found| found.severity == Severity::Error);
            assert_eq!(
                errors,
                expect_errors,
                "{folder}/{} {}: {}",
                case.file,
                case.name,
                print(&file, &parse)
            );
            if !case.name.is_empty() {
                out.push_str(&format!("--- {}\n", case.name));
            }
            out.push_str(&print(&file, &parse));
        }
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("{folder}__{}", chunk[0].file), out);
        });
    }
}

#[test]
fn good_files_read_as_they_did() {
    snapshot("ok", false);
}

#[test]
fn bad_files_are_explained_as_they_were() {
    snapshot("err", true);
}

#[test]
fn every_code_occurs() {
    let found: BTreeSet<&str> = ["ok", "err"]
        .into_iter()
        .flat_map(cases)
        .flat_map(|case| parse(&source(&case.text)).diagnostics)
        .map(|diagnostic| diagnostic.code)
        // These need more text than a corpus should hold: `hostile` makes it.
        .chain(crate::hostile::CODES)
        .collect();
    let missing: Vec<_> = CODES.iter().filter(|(code, _)| !found.contains(code)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
    let unlisted: Vec<_> =
        found.iter().filter(|code| CODES.iter().all(|(listed, _)| listed != *code)).collect();
    assert!(unlisted.is_empty(), "not in the table: {unlisted:?}");
}

#[test]
fn diagnostics_say_where_and_what_to_do_and_never_speak_of_the_grammar() {
    for case in ["ok", "err"].into_iter().flat_map(cases) {
        for diagnostic in parse(&source(&case.text)).diagnostics {
            assert!(!diagnostic.labels.is_empty(), "{}: {diagnostic:?}", case.file);
            assert!(!diagnostic.message.ends_with('.'), "{}: {diagnostic:?}", case.file);
            assert!(diagnostic.help.is_some(), "{}: {diagnostic:?}", case.file);
            for word in ["junk", "loose_", "_line", "EOI", "expected", "save_", "word_end", "Rule"] {
                let message =
                    format!("{} {}", diagnostic.message, diagnostic.help.as_deref().unwrap_or_default());
                assert!(!message.contains(word) || case.text.contains(word), "{}: {message}", case.file);
            }
        }
    }
}

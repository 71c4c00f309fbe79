//! Reports: what BuildKit would print, and what tools read.

use rb_diag::SourceMap;

use super::Report;
use crate::parse;

const FILE: &str = "FROM a AS B\nRUN x \\\n\n  y\nMAINTAINER é\n\nrun <<E\n1\n2\nE\n";

/// Gives a report on a file to `show`.
fn report(name: &str, text: &str, show: impl Fn(&Report<'_>) -> String) -> String {
    let sources = SourceMap::default();
    let file = sources.add(name, text);
    let parsed = parse(&file);
    let report = Report { findings: &parsed.findings, errors: &parsed.errors, sources: &sources };
    assert_eq!(report.is_clean(), parsed.findings.is_empty() && parsed.errors.is_empty());
    show(&report)
}

#[test]
fn text_shows_lines_in_the_order_of_the_file() {
    insta::assert_snapshot!(report("Dockerfile", FILE, |report| report.text()));
}

#[test]
fn text_of_one_and_of_none() {
    let one = report("Dockerfile", "FROM a\nMAINTAINER b\u{1b}[1m\n", |report| report.text());
    assert_eq!(
        one,
        "Check complete, 1 warning has been found!\n\n\
         WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n\
         Maintainer instruction is deprecated in favor of using label\n\
         Dockerfile:2\n--------------------\n   1 |     FROM a\n   2 | >>> MAINTAINER b\u{fffd}[1m\n   3 |     \n--------------------\n"
    );
    assert_eq!(
        report("Dockerfile", "FROM a\n", |report| report.text()),
        "Check complete, no warnings found.\n"
    );
    assert_eq!(report("Dockerfile", "FORM a\n", |report| report.text()), "");
}

#[test]
fn text_shows_no_line_that_nobody_reads_and_nothing_that_turns_it_round() {
    let long = "x".repeat(1 << 20);
    let text = report("Dockerfile", &format!("FROM a\nMAINTAINER \u{202e}{long}\n"), |report| report.text());
    assert!(
        text.len() < 2000 && text.contains("MAINTAINER \u{fffd}xxx") && text.contains("xxx…\n"),
        "{}",
        text.len()
    );
}

#[test]
fn json_has_the_fields_of_buildkit() {
    insta::assert_snapshot!(report("Dockerfile", "from a AS B\nMAINTAINER c \\\n d\nRUNN d\n", |report| {
        report.json()
    }));
}

#[test]
fn sarif_has_rules_results_and_places() {
    let log: serde_json::Value =
        serde_json::from_str(&report("dir é/Dockerfile", "FROM a\nMAINTAINER é\nRUNN d\n", |report| {
            report.sarif()
        }))
        .unwrap();
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), crate::Rule::ALL.len());
    insta::assert_snapshot!(serde_json::to_string_pretty(&run["results"]).unwrap());
}

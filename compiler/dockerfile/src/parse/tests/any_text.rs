//! What holds for any text.

use proptest::prelude::*;
use rb_diag::{SourceFile, SourceId, Span};
use serde_json::Value;

use crate::{parse, parse_trigger};

/// Lines as files have them, and such as none should have.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "(FROM|from|Run|RUN|COPY|ADD|ENV|ARG|CMD|LABEL|VOLUME|SHELL|ONBUILD RUN|ONBUILD COPY|HEALTHCHECK|USER|FORM)( --[a-z]{1,8}=?[a-z\"',]{0,6})?( [a-z=\"'\\[\\],$<\\\\é`-]{0,10}){0,3}",
        1 => "(EOF|A|#|# check=skip=all|# escape=`|\t EOF| \\\\|\\\\)",
        1 => "RUN (<<-?(EOF|'A')){1,2}( x)?",
        1 => "RUN --mount=[a-z,=\"$]{0,20} x",
        1 => "\\PC{0,20}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    (prop::collection::vec((line(), "(\n|\r\n| \\\\\n|`\n|\n\n)"), 0..12), any::<bool>()).prop_map(
        |(lines, mark)| {
            let text: String = lines.into_iter().map(|(line, end)| line + &end).collect();
            if mark { format!("\u{feff}{text}") } else { text }
        },
    )
}

/// Returns every span of a tree.
fn spans(tree: &Value) -> Vec<Span> {
    match tree {
        Value::Object(fields) => {
            let number = |name| fields.get(name).and_then(Value::as_u64).map(|number| number as u32);
            let span = match (number("source"), number("start"), number("end")) {
                (Some(source), Some(start), Some(end)) => Some(Span { source: SourceId(source), start, end }),
                _ => None,
            };
            span.into_iter().chain(fields.values().flat_map(spans)).collect()
        }
        Value::Array(items) => items.iter().flat_map(spans).collect(),
        _ => Vec::new(),
    }
}

/// Takes away where things stand, and what comments say.
fn without_places(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            fields.remove("span");
            fields.remove("description");
            // A trigger keeps the blanks at its end, which the line in `code` does not have.
            if let Some(Value::String(text)) = fields.get_mut("text").and_then(|text| text.get_mut("value")) {
                text.truncate(text.trim_end().len());
            }
            fields.values_mut().for_each(without_places);
        }
        Value::Array(items) => items.iter_mut().for_each(without_places),
        _ => {}
    }
}

fn tree(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn file(text: &str) -> SourceFile {
    SourceFile::new(SourceId(3), "Dockerfile", text)
}

proptest! {
    #[test]
    fn every_span_lies_in_the_file(text in text()) {
        let file = file(&text);
        let parsed = parse(&file);
        let labels = parsed.errors.iter().flat_map(|error| error.labels.iter().map(|label| label.span));
        let findings = parsed.findings.iter().map(|finding| finding.span);
        for span in labels.chain(findings).chain(spans(&tree(&parsed.dockerfile))) {
            prop_assert_eq!(span.source, SourceId(3));
            prop_assert!(span.start <= span.end, "{:?}", span);
            prop_assert!(file.text.get(span.start as usize..span.end as usize).is_some(), "{:?}", span);
        }
        // A trigger is any text, too.
        let _ = parse_trigger(&file).is_ok();
    }

    #[test]
    fn an_instruction_in_one_line_says_the_same(text in text()) {
        let parsed = parse(&file(&text));
        let escape = parsed.dockerfile.directives.escape;
        let places: Vec<u32> = parsed.errors.iter().map(|error| error.labels[0].span.start).collect();
        for step in parsed.dockerfile.stages.iter().flat_map(|stage| &stage.steps) {
            if places.iter().any(|place| (step.span.start..=step.span.end).contains(place)) {
                continue;
            }
            // A heredoc is not in the line, and blanks of other scripts at its end hide an escape sign.
            if step.code.contains("<<") || step.code.ends_with(escape) {
                continue;
            }
            let again = parse(&file(&format!("# escape={escape}\nFROM a\n{}\n", step.code)));
            prop_assert_eq!(&again.errors, &[]);
            let (mut one, mut other) = (tree(step), tree(&again.dockerfile.stages[0].steps[0]));
            without_places(&mut one);
            without_places(&mut other);
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn an_error_says_where_and_what_to_do(text in text()) {
        for error in parse(&file(&text)).errors {
            prop_assert!(!error.labels.is_empty(), "{:?}", error);
            prop_assert!(error.help.is_some(), "{:?}", error);
            prop_assert!(!error.message.contains('\n'), "{:?}", error);
        }
    }

    #[test]
    fn a_broken_line_says_the_same(words in prop::collection::vec("[a-z=/$\"]{1,6}", 1..6), broken in prop::collection::vec(any::<bool>(), 6)) {
        let one = format!("FROM a\nENV {}\n", words.join(" "));
        let mut many = "FROM a\nENV ".to_owned();
        for (word, broken) in words.iter().zip(&broken) {
            many.push_str(word);
            many.push_str(if *broken { "\\  \n# comment\n \\\r\n" } else { " " });
        }
        let said = |text: &str| {
            let parsed = parse(&file(text));
            let messages: Vec<String> = parsed.errors.into_iter().map(|error| error.message).collect();
            let mut tree = tree(&parsed.dockerfile);
            without_places(&mut tree);
            (messages, tree)
        };
        let (one, many) = (said(&one), said(&many));
        prop_assert_eq!(one.0, many.0);
        let pairs = |tree: &Value| tree["stages"][0]["steps"][0]["instruction"].clone();
        prop_assert_eq!(pairs(&one.1), pairs(&many.1));
    }
}

#[test]
fn big_files_are_read_in_no_time() {
    let texts = [
        "FROM a\n".to_owned() + &"RUN <<EOF\n".repeat(20_000),
        "FROM a\nRUN ".to_owned() + &"\\\n".repeat(200_000),
        "FROM a\nRUN ".to_owned() + &"x \\\n".repeat(100_000),
        "FROM a\nENV ".to_owned() + &"a=$b ".repeat(100_000),
        "FROM a\nRUN ".to_owned() + &"<<A ".repeat(5_000),
        "FROM a\nCMD ".to_owned() + &"[".repeat(100_000),
        "ONBUILD ".repeat(50_000),
        "NO\n".repeat(100_000),
    ];
    for text in texts {
        assert!(parse(&file(&text)).errors.len() <= 1001);
    }
}

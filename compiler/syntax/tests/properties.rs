//! What holds for any text.

use proptest::prelude::*;
use rb_diag::{SourceFile, Span};
use rb_syntax::{Node, Parse, parse, to_json, tree};
use serde_json::Value;

use crate::corpus::cases;
use crate::print::{print, source, span_of};

/// Asserts all that holds for any text: every span of a parse lies in the text, on borders of characters; statements
/// do not overlap; the lossless tree gives the text back.
fn check(file: &SourceFile, parse: &Parse) {
    let good = |span: Span| {
        assert!(span.start <= span.end && span.end as usize <= file.text.len(), "{span:?}");
        assert!(file.text.is_char_boundary(span.start as usize), "{span:?}");
        assert!(file.text.is_char_boundary(span.end as usize), "{span:?}");
    };
    for diagnostic in &parse.diagnostics {
        assert!(diagnostic.code == "rb::syntax::too_many_errors" || !diagnostic.labels.is_empty());
        diagnostic.labels.iter().for_each(|label| good(label.span));
    }
    let buildfile = &parse.buildfile;
    let mut spans = Vec::new();
    spans.extend(buildfile.version.as_ref().map(|version| version.span));
    let recipes = || buildfile.targets.iter().chain(&buildfile.functions);
    for statement in buildfile.base.iter().chain(recipes().flat_map(|recipe| &recipe.body)) {
        check_statement(&serde_json::to_value(statement).unwrap(), &good, &mut spans);
    }
    spans.extend(recipes().map(|recipe| recipe.name.span));
    spans.sort();
    for pair in spans.windows(2) {
        good(pair[0]);
        assert!(pair[0].end <= pair[1].start, "{pair:?}");
    }
    // Printing and JSON look at every place again, and must not panic either.
    print(file, parse);
    to_json(parse, file);
    let tree = tree(file);
    assert_eq!(tree.print(file), &*file.text);
    check_nodes(&tree.root);
}

/// The words of a statement are within its line; those of the statements in its blocks are checked as their own.
fn check_statement(statement: &Value, good: &impl Fn(Span), spans: &mut Vec<Span>) {
    let span = span_of(statement["span"].as_object().unwrap()).unwrap();
    spans.push(span);
    let mut values = vec![&statement["kind"]["statement"]];
    while let Some(value) = values.pop() {
        match value {
            Value::Array(items)
                if items.first().is_some_and(|item| item.get("kind").is_some_and(Value::is_object)) =>
            {
                items.iter().for_each(|item| check_statement(item, good, spans));
            }
            Value::Array(items) => values.extend(items),
            Value::Object(fields) if fields.contains_key("branches") => {
                // `ELSE IF` has a line of its own.
                for branch in fields["branches"].as_array().unwrap() {
                    let place = span_of(branch["condition"]["span"].as_object().unwrap()).unwrap();
                    good(place);
                    branch["body"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .for_each(|item| check_statement(item, good, spans));
                    check_words(&branch["condition"], place, good);
                }
                values.push(&fields["otherwise"]);
            }
            Value::Object(fields) => values.extend(fields.values()),
            _ => {}
        }
    }
    if statement["kind"]["command"] != "if" {
        check_words(&statement["kind"]["statement"], span, good);
    }
}

/// Every word and every other place lies within `line`; words hold no line that goes on.
fn check_words(value: &Value, line: Span, good: &impl Fn(Span)) {
    match value {
        Value::Array(items) => {
            let own =
                items.iter().filter(|item| item.get("kind").is_none_or(|kind| kind.get("command").is_none()));
            own.for_each(|item| check_words(item, line, good));
        }
        Value::Object(fields) => {
            if let Some(span) = span_of(fields) {
                good(span);
                assert!(span.start >= line.start && span.end <= line.end, "{span:?} is not in {line:?}");
            }
            let heredoc = fields.contains_key("body");
            if let Some(Value::String(raw)) =
                fields.get("raw").filter(|raw| !heredoc && !raw.as_str().unwrap().contains("<<"))
            {
                // A comment of the shell's, inside `$(…)`, ends with its line even if that ends with a backslash.
                let unescaped = raw.replace(r"\\", "");
                let mut lines: Vec<&str> = unescaped.split('\n').collect();
                lines.pop();
                let joined = lines.iter().all(|line| !line.ends_with('\\') || line.contains('#'));
                assert!(joined, "a line was not joined in {raw:?}");
            }
            // The lines of a heredoc are nobody's but the program's.
            fields
                .iter()
                .filter(|(name, _)| *name != "body")
                .for_each(|(_, field)| check_words(field, line, good));
        }
        _ => {}
    }
}

/// Children cover their node without gap or overlap.
fn check_nodes(node: &Node) {
    let mut at = node.span.start;
    for child in &node.children {
        assert_eq!(child.span.start, at, "{} in {}", child.rule, node.rule);
        assert!(child.span.end > at, "{} in {} is empty", child.rule, node.rule);
        at = child.span.end;
        check_nodes(child);
    }
    assert!(node.children.is_empty() || at == node.span.end, "{}", node.rule);
}

/// Pieces of the language, to be thrown together.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "VERSION 1\n",
        "VERSION 0.8\n",
        "FROM ",
        "RUN ",
        "COPY ",
        "ARG ",
        "ENV ",
        "CMD ",
        "SAVE ARTIFACT ",
        "SAVE IMAGE ",
        "BUILD ",
        "IF ",
        "ELSE\n",
        "ELSE IF ",
        "FOR x IN ",
        "WAIT\n",
        "TRY\n",
        "CATCH\n",
        "FINALLY\n",
        "WITH DOCKER ",
        "FUNCTION\n",
        "COMMAND\n",
        "DO +F",
        "LET a=",
        "LABEL a=b ",
        "HEALTHCHECK ",
        "VOLUME ",
        "SHELL ",
        "IMPORT a AS b\n",
        "SERVICE ",
        "<<EOF",
        "<<-'EOF'",
        "<<E",
        "EOF\n",
        "\tEOF\n",
        "E\n",
        "{{",
        "}}",
        "ARG n: enum(",
        "END\n",
        "t:\n",
        "u:",
        "F:\n",
        "base:\n",
        " ",
        "    ",
        "\t",
        "\n",
        "\r\n",
        "\\\n",
        "\\",
        "\\ # c\n",
        "#",
        "# t\n",
        "\"",
        "'",
        "$(",
        ")",
        "(",
        "[",
        "]",
        ",",
        "[\"a\"]",
        "+t",
        "+t/x",
        "@host",
        "--",
        "--dir",
        "--x=1",
        "--bind",
        "=",
        "a",
        "é",
        "😀",
        "AS LOCAL ",
        "scratch",
        "\0",
        "\u{FEFF}",
        "\u{a0}",
        "$x",
        ":",
        "\\u12",
    ];
    proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let file = source(&String::from_utf8_lossy(&bytes));
        check(&file, &parse(&file));
    }

    #[test]
    fn any_pieces_of_the_language_are_read(pieces in proptest::collection::vec(piece(), 0..60)) {
        let file = source(&pieces.concat());
        check(&file, &parse(&file));
    }

    #[test]
    fn spoilt_corpus_files_are_read(
        index in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..6, piece()), 1..6),
    ) {
        let cases: Vec<_> = ["ok", "err"].into_iter().flat_map(cases).collect();
        let mut text: Vec<char> = cases[index.index(cases.len())].text.chars().collect();
        for (at, drop, insert) in changes {
            let at = at.index(text.len() + 1);
            text.splice(at..(at + drop).min(text.len()), insert.chars());
        }
        let file = source(&text.into_iter().collect::<String>());
        check(&file, &parse(&file));
    }

    #[test]
    fn one_bad_line_costs_one_line(
        count in 1usize..12,
        at in any::<proptest::sample::Index>(),
        bad in proptest::sample::select(vec![
            "nonsense here", "RUN echo \"never closed", "RUN it's", "COPY a", "FROM alpine AS x", "RUN $(x", "&& y", "\"",
            "run echo hi", "RUN --nonsense", "ARG 1=2", "WORKDIR", "COPY (+t/x", "END", "ELSE IF x", "]", "ENV $x=1", "LET a = 'b", "COPY {{x y",
        ]),
        tail in proptest::sample::select(vec!["", " # it is", "\\", "\r"]),
    ) {
        let good = [
            "RUN echo \"a b\" 'c' $(d)", "COPY a b", "ARG x = 1", "ENV y=2", "WORKDIR /w", "RUN [\"a\"]", "SAVE ARTIFACT x AS LOCAL y",
        ];
        let mut lines: Vec<String> = (0..count).map(|index| format!("    {}", good[index % good.len()])).collect();
        // A backslash at the end takes the next line along, which is then not a neighbour: give it one of its own.
        let (tail, extra) = if tail == "\\" { (" \\", Some("        more".to_owned())) } else { (tail, None) };
        let continued = extra.is_some();
        let at = at.index(lines.len() + 1);
        lines.splice(at..at, std::iter::once(format!("    {bad}{tail}")).chain(extra));
        let file = source(&format!("VERSION 1\nt:\n{}\nu:\n    RUN z\n", lines.join("\n")));
        let parse = parse(&file);
        check(&file, &parse);
        prop_assert_eq!(parse.buildfile.targets.len(), 2, "{}", print(&file, &parse));
        prop_assert!(parse.buildfile.targets[0].body.len() >= count, "{}", print(&file, &parse));
        prop_assert!(continued || !parse.diagnostics.is_empty());
    }
}

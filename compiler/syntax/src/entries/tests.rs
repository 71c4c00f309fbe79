use proptest::prelude::*;
use rb_diag::SourceId;

use super::*;
use crate::flags::{Takes, tables};

fn entries(text: &str) -> Vec<Entry> {
    let file = SourceFile::new(SourceId(0), "Buildfile", text);
    let mut report = Report::default();
    let mut entries = Entries::new(&file);
    std::iter::from_fn(|| entries.next(&mut report)).collect()
}

/// The rule for the whole file and the reader that goes entry by entry find the same borders.
fn assert_borders_agree(text: &str) {
    let whole = Grammar::parse(Rule::buildfile, text).unwrap().next().unwrap();
    let expected: Vec<usize> = whole
        .into_inner()
        .filter(|entry| entry.as_rule() == Rule::entry)
        .map(|entry| entry.as_span().end())
        .collect();
    let file = SourceFile::new(SourceId(0), "Buildfile", text);
    let mut report = Report::default();
    let mut entries = Entries::new(&file);
    let mut found = Vec::new();
    while entries.next(&mut report).is_some() {
        found.push(entries.at);
    }
    assert_eq!(found, expected, "{text}");
}

#[test]
fn reading_entry_by_entry_agrees_with_the_grammar_of_a_whole_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ok");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for case in format!("\n{text}").split("\n--- ") {
            let text = case.split_once('\n').map_or("", |(_, text)| text);
            // The lines of a heredoc are no entries, which the grammar alone cannot see.
            if !text.contains("<<") {
                assert_borders_agree(text);
            }
        }
        files += 1;
    }
    assert!(files >= 25, "{files}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Windows change nothing: where nothing is left open, the grammar run over the whole text finds the same entries.
    #[test]
    fn any_text_with_nothing_left_open_has_the_borders_of_the_grammar(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "RUN ", "COPY ", "ENV a=", "t:\n", "    ", "\n", "\n", "\r\n", " \\\n", "\\\n\n# c\n", " # c\n", "\"", "'", "\"\n\"", "'\n\n\n'",
            "$(", ")", "(", "a", "é", "\\", "[\"a\"]", "junk ",
        ]), 0..40)
    ) {
        let text = pieces.concat();
        for entry in entries(&text) {
            // A command that its own rule cannot read would be taken for a word that is none.
            if let Entry::Statement(Statement { what: What::Junk { word, .. }, .. }) = entry {
                prop_assert!(crate::commands::Command::find(&word.value).is_none(), "{text:?}");
            }
        }
        let whole = Grammar::parse(Rule::buildfile, &text).unwrap().next().unwrap();
        let open = whole.into_inner().flatten().any(|pair| matches!(pair.as_rule(), Rule::missing | Rule::cut_off));
        if !open {
            assert_borders_agree(&text);
        }
    }
}

#[test]
fn entries_cover_the_text() {
    let text = "VERSION 1\n\n# c\nt:\n  RUN \"a\n\" b \\\n  # c\n  d\n  junk";
    let file = SourceFile::new(SourceId(0), "Buildfile", text);
    let mut report = Report::default();
    let mut entries = Entries::new(&file);
    let mut ends = vec![];
    while entries.next(&mut report).is_some() {
        ends.push(entries.at);
    }
    assert_eq!(ends, [10, 11, 15, 18, text.len() - 6, text.len()]);
}

/// The grammar must know which flags before a command may have their value in the next word; the tables say it.
#[test]
fn grammar_and_tables_agree_on_flags_with_values() {
    for table in [&tables::RUN, &tables::IF] {
        for spec in table.flags {
            let found = entries(&format!("{} --{} x y", table.owner, spec.name));
            let [Entry::Statement(Statement { what: What::Command { parts, .. }, .. })] = found.as_slice()
            else {
                panic!("{found:?}");
            };
            let Some(Part::Text(text)) = parts.last() else { panic!("{parts:?}") };
            let expected = if spec.takes == Takes::Value { "y" } else { "x y" };
            assert_eq!(text.raw, expected, "{} --{}", table.owner, spec.name);
        }
    }
    for (table, behind) in [(&tables::FOR, "i IN y"), (&tables::HEALTHCHECK, "CMD y")] {
        for spec in table.flags.iter().filter(|spec| spec.takes == Takes::Value) {
            let found = entries(&format!("{} --{} x {behind}", table.owner, spec.name));
            let [Entry::Statement(Statement { what: What::Command { parts, .. }, .. })] = found.as_slice()
            else {
                panic!("{found:?}");
            };
            let words: Vec<_> = parts
                .iter()
                .map(|part| if let Part::Word(word) = part { word.raw.as_str() } else { "" })
                .collect();
            assert_eq!(words.get(1), Some(&"x"), "{} --{}", table.owner, spec.name);
            assert!(matches!(parts.last(), Some(Part::Text(text)) if text.raw == "y"), "{parts:?}");
        }
    }
}

/// The grammar's commands and ours are one.
#[test]
fn grammar_and_table_agree_on_commands() {
    use crate::commands::{Command, LATER};
    for command in Command::ALL.into_iter().chain(LATER.into_iter().map(Command::Later)) {
        let found = entries(&format!("{} x", command.name()));
        let [Entry::Statement(Statement { what: What::Command { command: found, keyword, .. }, .. })] =
            found.as_slice()
        else {
            panic!("{found:?}");
        };
        assert_eq!(*found, command);
        assert_eq!(keyword.end as usize, command.name().len());
        assert_eq!(Command::find(command.name()), Some(command));
    }
}

#[test]
fn an_edition_has_its_own_commands_and_heredocs() {
    let found = entries("VERSION 0.8\nSERVICE db\nCOPY <<EOF x\n");
    let [_, Entry::Statement(service), Entry::Statement(copy)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(matches!(&service.what, What::Junk { word, .. } if word.value == "SERVICE"), "{service:?}");
    let What::Command { parts, .. } = &copy.what else { panic!("{copy:?}") };
    assert!(matches!(&parts[0], Part::Word(word) if word.raw == "<<EOF"), "{parts:?}");
}

#[test]
fn words_join_continued_lines() {
    let found = entries("RUN a\\\n  b \\ # c\n\n  # d\n  'e\\\n   f'\n");
    let [Entry::Statement(Statement { what: What::Command { parts, .. }, .. })] = found.as_slice() else {
        panic!("{found:?}");
    };
    let [Part::Text(text)] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!(text.raw, "ab 'ef'");
}

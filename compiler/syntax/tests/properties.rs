//! What holds for any text.

use proptest::prelude::*;
use rb_diag::{SourceFile, Span};
use rb_syntax::{Base, Call, CommandLine, CopySource, Parse, Parsed, Stmt, StmtKind, Word, parse};

use crate::corpus::cases;
use crate::print::{print, source};

/// Asserts that every span of a parse lies in the text, on borders of characters, and that statements do not overlap.
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
    let tree = &parse.buildfile;
    let mut spans = Vec::new();
    spans.extend(tree.version.as_ref().map(|version| version.span));
    let recipes = tree.targets.iter().flat_map(|target| &target.body);
    for Stmt { kind, span } in tree.base.iter().chain(recipes) {
        spans.push(*span);
        for word in words(kind) {
            good(word.span);
            assert!(
                word.span.start >= span.start && word.span.end <= span.end,
                "{word:?} is not in {span:?}"
            );
            // A comment of the shell's, inside `$(…)`, ends with its line even if that ends with a backslash.
            let unescaped = word.raw.replace(r"\\", "");
            let mut lines: Vec<&str> = unescaped.split('\n').collect();
            lines.pop();
            let joined = lines.iter().all(|line| !line.ends_with('\\') || line.contains('#'));
            assert!(joined, "a line was not joined in {word:?}");
        }
    }
    spans.extend(tree.targets.iter().map(|target| target.name.span));
    spans.sort();
    for pair in spans.windows(2) {
        good(pair[0]);
        assert!(pair[0].end <= pair[1].start, "{pair:?}");
    }
    // Printing looks at every place again, and must not panic either.
    print(file, parse);
}

fn words(kind: &StmtKind<Parsed>) -> Vec<&Word> {
    match kind {
        StmtKind::From(Base::Scratch) => vec![],
        StmtKind::From(Base::Image(word)) | StmtKind::Workdir(word) | StmtKind::Env { value: word, .. } => {
            vec![word]
        }
        StmtKind::From(Base::Host { binds, fingerprints }) => binds.iter().chain(fingerprints).collect(),
        StmtKind::From(Base::Target(call)) | StmtKind::Build(call) => call_words(call),
        StmtKind::Run(run) => run.network.iter().chain(command_word(&run.command)).collect(),
        StmtKind::Entrypoint(command) | StmtKind::Cmd(command) => command_word(command).into_iter().collect(),
        StmtKind::Copy(copy) => {
            let mut words: Vec<_> = copy.chmod.iter().chain(&copy.chown).chain([&copy.destination]).collect();
            for item in &copy.sources {
                match item {
                    CopySource::Path(word) => words.push(word),
                    CopySource::Artifact { call, path } => {
                        words.push(path);
                        words.extend(call_words(call));
                    }
                }
            }
            words
        }
        StmtKind::Arg(arg) => arg.default.iter().collect(),
        StmtKind::SaveArtifact(save) => {
            std::iter::once(&save.source).chain(&save.destination).chain(&save.local).collect()
        }
        StmtKind::SaveImage(save) => save.names.iter().collect(),
    }
}

fn call_words(call: &Call<Parsed>) -> Vec<&Word> {
    std::iter::once(&call.target).chain(call.args.iter().map(|arg| &arg.value)).collect()
}

fn command_word(command: &CommandLine) -> Option<&Word> {
    match command {
        CommandLine::Shell(word) => Some(word),
        CommandLine::Exec(_) => None,
    }
}

/// Pieces of the language, to be thrown together.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "VERSION 1\n",
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
            "run echo hi", "RUN --nonsense", "ARG 1=2", "WORKDIR", "COPY (+t/x", "IF x", "]", "ENV $x=1", "LET a = 'b",
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

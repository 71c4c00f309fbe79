//! What failures look like, drawn and as JSON.

use rb_llb::{Location, Position, Range, SourceInfo};
use rb_oci::Digest;

use super::*;

const TEXT: &str = "VERSION 1\nimage:\n    FROM +imgae\n    RUN make \\\n        all\n";

fn display(mode: ProgressMode) -> Display {
    Display { mode, colours: false, github: false, verbose: false }
}

fn plain(failure: &Failure) -> String {
    failure.render(display(ProgressMode::Plain), 80)
}

fn diagnostic(sources: &SourceMap) -> Diagnostic {
    let file = sources.add("Buildfile", TEXT);
    let other = sources.add("lib/Buildfile", "VERSION 1\nlib:\n    FROM scratch\n");
    let at = TEXT.find("+imgae").expect("it is there") as u32;
    Diagnostic::error("rb::resolve::unknown_target", "there is no target `+imgae`")
        .with_label(rb_diag::Span { source: file.id, start: at, end: at + 6 }, "not in this file")
        .with_label(rb_diag::Span { source: other.id, start: 10, end: 14 }, "called here")
        .with_help("did you mean `+image`?")
        .with_trail("in +image --MODE=debug")
}

fn definition(vertex: Digest) -> Definition {
    let mut definition = Definition::default();
    definition.sources.files.push(SourceInfo {
        name: "app/Buildfile".to_owned(),
        language: "Buildfile".to_owned(),
        data: TEXT.into(),
        def: None,
    });
    let range = Range { start: Position { line: 4, character: 4 }, end: Position { line: 5, character: 11 } };
    definition.sources.locations.insert(vertex, vec![Location { file: 0, ranges: vec![range] }]);
    definition
}

fn failed_vertex() -> Failure {
    let vertex = Digest::of("vertex");
    Failure::Solve {
        error: Box::new(SolveError::Vertex {
            vertex,
            name: "+image | RUN make all".to_owned(),
            kind: ErrorKind::Build,
            message: "exit code 2".to_owned(),
            help: None,
            log_tail: vec!["cc: error\u{1b}[1m".to_owned(), "make: *** [all] Error 1".to_owned()],
        }),
        definitions: vec![Definition::default(), definition(vertex)],
    }
}

#[test]
fn a_diagnostic_shows_line_help_and_trail() {
    let sources = SourceMap::default();
    let failure = Failure::Diagnostics { items: vec![diagnostic(&sources)], sources };
    assert_eq!(failure.exit_code(), 2);
    insta::assert_snapshot!(plain(&failure));
}

#[test]
fn a_failed_step_shows_its_line() {
    assert_eq!(failed_vertex().exit_code(), 1);
    insta::assert_snapshot!(plain(&failed_vertex()));
}

#[test]
fn the_log_is_shown_once() {
    let tail = "make: *** [all] Error 1";
    assert!(!plain(&failed_vertex()).contains(tail), "plain progress has shown it");
    for mode in [ProgressMode::Live, ProgressMode::Quiet] {
        let text = failed_vertex().render(display(mode), 80);
        assert_eq!(text.matches(tail).count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    insta::assert_snapshot!(failed_vertex().render(display(ProgressMode::Live), 80));
}

#[test]
fn a_vertex_without_a_place_is_told_in_words() {
    let Failure::Solve { error, .. } = failed_vertex() else { panic!("made above") };
    let text = plain(&Failure::Solve { error, definitions: Vec::new() });
    assert_eq!(text, "  × +image: `RUN make all` failed: exit code 2\n");
}

#[test]
fn one_line_and_what_to_do() {
    let text = plain(&Failure::input("there is no image `app`", Some("`rb image ls` lists them".to_owned())));
    assert_eq!(text, "  × there is no image `app`\n  help: `rb image ls` lists them\n");
    let bug = Failure::Said { kind: ErrorKind::Internal, message: "lost".to_owned(), help: None };
    assert_eq!(bug.exit_code(), 70);
    assert!(plain(&bug).contains("this is a bug of rb"));
}

#[test]
fn control_characters_do_not_get_out() {
    let red = "\u{1b}[31mred\u{9b}";
    let failure = Failure::input(format!("no `{red}`"), Some(format!("did you mean `{red}`?\n\tnext")));
    let text = plain(&failure);
    assert!(text.contains("no `\\x1b[31mred\\x9b`") && text.contains("mean `\\x1b[31mred"), "{text}");
    let sources = SourceMap::default();
    let file = sources.add(red, "a \u{1b}[2J\u{9b}b bad\rX\r\n");
    let at = file.text.find("bad").expect("it is there") as u32;
    let item = Diagnostic::error("rb::x", "m")
        .with_label(rb_diag::Span { source: file.id, start: at, end: at + 3 }, red)
        .with_trail(red);
    let text = plain(&Failure::Diagnostics { items: vec![item], sources });
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
    assert!(text.contains("a ?[2J·b bad?X"), "{text}");
    assert_eq!(text.matches("\\x1b[31mred").count(), 3, "{text}");
}

#[test]
fn what_turns_a_text_round_is_seen() {
    let sources = SourceMap::default();
    let file = sources.add("a\u{2066}b", "FROM a\nRUN \u{202e}x\u{202c} bad\n");
    let at = file.text.find("bad").expect("it is there") as u32;
    let span = rb_diag::Span { source: file.id, start: at, end: at + 3 };
    let item = Diagnostic::error("rb::x", "no \u{202e}m").with_label(span, "");
    let text = plain(&Failure::Diagnostics { items: vec![item], sources });
    assert!(text.contains("RUN \u{fffd}x\u{fffd} bad") && text.contains("no \\u{202e}m"), "{text}");
    assert!(text.contains("a\\u{2066}b") && !text.contains(['\u{202e}', '\u{202c}', '\u{2066}']), "{text}");
}

#[test]
fn lines_that_nobody_reads_are_cut_around_the_mark() {
    let sources = SourceMap::default();
    let long = "x".repeat(3 << 20);
    let file = sources.add("Dockerfile", format!("FROM a\nRUN {long} bad {long}\nRUN {long}\n"));
    let at = file.text.find("bad").expect("it is there") as u32;
    let span = rb_diag::Span { source: file.id, start: at, end: at + 3 };
    let item = Diagnostic::error("rb::x", "m").with_label(span, "this one");
    let failure = Failure::Diagnostics { items: vec![item], sources };
    for columns in [60, 120, 100_000] {
        let text = failure.render(display(ProgressMode::Plain), columns);
        assert!(text.len() < 5000 && text.contains("x bad x"), "{columns}: {}", text.len());
    }
}

#[test]
fn exit_codes() {
    let job = |kind| Failure::Solve {
        error: Box::new(SolveError::Job { kind, message: String::new(), help: None }),
        definitions: Vec::new(),
    };
    assert_eq!(job(ErrorKind::Environment).exit_code(), 3);
    assert_eq!(
        Failure::Solve { error: Box::new(SolveError::Cancelled), definitions: Vec::new() }.exit_code(),
        130
    );
    assert_eq!(Failure::Interrupted(Interrupt::Term).exit_code(), 143);
    assert_eq!(Failure::Unheard.exit_code(), 0);
}

#[test]
fn json_is_one_object_a_line() {
    let sources = SourceMap::default();
    let failure = Failure::Diagnostics { items: vec![diagnostic(&sources)], sources };
    let text = failure.render(display(ProgressMode::Json), 80);
    let value: Value = serde_json::from_str(&text).expect("one line of JSON");
    assert_eq!(value["labels"][0]["line"], 3);
    assert_eq!(value["labels"][0]["column"], 10);
    assert_eq!(value["code"], "rb::resolve::unknown_target");
    let value: Value =
        serde_json::from_str(&failed_vertex().render(display(ProgressMode::Json), 80)).expect("JSON");
    assert_eq!((value["file"].as_str(), value["line"].as_u64()), (Some("app/Buildfile"), Some(4)));
}

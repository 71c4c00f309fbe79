//! Texts made to hurt: too long, too deep, or costly to read.

use std::time::Duration;

use rb_syntax::{MAX_FILE_BYTES, parse, to_json, tree};

use crate::print::source;

/// Codes that only texts of this module bring about.
pub(crate) const CODES: [&str; 2] = ["rb::syntax::file_too_large", "rb::syntax::too_many_errors"];

fn codes(text: &str) -> Vec<&'static str> {
    parse(&source(text)).diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// Repeats `unit` to about `bytes` behind a VERSION line.
fn repeated(unit: &str, bytes: usize) -> String {
    format!("VERSION 1\n{}", unit.repeat(bytes / unit.len()))
}

#[test]
fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let mut text = "VERSION 1\n#".to_owned();
    text.push_str(&"x".repeat(MAX_FILE_BYTES - text.len()));
    assert_eq!(codes(&text), Vec::<&str>::new());
    text.push('x');
    assert_eq!(codes(&text), ["rb::syntax::file_too_large"]);
}

#[test]
fn a_thousand_errors_are_listed_and_the_rest_is_counted() {
    let found = parse(&source(&repeated("nonsense\n", 100_000))).diagnostics;
    assert_eq!(found.len(), 1001);
    assert_eq!(found.last().unwrap().code, "rb::syntax::too_many_errors");
}

#[test]
fn a_long_good_file_is_read_whole() {
    let text = format!(
        "VERSION 1\nt:\n{}",
        "    RUN echo \"a $(b 'c')\" \\\n        # why\n        d\n".repeat(20_000)
    );
    let parse = parse(&source(&text));
    assert!(parse.diagnostics.is_empty(), "{:?}", parse.diagnostics.first());
    assert_eq!(parse.buildfile.targets[0].body.len(), 20_000);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        format!(
            "VERSION 1\nt:\n    FROM scratch\n    ENV x={}{}\n    RUN y\n",
            "$(a ".repeat(depth),
            ")".repeat(depth)
        )
    };
    assert_eq!(codes(&nested(64)), Vec::<&str>::new());
    assert_eq!(codes(&nested(65)), ["rb::syntax::nested_too_deeply"]);
    let parse = parse(&source(&nested(65)));
    assert_eq!(parse.buildfile.targets[0].body.len(), 2);
    for unit in ["$(", "\"$(", "(", "(\"$('\"", "\"$(("] {
        for keyword in ["RUN ", "COPY ", "ENV x=", "FROM +t --x="] {
            let text = format!("VERSION 1\nt:\n    {keyword}{}\n    WORKDIR /x\n", unit.repeat(200_000));
            let parse = crate::hostile::parse(&source(&text));
            let last = parse.buildfile.targets[0].body.last();
            assert!(
                last.is_some_and(|last| text[last.span.start as usize..].starts_with("WORKDIR")),
                "{keyword}{unit}"
            );
        }
    }
}

/// Returns the processor time this thread has used.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// Returns how long parsing takes.
fn cost(text: &str) -> Duration {
    let file = source(text);
    let start = processor_time();
    parse(&file);
    processor_time() - start
}

/// Reading is linear if four times the text takes about four times as long.
#[test]
fn no_text_takes_more_than_linear_time() {
    let units = [
        "RUN \\''\n",
        "RUN \"\n",
        "RUN '\"\n",
        "RUN $(\n",
        "RUN \"$(\n",
        "RUN \"$(a\" 'b\n",
        "RUN \\\n",
        "RUN \\\na:#\\\n",
        "RUN a \\ # b\n",
        "# a \\\n",
        "a:\n",
        "a: \\\n",
        "a\\\n",
        "\\\n",
        "IF x\n",
        "END\n",
        "COPY (a\n",
        "COPY (a \\\n",
        "FROM +t --a=(b\n",
        "ENV a=1 b\\\n",
        "CMD [\"a\",\n",
        "CMD [\"a\", \\\n",
        "(",
        "\"",
        "'",
        "$(",
        "\"$(",
        "x",
        " ",
        "\\",
        "\\\n\n# x\n",
        "--",
        "RUN --network ",
        "é",
        "RUN \"a\nt1:\n  RUN b\n\" 'c\n",
        "COPY {{",
        "{{ \"",
        "COPY {{ '",
        "RUN <<A\n",
        "t:\nRUN <<A\n",
        "t:\nRUN <<A\n A\n",
        "RUN <<A <<B\nA\nB\n",
        "RUN <<A",
        "COPY <<A ",
        "A\n",
        "IF \"\n",
        "IF a\nELSE\nELSE\nEND\n",
        "WAIT\nIF a\nWAIT\nELSE\n",
        "ARG a: enum(",
        "ARG a: enum(\n",
        "LABEL a=b ",
        "F:\nFUNCTION\n",
        "HEALTHCHECK --interval ",
    ];
    for unit in units {
        let small = cost(&repeated(unit, 8_000));
        let large = cost(&repeated(unit, 32_000));
        println!("{unit:?}: {small:?} {large:?}");
        assert!(large < small * 8 + Duration::from_secs(1), "{unit:?}: 8 kB take {small:?}, 32 kB {large:?}");
    }
}

#[test]
fn a_megabyte_of_strings_that_never_close_is_read_in_seconds() {
    let text = repeated("RUN echo hello \\''\n", 1_000_000);
    let cost = cost(&text);
    println!("{cost:?}");
    assert!(cost < Duration::from_secs(60), "{cost:?}");
}

#[test]
fn blocks_are_bounded_too() {
    let nested = |depth: usize| {
        format!(
            "VERSION 1\nt:\n{}    RUN x\n{}    RUN y\n",
            "    IF a\n    ELSE\n".repeat(depth),
            "    END\n".repeat(depth)
        )
    };
    assert_eq!(codes(&nested(64)), Vec::<&str>::new());
    assert_eq!(codes(&nested(65)), ["rb::syntax::nested_too_deeply"]);
    // What is too deep is counted, so that what follows is read again.
    let found = parse(&source(&nested(20_000)));
    assert_eq!(found.diagnostics.len(), 1);
    assert_eq!(found.buildfile.targets[0].body.len(), 2);
    for opener in ["IF a\n", "FOR x IN y\n", "WAIT\n", "TRY\n", "WITH DOCKER\n"] {
        let text = repeated(opener, 200_000);
        let parse = parse(&source(&text));
        assert_eq!(parse.diagnostics.len(), 65, "{opener}");
        to_json(&parse, &source(&text));
    }
}

#[test]
fn a_long_heredoc_and_many_that_never_close_are_read() {
    let text = format!("VERSION 1\nt:\n    RUN <<EOF\n{}EOF\n    RUN x\n", "RUN \"(\n".repeat(500_000));
    let parse = parse(&source(&text));
    assert!(parse.diagnostics.is_empty(), "{:?}", parse.diagnostics.first());
    assert_eq!(parse.buildfile.targets[0].body.len(), 2);
    let many: String =
        (0..60_000).map(|index| format!("t{index}:\n    RUN <<E{index}\n    E{index}\n")).collect();
    assert_eq!(codes(&format!("VERSION 1\n{many}")).len(), 1001);
}

#[test]
fn the_tree_of_a_hostile_text_is_its_text() {
    for unit in ["(", "$(", "\"$(", "RUN \"\n", "IF x\n", "# a\n", "COPY <<A <<A ", "{{", "\n"] {
        let file = source(&repeated(unit, 200_000));
        assert!(tree(&file).print(&file) == *file.text, "{unit}");
    }
    let file = source(&"x".repeat(MAX_FILE_BYTES + 1));
    assert!(tree(&file).print(&file) == *file.text);
}

#[test]
fn places_of_a_long_line_are_found_in_one_pass() {
    let file = source(&format!("VERSION 1\nCOPY {}d\n", "é ".repeat(50_000)));
    let json = to_json(&parse(&file), &file);
    let end = &json["buildfile"]["base"][0]["span"]["end"];
    assert_eq!((end["line"].as_u64(), end["column"].as_u64()), (Some(2), Some(100_007)));
}

//! What lines say, and when.

use rb_api::{CacheKey, CacheVerdict, LogStream, Miss, Progress};

use super::*;

fn tell(plain: &mut Plain, vertex: &str, kind: EventKind, now: Instant) -> String {
    let mut out = Vec::new();
    plain.event(&Event { vertex: Digest::of(vertex), kind }, now, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn shown(colours: bool, events: &[(&str, EventKind)]) -> String {
    let mut plain = Plain::new(colours, 80);
    let now = Instant::now();
    let mut text: String =
        events.iter().map(|(vertex, kind)| tell(&mut plain, vertex, kind.clone(), now)).collect();
    let mut out = Vec::new();
    plain.finish(now, Size { columns: 80, rows: 24 }, &mut out);
    text.push_str(&String::from_utf8(out).expect("UTF-8"));
    text
}

fn added(name: &str, step: bool) -> EventKind {
    EventKind::Added { name: name.to_owned(), step, inputs: Vec::new() }
}

fn log(text: &str) -> EventKind {
    EventKind::Log { stream: LogStream::Stdout, bytes: text.to_owned().into() }
}

#[test]
fn why_steps_run_and_how_they_were_found() {
    let reason = |text: &str| EventKind::Missed {
        reason: CacheVerdict { miss: Miss::NeverSeen, text: text.to_owned() },
    };
    let events = [
        ("a", added("+app | COPY . .", true)),
        ("b", added("+app | RUN make", true)),
        ("c", added("context", false)),
        ("c", reason("never built before")),
        ("c", EventKind::Started),
        ("a", EventKind::Cached { key: CacheKey::Slow, from: None }),
        ("b", reason("what it reads of `+app | COPY . .` has changed")),
        ("b", EventKind::Started),
        ("b", log("done\n")),
    ];
    let told = |verbose| -> String {
        let (mut plain, now) = (Plain::new(false, 80).verbose(verbose), Instant::now());
        events.iter().map(|(vertex, kind)| tell(&mut plain, vertex, kind.clone(), now)).collect()
    };
    insta::assert_snapshot!(told(true), @r"
    +app | *cached* --> COPY . .
    +app | (found by the content of what it reads)
    +app | --> RUN make
    +app | (runs: what it reads of `+app | COPY . .` has changed)
    +app | done
    ");
    assert_eq!(told(false).lines().count(), 3);
}

#[test]
fn steps_and_their_output() {
    let done = |milliseconds| EventKind::Done { duration: Duration::from_millis(milliseconds) };
    let text = shown(
        false,
        &[
            ("a", added("+app | COPY . .", true)),
            ("b", added("+app | RUN make", true)),
            ("c", added("context", false)),
            ("c", EventKind::Started),
            ("c", done(1500)),
            ("a", EventKind::Cached { key: CacheKey::Fast, from: None }),
            ("b", EventKind::Shared { with: Digest::of("d") }),
            ("b", EventKind::Started),
            ("b", log("one\ntw")),
            ("b", log("o\n\u{1b}[1mbold\u{1b}[0m 10%\r100%\nno end")),
            ("b", EventKind::Failed { message: "exit code 2".to_owned() }),
        ],
    );
    insta::assert_snapshot!(text, @r"
    context | context took 1.5s
       +app | *cached* --> COPY . .
       +app | --> RUN make
       +app | one
       +app | two
       +app | 100%
       +app | no end
       +app | *failed* --> RUN make
    ");
}

#[test]
fn colours_of_a_command_end_with_its_line() {
    let text = shown(true, &[("b", added("+app | RUN make", true)), ("b", log("\u{1b}[31mred\nnext\n"))]);
    let expected = "\u{1b}[36m+app |\u{1b}[0m \u{1b}[31mred\u{1b}[0m\n\u{1b}[36m+app |\u{1b}[0m next\n";
    assert_eq!(text, expected);
}

#[test]
fn arguments_are_told_where_a_target_is_called_in_several_ways() {
    let text = shown(
        false,
        &[
            ("a", added("+app --MODE=debug | RUN make", true)),
            ("a", log("one call\n")),
            ("b", added("+app --MODE=release | RUN make", true)),
            ("c", added("+lib --X=1 | RUN true", true)),
            ("a", log("now two\n")),
            ("b", log("the other\n")),
            ("c", log("alone\n")),
        ],
    );
    insta::assert_snapshot!(text, @r"
    +app | one call
    +app --MODE=debug | now two
    +app --MODE=release | the other
                   +lib | alone
    ");
}

#[test]
fn one_that_is_silent_for_long_says_that_it_is_there() {
    let mut plain = Plain::new(false, 80);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    tell(&mut plain, "a", added("+app | RUN sleep 300", true), at(0));
    tell(&mut plain, "b", added("context", false), at(0));
    for vertex in ["a", "b"] {
        tell(&mut plain, vertex, EventKind::Started, at(0));
    }
    let beats = |plain: &mut Plain, from: u64, to: u64| {
        let mut out = Vec::new();
        (from..to).for_each(|second| plain.frame(at(second), Size { columns: 80, rows: 24 }, &mut out));
        String::from_utf8(out).expect("UTF-8")
    };
    assert_eq!(beats(&mut plain, 1, 30), "");
    insta::assert_snapshot!(beats(&mut plain, 30, 160), @r"
    +app | --> RUN sleep 300: still running after 30.0s
    +app | --> RUN sleep 300: still running after 1m30s
    +app | --> RUN sleep 300: still running after 2m30s
    ");
    tell(&mut plain, "a", log("at last\n"), at(160));
    assert_eq!(beats(&mut plain, 161, 189), "");
    assert_eq!(beats(&mut plain, 190, 191), "+app | --> RUN sleep 300: still running after 3m10s\n");
    tell(&mut plain, "a", EventKind::Done { duration: Duration::from_secs(191) }, at(191));
    assert_eq!(beats(&mut plain, 191, 500), "");
}

#[test]
fn how_far_it_is_is_told_with_it_also_of_what_is_no_step() {
    let mut plain = Plain::new(false, 80);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    tell(&mut plain, "a", added("+app | COPY . .", true), at(0));
    tell(&mut plain, "b", added("writing outputs", false), at(0));
    tell(&mut plain, "c", added("+app | RUN make", true), at(0));
    for vertex in ["a", "b"] {
        tell(&mut plain, vertex, EventKind::Started, at(0));
    }
    let progress = |doing, done, all| Progress::bytes(doing, done, Some(all));
    let copied = Progress { files: Some((7, Some(20_000))), ..progress("copying", 1_000, 2_000_000) };
    tell(&mut plain, "a", EventKind::Progress(copied), at(1));
    tell(&mut plain, "b", EventKind::Progress(progress("packing layer 2 of 6", 5, 10)), at(1));
    // It waits for what is fetched for it.
    tell(&mut plain, "c", EventKind::Progress(progress("fetching", 5, 10)), at(1));
    let mut out = Vec::new();
    (2..32).for_each(|second| plain.frame(at(second), Size { columns: 80, rows: 24 }, &mut out));
    insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"), @r"
    +app | --> COPY . .: still running after 30.0s (copying: 7 of 20,000 files, 1.0 kB of 2.0 MB)
    writing outputs | still running after 30.0s (packing layer 2 of 6: 5 B of 10 B)
               +app | --> RUN make: still getting ready after 29.0s (fetching: 5 B of 10 B)
    ");
}

#[test]
fn what_is_not_shown_is_counted() {
    let mut plain = Plain::new(false, 80);
    let now = Instant::now();
    tell(&mut plain, "a", added("+app | RUN yes", true), now);
    tell(&mut plain, "a", log("y\nhalf of a li"), now);
    let mut out = Vec::new();
    let skipped = Skipped { lines: 1_234_567, bytes: 200_000_000 };
    plain.skipped(&Digest::of("a"), skipped, now, &mut out);
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        "+app | half of a li\n+app | … 1,234,567 lines (200.0 MB) not shown; `rb logs` has them\n"
    );
}

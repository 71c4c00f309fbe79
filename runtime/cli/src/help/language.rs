//! Help for the statements of build files: `rb help RUN`, `rb help language`.
//!
//! In: `grammar/LANGUAGE.md`, the one description of the language, whose examples its own tests run. Out: of each statement its
//! forms, its flags, what its chapter says of it and an example, in lines of a terminal. Nothing is said of the language here:
//! this only finds, and breaks lines.

use std::iter::Peekable;

use rb_diag::nearest;

use super::wrapped;
use crate::progress::fill;

const TEXT: &str = include_str!("../../../../grammar/LANGUAGE.md");

/// Columns of a text, and of names in a list.
const WIDTH: usize = 80;
const NAMES: usize = 16;

/// Where a statement is explained: all of a chapter, or the paragraphs that name it.
enum Told {
    Whole(&'static [&'static str]),
    Where(&'static [&'static str]),
}

/// The chapter of each statement; of others the table of commands says all.
const CHAPTERS: &[(&[&str], Told)] = &[
    (&["VERSION"], Told::Whole(&["Editions"])),
    (&["FROM"], Told::Whole(&["FROM"])),
    (&["FROM BUILDPACKS"], Told::Whole(&["FROM BUILDPACKS"])),
    (&["COPY"], Told::Whole(&["COPY"])),
    (&["SAVE ARTIFACT"], Told::Whole(&["SAVE ARTIFACT"])),
    (&["RUN"], Told::Whole(&["What a step sees", "Caches, secrets, mounts"])),
    (&["SHELL"], Told::Where(&["What a step sees"])),
    (&["ARG"], Told::Whole(&["Arguments", "Types"])),
    (&["LET", "SET", "ENV"], Told::Where(&["Variables and words", "Expansion"])),
    (&["IF", "ELSE IF", "ELSE", "FOR", "END"], Told::Where(&["Conditions and loops"])),
    (&["DO", "FUNCTION"], Told::Whole(&["Functions"])),
    (&["BUILD", "WAIT", "TRY", "CATCH", "FINALLY", "LOCALLY"], Told::Where(&["Calls and outputs"])),
    (&["IMPORT"], Told::Where(&["References"])),
    (&["CACHE", "HOST"], Told::Where(&["Caches, secrets, mounts"])),
    (
        &[
            "SAVE IMAGE",
            "EXPOSE",
            "VOLUME",
            "LABEL",
            "STOPSIGNAL",
            "HEALTHCHECK",
            "CMD",
            "ENTRYPOINT",
            "USER",
            "WORKDIR",
        ],
        Told::Where(&["Images", "A first example"]),
    ),
];

/// What stands below a heading: paragraphs, tables and fenced blocks.
enum Part<'t> {
    Paragraph(String),
    Table(Vec<Vec<&'t str>>),
    Fenced { language: &'t str, lines: Vec<&'t str> },
}

/// Returns the help of a statement, written as in a build file or in small letters; of `SAVE` both are meant.
pub(crate) fn statement(words: &[String]) -> Option<String> {
    let name = words.join(" ").to_uppercase();
    let all = names();
    let meant: Vec<&str> = match all.iter().find(|known| **known == name) {
        Some(known) => vec![known],
        None => all.iter().filter(|known| known.starts_with(&format!("{name} "))).copied().collect(),
    };
    let texts: Vec<String> = meant.into_iter().map(one).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Returns the statement whose name is near.
pub(crate) fn near(words: &[String]) -> Option<&'static str> {
    nearest(&words.join(" ").to_uppercase(), names())
}

/// Returns the first word of every statement, each once.
pub(crate) fn first_words() -> Vec<&'static str> {
    let mut words: Vec<&str> = names().into_iter().filter_map(|name| name.split(' ').next()).collect();
    words.dedup();
    words
}

/// Text of `rb help language`: every statement in a line or two.
pub(super) fn overview() -> String {
    let mut out = String::from(
        "A Buildfile begins with `VERSION 1`. Statements stand, indented, below the name\n\
         of a target:\n\n",
    );
    for line in example("A first example", "FROM").unwrap_or_default() {
        out.push_str(format!("  {line}").trim_end());
        out.push('\n');
    }
    out.push_str("\nStatements, for `rb help NAME`:\n\n");
    for row in table("Commands") {
        if let [forms, meaning, ..] = row.as_slice() {
            let names: Vec<&str> = forms_of(forms).map(name_of).collect();
            let mut names = names.iter().enumerate().filter(|(at, name)| !names[..*at].contains(name));
            let names = names.by_ref().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
            let has_room = names.len() <= NAMES;
            if !has_room {
                out.push_str(&format!("  {names}\n"));
            }
            out.push_str(&wrapped(if has_room { &names } else { "" }, NAMES, &plain(meaning)));
        }
    }
    let later: Vec<&str> = later().collect();
    out + "\n" + &indented(&format!("Read, and not yet done: {}.", later.join(", ")), 0)
}

/// Returns the names of all statements, sorted.
fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = rb_syntax::statements().collect();
    names.sort_unstable();
    names
}

/// Returns the statements that are only read.
fn later() -> impl Iterator<Item = &'static str> {
    table("Read, and not yet done").into_iter().flat_map(|row| row.first().copied()).flat_map(forms_of)
}

/// Returns what stands in backquotes.
fn forms_of(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns the statement that a form begins with.
fn name_of(form: &str) -> &'static str {
    let is_it = |name: &&str| {
        form.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '[', '<']))
    };
    rb_syntax::statements().filter(is_it).max_by_key(|name| name.len()).unwrap_or_default()
}

fn one(name: &str) -> String {
    let mut out = String::new();
    for row in table("Commands") {
        let [forms, meaning, ..] = row.as_slice() else { continue };
        let own: Vec<&str> = forms_of(forms).filter(|form| name_of(form) == name).collect();
        if !own.is_empty() {
            own.iter().for_each(|form| out.push_str(&format!("{form}\n")));
            out.push_str(&indented(&plain(meaning), 4));
        }
    }
    if later().any(|known| known == name) {
        out.push_str(&format!(
            "{name}\n{}",
            indented("read, and not yet done: where a build reaches it, it is refused", 4)
        ));
    }
    for row in table("Flags of all commands") {
        let [form, flags, ..] = row.as_slice() else { continue };
        if forms_of(form).any(|form| name_of(form) == name) {
            out.push_str(&format!("\nFlags of {}:\n", form.replace('`', "")));
            flags
                .split("; ")
                .flat_map(|flag| flag.split(". "))
                .for_each(|flag| out.push_str(&indented(flag, 2)));
        }
    }
    let Some((_, told)) = CHAPTERS.iter().find(|(names, _)| names.contains(&name)) else { return out };
    let (chapters, whole) = match told {
        Told::Whole(chapters) => (*chapters, true),
        Told::Where(chapters) => (*chapters, false),
    };
    explain(chapters.iter().flat_map(|chapter| parts(chapter)), whole, name, &mut out);
    if let Some(lines) = chapters.iter().find_map(|chapter| example(chapter, name)) {
        out.push_str("\nExample:\n\n");
        for line in lines {
            out.push_str(format!("  {line}").trim_end());
            out.push('\n');
        }
    }
    out
}

/// Appends what chapters say: all, or what names the statement.
fn explain(parts: impl Iterator<Item = Part<'static>>, whole: bool, name: &str, out: &mut String) {
    for part in parts {
        match part {
            Part::Paragraph(text) if whole || names_it(&text, name) => {
                out.push('\n');
                out.push_str(&indented(&plain(&text), 0));
            }
            Part::Table(rows) => {
                let rows: Vec<_> =
                    rows.iter().filter(|row| whole || row.iter().any(|cell| names_it(cell, name))).collect();
                for (at, row) in rows.iter().enumerate() {
                    if at == 0 {
                        out.push('\n');
                    }
                    let mut cells = row.iter().map(|cell| plain(cell));
                    out.push_str(&format!("  {}\n", cells.next().unwrap_or_default().replace('`', "")));
                    out.push_str(&indented(&cells.collect::<Vec<_>>().join("; "), 6));
                }
            }
            Part::Paragraph(_) | Part::Fenced { .. } => {}
        }
    }
}

/// Tells whether a text names a statement.
fn names_it(text: &str, name: &str) -> bool {
    let is_word = |next: Option<char>| next.is_some_and(|next| next.is_ascii_alphanumeric());
    text.match_indices(name).any(|(at, _)| {
        !is_word(text[..at].chars().next_back()) && !is_word(text[at + name.len()..].chars().next())
    })
}

/// Returns the first build file of a chapter that has a statement.
fn example(chapter: &str, name: &str) -> Option<Vec<&'static str>> {
    const OF_TESTS: [&str; 4] = ["# rb ", "# error:", "# warning:", "# given:"];
    parts(chapter).into_iter().find_map(|part| match part {
        Part::Fenced { language: "buildfile", lines } => {
            let shown = |line: &&str| !OF_TESTS.iter().any(|of_test| line.starts_with(of_test));
            let all: Vec<&str> = lines.into_iter().filter(shown).collect();
            let has = |line: &&str| {
                line.trim_start()
                    .strip_prefix(name)
                    .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
            };
            // Further files are shown where they are what it is about.
            let first: Vec<&str> = all.iter().copied().take_while(|line| !line.starts_with("=== ")).collect();
            [first, all].into_iter().find(|lines| lines.iter().any(has))
        }
        Part::Fenced { .. } | Part::Paragraph(_) | Part::Table(_) => None,
    })
}

/// Returns the rows of the first table of a chapter, but for its heading.
fn table(chapter: &str) -> Vec<Vec<&'static str>> {
    let tables = parts(chapter).into_iter().filter_map(|part| match part {
        Part::Table(rows) => Some(rows),
        Part::Paragraph(_) | Part::Fenced { .. } => None,
    });
    tables.into_iter().next().unwrap_or_default()
}

/// Returns what stands below a heading, up to the next one.
fn parts(heading: &str) -> Vec<Part<'static>> {
    let is_it = |line: &&str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let mut fenced = false;
    let mut lines = TEXT.lines().skip_while(move |line| {
        fenced ^= line.starts_with("```");
        fenced || !is_it(line)
    });
    lines.next();
    let mut lines = lines.peekable();
    let mut parts = Vec::new();
    while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
        if let Some(language) = line.strip_prefix("```") {
            let body = lines.by_ref().take_while(|line| *line != "```").collect();
            parts.push(Part::Fenced { language, lines: body });
        } else if line.starts_with('|') {
            // The heading of the table and the line below it.
            let rows = take(&mut lines, |line| line.starts_with('|'));
            parts.push(Part::Table(rows.iter().skip(1).map(|row| cells(row)).collect()));
        } else if !line.is_empty() {
            let is_more = |line: &str| {
                !line.is_empty()
                    && !line.starts_with(['|', '#'])
                    && !is_item(line)
                    && !line.starts_with("```")
            };
            let rest = take(&mut lines, is_more);
            parts.push(Part::Paragraph(
                std::iter::once(line).chain(rest).map(str::trim).collect::<Vec<_>>().join(" "),
            ));
        }
    }
    parts
}

/// Tells whether a line begins a point of a list.
fn is_item(line: &str) -> bool {
    line.starts_with("* ") || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}

fn take<'t>(lines: &mut Peekable<impl Iterator<Item = &'t str>>, is: impl Fn(&str) -> bool) -> Vec<&'t str> {
    std::iter::from_fn(|| lines.next_if(|line| is(line))).collect()
}

fn cells(row: &'static str) -> Vec<&'static str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

/// Returns a text without marks of Markdown.
fn plain(text: &str) -> String {
    text.replace("**", "")
}

/// Breaks a text into lines that begin with so many spaces.
fn indented(text: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    fill(&format!("{indent}{text}"), WIDTH, &indent) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> String {
        statement(&[name.to_owned()]).unwrap_or_else(|| panic!("nothing is said of {name}"))
    }

    #[test]
    fn every_statement_is_told_in_lines_of_a_terminal() {
        for name in rb_syntax::statements() {
            let text = of(name);
            assert!(text.lines().count() > 1, "{text}");
            let wide = text.lines().find(|line| line.chars().count() > WIDTH && !line.starts_with("  "));
            assert_eq!(wide, None, "{name}");
            assert!(!["**", "](", "# rb ", "```"].iter().any(|mark| text.contains(mark)), "{text}");
            assert!(text.ends_with('\n') && !text.contains("\n\n\n"), "{text:?}");
        }
        for row in table("Commands") {
            assert!(forms_of(row[0]).all(|form| !name_of(form).is_empty()), "{row:?}");
        }
    }

    #[test]
    fn chapters_are_there_and_have_examples() {
        for (names, told) in CHAPTERS {
            let (Told::Whole(chapters) | Told::Where(chapters)) = told;
            assert!(chapters.iter().all(|chapter| !parts(chapter).is_empty()), "{chapters:?}");
            for name in *names {
                assert!(
                    *name == "SHELL" || chapters.iter().any(|chapter| example(chapter, name).is_some()),
                    "{chapters:?} has no example of {name}"
                );
            }
        }
    }

    #[test]
    fn a_statement_has_forms_flags_words_and_an_example() {
        insta::assert_snapshot!(of("SAVE ARTIFACT"));
        insta::assert_snapshot!(of("wait"));
        insta::assert_snapshot!(of("ADD"));
        assert!(of("SAVE").contains("SAVE IMAGE name…\n") && of("SAVE").contains("SAVE ARTIFACT path"));
        assert_eq!(statement(&["RUNN".to_owned()]), None);
        assert_eq!(near(&["RUNN".to_owned()]), Some("RUN"));
        assert_eq!(near(&["save".to_owned(), "imgae".to_owned()]), Some("SAVE IMAGE"));
    }

    #[test]
    fn the_overview_has_a_line_for_each() {
        insta::assert_snapshot!(overview());
    }
}

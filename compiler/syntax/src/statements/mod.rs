//! The words of one line → a statement.
//!
//! In: a [`Statement`](crate::entries::Statement) of the grammar. Out: a [`StmtKind`], or `None` where the words do
//! not make one; either way what is wrong with them is in the report. Words stay as written: a word with a variable
//! in it is taken for good here, and checked where its value is known.

mod assignment;
mod command_line;
mod copy;
mod reference;
mod save;
mod version;

use rb_diag::{Diagnostic, Span};

pub(crate) use reference::is_target_name;
pub(crate) use version::read_version;

use crate::commands::Command;
use crate::entries::Part;
use crate::flags::{self, FlagSpec, refuse_late_flags, take_flags};
use crate::report::{Report, nearest, shown};
use crate::{Base, Parsed, Run, StmtKind, Word, codes};

/// What the reading of one statement works with.
pub(crate) struct Reader<'a> {
    pub(crate) command: Command,
    /// The command's word.
    pub(crate) keyword: Span,
    pub(crate) report: &'a mut Report,
}

impl Reader<'_> {
    /// Reads a statement other than `VERSION`.
    pub(crate) fn read(&mut self, parts: Vec<Part>) -> Option<StmtKind<Parsed>> {
        match self.command {
            Command::Version => None,
            Command::From => self.from(only_words(parts)).map(StmtKind::From),
            Command::Run => self.run(parts).map(StmtKind::Run),
            Command::Copy => self.copy(parts).map(StmtKind::Copy),
            Command::Arg => self.arg(parts).map(StmtKind::Arg),
            Command::Env => self.env(parts),
            Command::Workdir => self.workdir(only_words(parts)).map(StmtKind::Workdir),
            Command::Entrypoint => self.command_line(parts).map(StmtKind::Entrypoint),
            Command::Cmd => self.command_line(parts).map(StmtKind::Cmd),
            Command::SaveArtifact => self.save_artifact(only_words(parts)).map(StmtKind::SaveArtifact),
            Command::SaveImage => Some(StmtKind::SaveImage(self.save_image(only_words(parts)))),
            Command::Build => self.build(only_words(parts)).map(StmtKind::Build),
        }
    }

    fn from(&mut self, mut words: Vec<Word>) -> Option<Base<Parsed>> {
        take_flags("FROM", flags::FROM, &mut words, self.report);
        let mut words = words.into_iter();
        let Some(base) = words.next() else {
            self.missing(
                "`FROM` needs something to start from",
                "`FROM scratch`, `FROM +target` or `FROM @host`",
            );
            return None;
        };
        let mut rest: Vec<Word> = words.collect();
        if base.raw == "@host" {
            let flags = take_flags("FROM @host", flags::HOST, &mut rest, self.report);
            self.nothing_more("FROM @host", flags::HOST, &rest);
            return Some(Base::Host {
                binds: flags.values("bind"),
                fingerprints: flags.values("fingerprint"),
            });
        }
        if base.raw.starts_with('@') {
            let message = format!("there is no base `{}`", shown(&base.raw));
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(base.span, "");
            self.report.push(diagnostic.with_nearest(nearest(&base.raw, ["@host"])));
            return None;
        }
        if reference::plus(&base.raw).is_some() {
            return self.call(base, rest).map(Base::Target);
        }
        if let Some(word) = rest.first().filter(|word| word.raw.eq_ignore_ascii_case("as")) {
            let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, "`FROM` takes no `AS`");
            let help = "a target is named by its header: `name:`";
            self.report.push(diagnostic.with_label(word.span, "").with_help(help));
        } else if let Some(word) =
            rest.first().filter(|word| word.raw.starts_with("--") && word.raw.len() > 2)
        {
            let known = flags::FROM.iter().any(|spec| spec.name == flags::split_flag(word).name);
            if known {
                refuse_late_flags("FROM", flags::FROM, &rest, self.report);
            } else {
                let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, "an image takes no arguments");
                self.report.push(
                    diagnostic.with_label(word.span, "").with_help("only a target does: `FROM +target`"),
                );
            }
        } else {
            self.nothing_more("FROM", flags::NONE, &rest);
        }
        Some(if base.raw == "scratch" { Base::Scratch } else { Base::Image(base) })
    }

    fn run(&mut self, parts: Vec<Part>) -> Option<Run> {
        let (words, rest): (Vec<Part>, Vec<Part>) =
            parts.into_iter().partition(|part| matches!(part, Part::Word(_)));
        let mut words = only_words(words);
        let flags = take_flags("RUN", flags::RUN, &mut words, self.report);
        let command = self.command_line(rest)?;
        Some(Run { network: flags.value("network"), no_cache: flags.is_on("no-cache"), command })
    }

    fn workdir(&mut self, mut words: Vec<Word>) -> Option<Word> {
        take_flags("WORKDIR", flags::NONE, &mut words, self.report);
        let mut words = words.into_iter();
        let Some(directory) = words.next() else {
            self.missing("`WORKDIR` needs a directory", "`WORKDIR /src`");
            return None;
        };
        self.nothing_more("WORKDIR", flags::NONE, &words.collect::<Vec<_>>());
        Some(directory)
    }

    /// Reports that the command lacks words; `example` shows it whole.
    fn missing(&mut self, message: &str, example: &str) {
        let diagnostic = Diagnostic::error(codes::MISSING_WORDS, message).with_label(self.keyword, "");
        self.report.push(diagnostic.with_help(format!("for example {example}")));
    }

    /// Reports words behind the last one that `owner` takes, late flags among them.
    fn nothing_more(&mut self, owner: &str, specs: &[FlagSpec], rest: &[Word]) {
        let Some(word) = rest.first() else { return };
        if word.raw.starts_with("--") && word.raw != "--" {
            refuse_late_flags(owner, specs, rest, self.report);
        } else {
            let message = format!("`{owner}` takes no further word `{}`", shown(&word.raw));
            let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(word.span, "");
            self.report.push(diagnostic.with_help("quote what belongs together: `\"a b\"`"));
        }
    }
}

/// Drops what is no plain word; the grammar gives such parts to other commands only.
fn only_words(parts: Vec<Part>) -> Vec<Word> {
    parts.into_iter().filter_map(|part| if let Part::Word(word) = part { Some(word) } else { None }).collect()
}

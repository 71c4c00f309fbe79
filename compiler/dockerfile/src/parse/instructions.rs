//! What an instruction says: its flags and words, checked and typed.
//!
//! In: a [`Statement`], its heredocs already read. Out: an [`Instruction`], or `None` where errors leave nothing to go on
//! with. Words are kept as written; only what no variable can change is checked here.
//! Source of the rules: BuildKit's frontend/dockerfile/parser/line_parsers.go and instructions/parse.go.

use rb_diag::{Diagnostic, Span};

use super::flags::Flags;
use super::heredocs::mark;
use super::json::{Form, form};
use super::keyword::Keyword;
use super::report::{Report, shown};
use super::statement::Statement;
use super::{healthcheck, onbuild, pairs};
use crate::lines::Part;
use crate::words::{Lexer, NoVariables};
use crate::{CommandLine, Heredoc, Instruction, Run, Transfer, TransferSource, Word, codes, go};

/// Reads the instruction of a keyword; `FROM` is none of a stage.
pub(super) fn read(keyword: Keyword, statement: Statement<'_>, report: &mut Report) -> Option<Instruction> {
    if keyword == Keyword::Onbuild {
        return onbuild::read(statement, report).map(Instruction::Onbuild);
    }
    let flags = Flags::read(statement.flags, keyword, report);
    let Statement { rest, escape, comments, heredocs, .. } = statement;
    let words = Words { keyword, place: statement.word.span(), rest };
    Some(match keyword {
        Keyword::Add => Instruction::Add(words.transfer(&flags, &heredocs, report)?),
        Keyword::Arg => Instruction::Arg(pairs::definitions(words, escape, comments, report)?),
        Keyword::Cmd => Instruction::Cmd(command_line(rest, report)?),
        Keyword::Copy => Instruction::Copy(words.transfer(&flags, &heredocs, report)?),
        Keyword::Entrypoint => Instruction::Entrypoint(command_line(rest, report)?),
        Keyword::Env => Instruction::Env(pairs::read(words, escape, report)?),
        Keyword::Expose => Instruction::Expose(words.fields(report)?),
        Keyword::Healthcheck => Instruction::Healthcheck(healthcheck::read(words, &flags, report)?),
        Keyword::Label => Instruction::Label(pairs::read(words, escape, report)?),
        Keyword::Maintainer => Instruction::Maintainer(words.one(report)?),
        Keyword::Run => Instruction::Run(read_run(rest, &flags, heredocs, report)?),
        Keyword::Shell => Instruction::Shell(words.shell(report)?),
        Keyword::Stopsignal => Instruction::Stopsignal(words.one(report)?),
        Keyword::User => Instruction::User(words.one(report)?),
        Keyword::Volume => Instruction::Volume(words.volumes(report)?),
        Keyword::Workdir => Instruction::Workdir(words.one(report)?),
        Keyword::From | Keyword::Onbuild => return None,
    })
}

/// Reads a list of strings or a line for the shell.
pub(super) fn command_line(rest: Part<'_>, report: &mut Report) -> Option<CommandLine> {
    match form(rest) {
        Form::List(words) => Some(CommandLine::Exec(words)),
        Form::Plain => Some(CommandLine::Shell(rest.word())),
        Form::NotStrings(items) => {
            tell_items(&items, report);
            None
        }
    }
}

/// What stands behind a keyword and its flags.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) keyword: Keyword,
    /// Where the keyword stands.
    pub(super) place: Span,
    pub(super) rest: Part<'a>,
}

impl Words<'_> {
    /// Says that there is nothing.
    pub(super) fn tell_missing(self, report: &mut Report) {
        report.add(
            self.keyword.missing(self.place, format!("{} requires at least one argument", self.keyword)),
        );
    }

    /// Returns the one argument, blanks and all.
    fn one(self, report: &mut Report) -> Option<Word> {
        if self.rest.is_empty() {
            let message = format!("{} requires exactly one argument", self.keyword);
            report.add(self.keyword.missing(self.place, message));
            return None;
        }
        Some(self.rest.word())
    }

    /// Returns words between blanks, at least one.
    fn fields(self, report: &mut Report) -> Option<Vec<Word>> {
        if self.rest.is_empty() {
            self.tell_missing(report);
            return None;
        }
        Some(self.rest.fields().into_iter().map(Part::word).collect())
    }

    /// Returns the words of a list, or those between blanks; `None` where a list holds something else.
    fn list(self, report: &mut Report) -> Option<Vec<Word>> {
        match form(self.rest) {
            Form::List(words) => Some(words),
            Form::Plain => Some(self.rest.fields().into_iter().map(Part::word).collect()),
            Form::NotStrings(items) => {
                tell_items(&items, report);
                None
            }
        }
    }

    fn volumes(self, report: &mut Report) -> Option<Vec<Word>> {
        let words = self.list(report)?;
        if words.is_empty() {
            self.tell_missing(report);
            return None;
        }
        let words = words.into_iter().map(|word| Word::new(word.value.trim().to_owned(), word.span));
        let words: Vec<Word> = words.collect();
        for word in words.iter().filter(|word| word.value.is_empty()) {
            let error = Diagnostic::error(codes::ARGUMENTS, "VOLUME specified can not be an empty string");
            report.add(error.with_label(word.span, "").with_help("write the path of a directory"));
        }
        Some(words)
    }

    fn shell(self, report: &mut Report) -> Option<Vec<Word>> {
        match form(self.rest) {
            Form::List(words) if !words.is_empty() => return Some(words),
            Form::NotStrings(items) => tell_items(&items, report),
            Form::Plain if !self.rest.is_empty() => report.add(no_list(self.rest)),
            Form::List(_) | Form::Plain => self.tell_missing(report),
        }
        None
    }

    fn transfer(self, flags: &Flags, heredocs: &[Heredoc], report: &mut Report) -> Option<Transfer> {
        let Self { keyword, place, .. } = self;
        let from = flags.value("from").inspect(|from| check_from(from, report));
        let mut words = self.list(report)?;
        let destination = words.pop();
        let (Some(destination), false) = (&destination, words.is_empty()) else {
            let only = destination
                .as_ref()
                .map(|_| ", but only one was provided. Destination could not be determined");
            let message = format!("{keyword} requires at least two arguments{}", only.unwrap_or_default());
            report.add(keyword.missing(destination.map_or(place, |word| word.span), message));
            return None;
        };
        if mark(&destination.value).is_some() {
            let message = format!("{keyword} cannot accept a heredoc as a destination");
            let help = format!("write the path of a file behind it: `{keyword} {} /file`", destination.value);
            let error = Diagnostic::error(codes::HEREDOC, message).with_label(destination.span, "");
            report.add(error.with_help(help));
        }
        Some(Transfer {
            sources: words.into_iter().map(|word| source(word, heredocs, report)).collect(),
            destination: destination.clone(),
            from,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link"),
            parents: flags.switch("parents"),
            excludes: flags.values("exclude"),
            checksum: flags.value("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
        })
    }
}

/// Says that `SHELL` takes a list, and how this one is written.
fn no_list(rest: Part<'_>) -> Diagnostic {
    let words: Vec<String> = rest.fields().iter().map(|word| go::quote(word.text())).collect();
    let help = match rest.text().starts_with('[') {
        true => "strings of JSON stand in double quotes: `SHELL [\"bash\", \"-c\"]`".to_owned(),
        false => format!("write `SHELL [{}]`", words.join(", ")),
    };
    Diagnostic::error(codes::BAD_LIST, "SHELL requires the arguments to be in JSON form")
        .with_label(rest.span(), "not a JSON list of strings")
        .with_help(help)
}

fn read_run(rest: Part<'_>, flags: &Flags, heredocs: Vec<Heredoc>, report: &mut Report) -> Option<Run> {
    let network = flags.value("network");
    check_name(network.as_ref(), "network mode", &["default", "none", "host"], report);
    let security = flags.value("security");
    check_name(security.as_ref(), "security mode", &["sandbox", "insecure"], report);
    let mounts = flags.values("mount");
    let mounts = mounts.iter().filter_map(|value| super::mounts::read(value, report)).collect();
    Some(Run {
        command: command_line(rest, report)?,
        heredocs,
        mounts,
        network,
        security,
        devices: flags.values("device"),
    })
}

/// Checks the value of a flag that takes one of some names.
fn check_name(value: Option<&Word>, what: &str, names: &[&str], report: &mut Report) {
    if let Some(value) = value.filter(|value| !names.contains(&value.value.as_str())) {
        let message = format!("invalid {what} \"{}\"", shown(&value.value));
        let error = Diagnostic::error(codes::BAD_FLAG, message).with_label(value.span, "");
        report.add(super::report::with_names(error, &value.value, "one of", names.iter().copied()));
    }
}

/// Says what is copied; of heredocs of one name the last counts.
fn source(word: Word, heredocs: &[Heredoc], report: &mut Report) -> TransferSource {
    let Some(mark) = mark(&word.value) else { return TransferSource::Path(word) };
    if let Some(heredoc) = heredocs.iter().rfind(|heredoc| heredoc.name == mark.name) {
        return TransferSource::Heredoc(heredoc.clone());
    }
    let message = format!("`{}` begins no heredoc here", shown(&word.value));
    let error = Diagnostic::error(codes::HEREDOC, message)
        .with_label(word.span, "in a line with a quote that is not closed, or in a list, it means nothing");
    report.add(error.with_help("close the quote; with heredocs, write words instead of a list"));
    TransferSource::Path(word)
}

/// Tells whether what `--from=` says is the same whatever variables hold.
pub(crate) fn is_plain(from: &str) -> bool {
    Lexer::new('\\').expand(from, &NoVariables).is_ok_and(|found| found.text == from)
}

/// Checks that no variable decides from where something is copied: stages are known before variables are.
fn check_from(from: &Word, report: &mut Report) {
    if !is_plain(&from.value) {
        let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
        let error = Diagnostic::error(codes::BAD_FLAG, message)
            .with_label(from.span, "a stage or an image, as it is");
        report.add(error.with_help("write `FROM $IMAGE AS name` above, and `--from=name` here"));
    }
}

fn tell_items(items: &[Part<'_>], report: &mut Report) {
    items.iter().for_each(|item| report.add_with(|| not_strings(*item)));
}

fn not_strings(item: Part<'_>) -> Diagnostic {
    let message = "when using JSON array syntax, arrays must be comprised of strings only";
    let error = Diagnostic::error(codes::BAD_LIST, message).with_label(item.span(), "not a string");
    error.with_help(format!("write `\"{}\"`", shown(item.text()).replace('"', "\\\"")))
}

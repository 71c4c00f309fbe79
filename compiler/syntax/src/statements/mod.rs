//! The words of one line → a statement.
//!
//! In: a [`Statement`](crate::entries::Statement) of the grammar. Out: a [`StmtKind`], or `None` where the words do
//! not make one; either way what is wrong with them is in the report. Words stay as written: a word with a variable
//! in it is taken for good here, and checked where its value is known.

mod arg_type;
mod assignment;
mod cache;
mod calls;
mod command_line;
mod control;
mod copy;
mod from;
mod git_clone;
mod healthcheck;
mod import;
mod label;
mod metadata;
mod mount;
mod reference;
mod run;
mod save;
mod step_flags;
pub(crate) mod text;
mod version;

use rb_diag::{Diagnostic, Span, Spanned};

pub use reference::{dockerfile_of, is_stage_name};
pub(crate) use reference::{is_function_name, is_target_name};
pub(crate) use version::read_version;

use crate::commands::Command;
use crate::entries::Part;
use crate::flags::{FlagTable, Flags, looks_like_flag, refuse_late_flags};
use crate::report::{Report, shown};
use crate::{Condition, Edition, Parsed, StepFlags, StmtKind, Word, codes};

/// What the reading of one statement works with.
pub(crate) struct Reader<'a> {
    pub(crate) command: Command,
    /// The command's word.
    pub(crate) keyword: Span,
    /// The whole line, comments left out.
    pub(crate) line: Span,
    /// The edition of the file.
    pub(crate) edition: Edition,
    pub(crate) report: &'a mut Report,
}

/// What one line says: a statement, or a part of a block that [`blocks`](crate::blocks) puts together.
#[derive(Debug)]
pub(crate) enum Line {
    /// A statement that is whole.
    Statement(StmtKind<Parsed>),
    /// `IF …`
    If(Condition),
    /// `ELSE IF …`
    ElseIf(Condition),
    /// `ELSE`
    Else,
    /// `FOR …`
    For(ForHead),
    /// `WAIT`
    Wait,
    /// `TRY`
    Try,
    /// `CATCH`
    Catch,
    /// `FINALLY`
    Finally,
    /// `END`
    End,
    /// `FUNCTION`, `COMMAND`
    Function,
    /// A command of later versions, perhaps one that opens or divides a block.
    Later {
        /// Its name.
        name: &'static str,
        /// What follows the keyword.
        text: Option<Word>,
    },
}

/// `FOR [--sep=…] [flags] NAME IN words…`
#[derive(Debug)]
pub(crate) struct ForHead {
    pub(crate) variable: Spanned<String>,
    pub(crate) separators: Option<Word>,
    pub(crate) flags: StepFlags,
    pub(crate) items: Word,
}

impl Reader<'_> {
    /// Reads a line other than `VERSION`.
    pub(crate) fn read(&mut self, parts: Vec<Part>) -> Option<Line> {
        Some(match self.command {
            Command::Version => return None,
            Command::If => Line::If(self.condition(parts)?),
            Command::ElseIf => Line::ElseIf(self.condition(parts)?),
            Command::For => Line::For(self.for_head(parts)?),
            Command::Else => self.alone(parts, Line::Else),
            Command::Wait => self.alone(parts, Line::Wait),
            Command::Try => self.alone(parts, Line::Try),
            Command::Catch => self.alone(parts, Line::Catch),
            Command::Finally => self.alone(parts, Line::Finally),
            Command::End => self.alone(parts, Line::End),
            Command::Function => self.alone(parts, Line::Function),
            Command::Later(name) => Line::Later { name, text: only_text(parts) },
            _ => Line::Statement(self.statement(parts)?),
        })
    }

    /// Reads a statement that is no part of a block.
    fn statement(&mut self, parts: Vec<Part>) -> Option<StmtKind<Parsed>> {
        Some(match self.command {
            Command::From => StmtKind::From(self.from(only_words(parts))?),
            Command::FromDockerfile => StmtKind::From(self.dockerfile_base(parts)?),
            Command::FromBuildpacks => StmtKind::From(self.buildpacks_base(parts)?),
            Command::Locally => StmtKind::Locally(self.locally(only_words(parts))),
            Command::Run => StmtKind::Run(self.run(parts)?),
            Command::Copy => StmtKind::Copy(self.copy(parts)?),
            Command::SaveArtifact => StmtKind::SaveArtifact(self.save_artifact(only_words(parts))?),
            Command::SaveImage => StmtKind::SaveImage(self.save_image(only_words(parts))?),
            Command::Expose => StmtKind::Expose(self.expose(only_words(parts))?),
            Command::Volume => StmtKind::Volume(self.volume(parts)?),
            Command::Env => StmtKind::Env(self.env(parts)?),
            Command::Arg => StmtKind::Arg(self.arg(parts)?),
            Command::Set => StmtKind::Set(self.assignment(parts)?),
            Command::Let => StmtKind::Let(self.assignment(parts)?),
            Command::Label => StmtKind::Label(self.label(only_words(parts))?),
            Command::Build => StmtKind::Build(self.build(only_words(parts))?),
            Command::Workdir => StmtKind::Workdir(self.workdir(only_words(parts))?),
            Command::User => StmtKind::User(self.user(only_words(parts))?),
            Command::Cmd => StmtKind::Cmd(self.command_line(parts)?),
            Command::Entrypoint => StmtKind::Entrypoint(self.command_line(parts)?),
            Command::StopSignal => StmtKind::StopSignal(self.stop_signal(only_words(parts))?),
            Command::Healthcheck => StmtKind::Healthcheck(self.healthcheck(parts)?),
            Command::Shell => StmtKind::Shell(self.shell(parts)?),
            Command::Do => StmtKind::Do(self.call_function(only_words(parts))?),
            Command::Import => StmtKind::Import(self.import(only_words(parts))?),
            Command::Cache => StmtKind::Cache(self.cache(only_words(parts))?),
            Command::Host => StmtKind::Host(self.host(only_words(parts))?),
            Command::GitClone => StmtKind::GitClone(self.git_clone(only_words(parts))?),
            Command::Project => StmtKind::Project(self.project(only_words(parts))?),
            Command::Version
            | Command::If
            | Command::ElseIf
            | Command::Else
            | Command::For
            | Command::Wait
            | Command::Try
            | Command::Catch
            | Command::Finally
            | Command::End
            | Command::Function
            | Command::Later(_) => return None,
        })
    }

    /// Reads a line that is one keyword; words behind it are reported, and the line keeps its meaning.
    fn alone(&mut self, parts: Vec<Part>, line: Line) -> Line {
        self.nothing_more(&FlagTable::none(self.command.name()), &only_words(parts));
        line
    }

    /// Reports that the command lacks words; `example` shows it whole.
    fn missing(&mut self, message: &str, example: &str) {
        let diagnostic = Diagnostic::error(codes::MISSING_WORDS, message).with_label(self.keyword, "");
        self.report.push(diagnostic.with_help(format!("for example {example}")));
    }

    /// Reports words behind the last one that the command takes, late flags among them.
    fn nothing_more(&mut self, table: &FlagTable, rest: &[Word]) {
        let Some(word) = rest.first() else { return };
        if looks_like_flag(word) {
            refuse_late_flags(table, self.edition, rest, self.report);
            return;
        }
        let owner = table.owner;
        let message = format!("`{owner}` takes no further word `{}`", shown(&word.raw));
        let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(word.span, "");
        let alone = matches!(
            self.command,
            Command::Locally
                | Command::Else
                | Command::Wait
                | Command::Try
                | Command::Catch
                | Command::Finally
                | Command::End
                | Command::Function
        );
        self.report.push(if alone {
            diagnostic.with_help(format!("`{owner}` stands alone on its line"))
        } else {
            diagnostic.with_help("quote what belongs together: `\"a b\"`")
        });
    }

    /// Warns of those of `names` that were given, and change nothing `place`.
    fn no_effect(&mut self, flags: &Flags, names: &[&str], place: &str) {
        for (name, span) in flags.given(names) {
            let message = format!("`--{name}` has no effect {place}");
            let diagnostic = Diagnostic::warning(codes::NO_EFFECT, message).with_label(span, "");
            self.report.push(diagnostic.with_help("take it away"));
        }
    }

    /// Reports what cannot be the name of a variable.
    fn bad_name(&mut self, name: &Spanned<String>, help: Option<String>) {
        let message = format!("`{}` cannot be the name of a variable", shown(&name.value));
        let diagnostic = Diagnostic::error(codes::BAD_NAME, message).with_label(name.span, "");
        let underscored = name.value.replace(['-', '.'], "_");
        let help = help.unwrap_or_else(|| {
            if is_identifier(&underscored) {
                format!("did you mean `{}`?", shown(&underscored))
            } else {
                "names hold letters, digits and `_`, and start with no digit".to_owned()
            }
        });
        self.report.push(diagnostic.with_help(help));
    }
}

/// Returns whether a shell could have a variable of that name.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Returns the text of the rest of the line.
fn only_text(parts: Vec<Part>) -> Option<Word> {
    parts.into_iter().find_map(|part| if let Part::Text(text) = part { Some(text) } else { None })
}

/// Drops what is no plain word; the grammar gives such parts to other commands only.
fn only_words(parts: Vec<Part>) -> Vec<Word> {
    parts.into_iter().filter_map(|part| if let Part::Word(word) = part { Some(word) } else { None }).collect()
}

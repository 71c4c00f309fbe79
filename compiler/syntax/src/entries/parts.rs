//! The grammar's nodes → owned values, with places in the file.

use pest::iterators::Pair;
use rb_diag::{SourceFile, Span, Spanned};

use super::{Entry, Header, HeaderKind, Part, Statement, What, span_of, starts_with_blank};
use crate::commands::Command;
use crate::grammar::Rule;
use crate::heredoc::Mark;
use crate::{Edition, Heredoc, Word};

/// Where the window lies in the file, and what edition that is.
pub(super) struct Place<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) at: usize,
    pub(super) edition: Edition,
}

impl Place<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let place = pair.as_span();
        span_of(self.file, self.at + place.start(), self.at + place.end())
    }

    fn spanned(&self, pair: &Pair<'_, Rule>) -> Spanned<String> {
        Spanned::new(pair.as_str().to_owned(), self.span(pair))
    }

    /// Makes a word: its text with continued lines joined.
    fn word(&self, pair: Pair<'_, Rule>) -> Word {
        let span = self.span(&pair);
        let text = pair.as_str();
        let start = pair.as_span().start();
        let mut raw = String::with_capacity(text.len());
        let mut done = 0;
        for inner in pair.into_inner().flatten() {
            let between = match inner.as_rule() {
                Rule::join | Rule::quoted_join => "",
                Rule::gap => " ",
                _ => continue,
            };
            let place = inner.as_span();
            raw.push_str(text.get(done..place.start() - start).unwrap_or_default());
            raw.push_str(between);
            done = place.end() - start;
        }
        raw.push_str(text.get(done..).unwrap_or_default());
        Word { raw, span }
    }

    pub(super) fn entry(&self, entry: Pair<'_, Rule>) -> Entry {
        let indented = starts_with_blank(&self.file.text, self.at);
        let Some(inner) = entry.into_inner().next() else { return Entry::Empty };
        match inner.as_rule() {
            Rule::nothing => match inner.into_inner().next() {
                Some(comment) => {
                    let text = comment.as_str();
                    Entry::Comment { text: text.strip_prefix('#').unwrap_or(text).to_owned(), indented }
                }
                None => Entry::Empty,
            },
            Rule::target_header => self.header(HeaderKind::Target, inner, indented),
            Rule::function_header => self.header(HeaderKind::Function, inner, indented),
            _ => match inner.into_inner().next() {
                Some(command) => self.command(command, indented),
                None => Entry::Empty,
            },
        }
    }

    fn header(&self, kind: HeaderKind, pair: Pair<'_, Rule>, indented: bool) -> Entry {
        match pair.into_inner().next() {
            Some(name) => Entry::Header(Header { kind, name: self.spanned(&name), indented }),
            None => Entry::Empty,
        }
    }

    fn command(&self, pair: Pair<'_, Rule>, indented: bool) -> Entry {
        let span = self.span(&pair);
        let statement = |what, heredocs| {
            Entry::Statement(Statement { what, span, indented, broken: false, strings: Vec::new(), heredocs })
        };
        let command = match pair.as_rule() {
            Rule::loose_header => {
                let rest = pair.clone().into_inner().nth(1).map(|rest| self.span(&rest));
                return self.header(HeaderKind::Loose { rest }, pair, indented);
            }
            Rule::junk => return statement(self.junk(pair), Vec::new()),
            Rule::later => {
                let name = pair.clone().into_inner().next();
                let name =
                    name.map(|name| name.as_str().split_ascii_whitespace().collect::<Vec<_>>().join(" "));
                name.and_then(|name| Command::find(&name))
            }
            rule => command(rule),
        };
        let Some(command) = command.filter(|command| command.is_in(self.edition)) else {
            return statement(self.junk(pair), Vec::new());
        };
        let keyword = Span { end: span.start + keyword_length(pair.as_str(), command.name()), ..span };
        let heredocs = if self.edition == Edition::One && matches!(command, Command::Run | Command::Copy) {
            self.heredocs(&pair)
        } else {
            Vec::new()
        };
        let parts = pair.into_inner().filter_map(|part| self.part(part)).collect();
        statement(What::Command { command, keyword, parts }, heredocs)
    }

    /// Reads a line that starts with no command of this edition.
    fn junk(&self, pair: Pair<'_, Rule>) -> What {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let word = inner.next().map(|word| self.spanned(&word));
        let word = word.unwrap_or_else(|| Spanned::new(String::new(), span));
        What::Junk { word, alone: inner.next().is_none() }
    }

    fn part(&self, pair: Pair<'_, Rule>) -> Option<Part> {
        let span = self.span(&pair);
        Some(match pair.as_rule() {
            Rule::word | Rule::flag | Rule::value_flag | Rule::in_word | Rule::probe => {
                Part::Word(self.word(pair))
            }
            Rule::flags_end => Part::FlagsEnd,
            Rule::key | Rule::typed_key => Part::Key(self.word(pair)),
            Rule::equals => Part::Equals,
            Rule::text | Rule::run_text => Part::Text(self.word(pair)),
            Rule::call => Part::Call { words: self.words(pair, Rule::call_word), span },
            Rule::exec => Part::Exec(self.words(pair, Rule::json_string)),
            // Its lines follow later, in the order of the heredocs.
            Rule::heredoc if self.edition == Edition::One => {
                let mark = self.mark(&pair)?;
                let body = Word { raw: String::new(), span: Span { start: span.end, ..span } };
                Part::Heredoc(Heredoc { name: mark.name, body, expand: mark.expand })
            }
            Rule::heredoc => Part::Word(self.word(pair)),
            _ => return None,
        })
    }

    fn words(&self, pair: Pair<'_, Rule>, rule: Rule) -> Vec<Word> {
        pair.into_inner().filter(|inner| inner.as_rule() == rule).map(|word| self.word(word)).collect()
    }

    /// Finds the heredocs of a command, in the order of the text.
    fn heredocs(&self, pair: &Pair<'_, Rule>) -> Vec<Mark> {
        let nodes = pair.clone().into_inner().flatten();
        nodes.filter(|node| node.as_rule() == Rule::heredoc).filter_map(|node| self.mark(&node)).collect()
    }

    fn mark(&self, pair: &Pair<'_, Rule>) -> Option<Mark> {
        let (mut name, mut expand, mut tabs) = (None, true, false);
        for node in pair.clone().into_inner().flatten() {
            match node.as_rule() {
                Rule::heredoc_name => name = Some(self.spanned(&node)),
                Rule::quoted_heredoc_name => expand = false,
                Rule::heredoc_tabs => tabs = true,
                _ => {}
            }
        }
        Some(Mark { name: name?, span: self.span(pair), expand, tabs })
    }
}

/// Returns the command that a rule reads.
fn command(rule: Rule) -> Option<Command> {
    Some(match rule {
        Rule::version => Command::Version,
        Rule::from => Command::From,
        Rule::from_dockerfile => Command::FromDockerfile,
        Rule::from_buildpacks => Command::FromBuildpacks,
        Rule::locally => Command::Locally,
        Rule::run => Command::Run,
        Rule::copy => Command::Copy,
        Rule::save_artifact => Command::SaveArtifact,
        Rule::save_image => Command::SaveImage,
        Rule::expose => Command::Expose,
        Rule::volume => Command::Volume,
        Rule::env => Command::Env,
        Rule::arg => Command::Arg,
        Rule::set_variable => Command::Set,
        Rule::let_variable => Command::Let,
        Rule::label => Command::Label,
        Rule::build => Command::Build,
        Rule::workdir => Command::Workdir,
        Rule::user => Command::User,
        Rule::cmd => Command::Cmd,
        Rule::entrypoint => Command::Entrypoint,
        Rule::stop_signal => Command::StopSignal,
        Rule::healthcheck => Command::Healthcheck,
        Rule::shell => Command::Shell,
        Rule::do_function => Command::Do,
        Rule::function => Command::Function,
        Rule::import => Command::Import,
        Rule::cache => Command::Cache,
        Rule::host => Command::Host,
        Rule::git_clone => Command::GitClone,
        Rule::project => Command::Project,
        Rule::if_begin => Command::If,
        Rule::else_if => Command::ElseIf,
        Rule::else_begin => Command::Else,
        Rule::for_begin => Command::For,
        Rule::wait_begin => Command::Wait,
        Rule::try_begin => Command::Try,
        Rule::catch_begin => Command::Catch,
        Rule::finally_begin => Command::Finally,
        Rule::block_end => Command::End,
        _ => return None,
    })
}

/// Returns the length of the keyword at the start of `text`: as many words in capitals as `name` has, with any blanks
/// between them.
fn keyword_length(text: &str, name: &str) -> u32 {
    let mut rest = text;
    for _ in name.split(' ') {
        rest = rest.trim_start_matches([' ', '\t']).trim_start_matches(|c: char| c.is_ascii_uppercase());
    }
    (text.len() - rest.len()) as u32
}

//! Entries → the file: which statement belongs to which recipe.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, SourceFile, Span, Spanned};

use crate::blocks::{Blocks, RecipeLine};
use crate::commands::{Command, OLD_FUNCTION};
use crate::docs::{self, Comment};
use crate::entries::{Entries, Entry, Header, HeaderKind, Part, Statement, What};
use crate::report::Report;
use crate::statements::{Line, Reader, read_version};
use crate::{Buildfile, Edition, MAX_FILE_BYTES, Parse, Parsed, Stmt, codes};

/// Reads a whole file.
pub(crate) fn parse_file(file: &SourceFile) -> Parse {
    let mut builder = Builder::new(file);
    if file.text.len() > MAX_FILE_BYTES {
        let message = format!("the file is longer than {} MiB", MAX_FILE_BYTES >> 20);
        let start = Span { end: 0, ..file.span() };
        let diagnostic = Diagnostic::error(codes::FILE_TOO_LARGE, message).with_label(start, "");
        builder.report.push(diagnostic.with_help("move generated text into files and `COPY` them"));
        return builder.finish();
    }
    if let Some(at) = file.text.find('\0') {
        let span = Span { start: at as u32, end: at as u32 + 1, ..file.span() };
        let diagnostic = Diagnostic::error(codes::CONTROL_CHARACTER, "there is a NUL character in the text");
        builder.report.push(diagnostic.with_label(span, "").with_help("take it away; is this a text file?"));
    }
    let mut entries = Entries::new(file);
    while let Some(entry) = entries.next(&mut builder.report) {
        builder.edition = entries.edition();
        builder.add(entry);
    }
    builder.close_recipe(None);
    builder.check_version();
    builder.finish()
}

/// Where statements go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Into the base recipe.
    Base,
    /// Into the last target.
    Target,
    /// Into the last function.
    Function,
    /// Nowhere: they are checked only. Recipes whose name is taken.
    Nowhere,
}

/// The file so far.
pub(crate) struct Builder<'a> {
    pub(crate) file: &'a SourceFile,
    pub(crate) report: Report,
    pub(crate) buildfile: Buildfile<Parsed>,
    pub(crate) edition: Edition,
    pub(crate) home: Home,
    /// Headers by name.
    pub(crate) names: BTreeMap<String, Span>,
    /// The function whose first line has yet to come.
    pub(crate) awaiting_function: Option<Spanned<String>>,
    pub(crate) blocks: Blocks,
    /// Comments right above.
    pub(crate) comments: Vec<Comment>,
    /// Where the first header or statement stands.
    pub(crate) first: Option<Span>,
    pub(crate) version_seen: bool,
    pub(crate) indented_reported: bool,
}

impl<'a> Builder<'a> {
    fn new(file: &'a SourceFile) -> Self {
        let buildfile =
            Buildfile { version: None, base: Vec::new(), targets: Vec::new(), functions: Vec::new() };
        Self {
            file,
            report: Report::default(),
            buildfile,
            edition: Edition::One,
            home: Home::Base,
            names: BTreeMap::new(),
            awaiting_function: None,
            blocks: Blocks::default(),
            comments: Vec::new(),
            first: None,
            version_seen: false,
            indented_reported: false,
        }
    }

    fn finish(self) -> Parse {
        Parse { buildfile: self.buildfile, diagnostics: self.report.finish() }
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Comment { text, indented } => {
                self.comments.push(Comment { text, indented });
                return;
            }
            Entry::Empty => {}
            // `key: value` further in is rather a stray line than a header.
            Entry::Header(Header { kind: HeaderKind::Loose { rest: Some(_) }, name, indented: true }) => {
                self.first.get_or_insert(name.span);
                self.unknown(&name, false);
            }
            Entry::Header(header) => {
                self.first.get_or_insert(header.name.span);
                self.header(header);
            }
            Entry::Statement(statement) => {
                self.first.get_or_insert(statement.span);
                self.statement(statement);
            }
        }
        self.comments.clear();
    }

    fn statement(&mut self, statement: Statement) {
        self.check_indentation(&statement);
        let Statement { what, span, indented, broken, strings, heredocs: _ } = statement;
        if !broken {
            for string in strings {
                self.check_swallowed(span, string);
            }
        }
        match what {
            What::Command { command: Command::Version, keyword, parts } => {
                self.version(parts, span, keyword, broken);
            }
            What::Command { command, keyword, parts } => self.command(command, keyword, span, parts, broken),
            What::Junk { word, alone } => {
                if !broken {
                    self.unknown(&word, alone && !indented);
                }
            }
        }
    }

    fn command(&mut self, command: Command, keyword: Span, span: Span, parts: Vec<Part>, broken: bool) {
        let edition = self.edition;
        let read = || Reader { command, keyword, line: span, edition, report: &mut self.report }.read(parts);
        let line = if broken { None } else { read() };
        self.check_place(command, keyword);
        let doc = match &line {
            Some(Line::Statement(kind)) => docs::of_statement(&self.comments, kind),
            _ => None,
        };
        let line = RecipeLine { command, keyword, span, doc, line };
        let whole = self.blocks.add(line, &mut self.report);
        self.push(whole);
    }

    /// Adds a statement to its recipe.
    fn push(&mut self, statement: Option<Stmt<Parsed>>) {
        let body = match self.home {
            Home::Base => Some(&mut self.buildfile.base),
            Home::Target => self.buildfile.targets.last_mut().map(|recipe| &mut recipe.body),
            Home::Function => self.buildfile.functions.last_mut().map(|recipe| &mut recipe.body),
            Home::Nowhere => None,
        };
        if let Some(body) = body {
            body.extend(statement);
        }
    }

    /// Ends the recipe above; `next` is the header that follows.
    pub(crate) fn close_recipe(&mut self, next: Option<Span>) {
        let whole = self.blocks.finish(next, &mut self.report);
        self.push(whole);
        if let Some(name) = self.awaiting_function.take() {
            self.missing_function(&name);
        }
        self.indented_reported = false;
    }

    // ---- Commands that have a place of their own

    /// Returns the word that a function starts with.
    pub(crate) fn function_word(&self) -> &'static str {
        if self.edition < Edition::Earthly08 { OLD_FUNCTION } else { Command::Function.name() }
    }

    fn check_place(&mut self, command: Command, keyword: Span) {
        if command == Command::Function {
            self.check_function(keyword);
        } else if let Some(name) = self.awaiting_function.take() {
            self.missing_function(&name);
        }
        if command == Command::Project && self.home != Home::Base {
            let message = "`PROJECT` stands below a header";
            let diagnostic = Diagnostic::error(codes::MISPLACED_STATEMENT, message).with_label(keyword, "");
            self.report.push(diagnostic.with_help("write it above the first target"));
        }
    }

    fn check_function(&mut self, keyword: Span) {
        let written = self.file.slice(keyword).to_owned();
        if self.awaiting_function.take().is_none() {
            let message = format!("`{written}` is not the first line of a function");
            let help = format!(
                "a function is a header in capitals, as `NAME:`, with `{}` below it",
                self.function_word()
            );
            let diagnostic = Diagnostic::error(codes::MISPLACED_STATEMENT, message).with_label(keyword, "");
            self.report.push(diagnostic.with_help(help));
        } else if written == OLD_FUNCTION && self.edition >= Edition::Earthly08 {
            let message = "`COMMAND` is a word of `VERSION 0.7` and before";
            let diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message).with_label(keyword, "");
            self.report.push(diagnostic.with_help("write `FUNCTION`"));
        }
    }

    fn version(&mut self, parts: Vec<Part>, span: Span, keyword: Span, broken: bool) {
        let message = if self.version_seen {
            "there is a second `VERSION`"
        } else if self.first != Some(span) {
            "`VERSION` is not the first statement"
        } else {
            ""
        };
        if !message.is_empty() {
            let diagnostic = Diagnostic::error(codes::MISPLACED_VERSION, message).with_label(keyword, "");
            self.report.push(diagnostic.with_help("one `VERSION` stands above everything but comments"));
        }
        if !self.version_seen && !broken {
            self.buildfile.version = read_version(parts, span, keyword, &mut self.report);
        }
        self.version_seen = true;
    }

    fn check_version(&mut self) {
        if !self.version_seen {
            let span = self.first.unwrap_or(Span { end: 0, ..self.file.span() });
            let diagnostic = Diagnostic::error(codes::MISSING_VERSION, "the file does not say its version");
            self.report.push(diagnostic.with_label(span, "").with_help("start the file with `VERSION 1`"));
        }
    }
}

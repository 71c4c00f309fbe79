//! Entries → the file: which statement belongs to which target.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, SourceFile, Span, Spanned};

use crate::commands::{self, Block, Command};
use crate::entries::{Entries, Entry, Header, HeaderKind, Part, Statement, What};
use crate::report::{Report, nearest, shown};
use crate::statements::{Reader, is_target_name, read_version};
use crate::{Buildfile, MAX_FILE_BYTES, Parse, Recipe, Stmt, codes};

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
        builder.add(entry);
    }
    builder.close_blocks();
    builder.check_version();
    builder.finish()
}

/// Where statements go.
enum Home {
    /// Into the base recipe.
    Base,
    /// Into the last target.
    Target,
    /// Nowhere: they are checked only. Functions, and targets whose name is taken.
    Nowhere { function: bool },
}

struct Builder<'a> {
    file: &'a SourceFile,
    report: Report,
    buildfile: Buildfile<crate::Parsed>,
    home: Home,
    /// Headers by name.
    names: BTreeMap<String, Span>,
    /// Blocks that are open, outermost first.
    blocks: Vec<Spanned<String>>,
    /// Comments right above.
    comments: Vec<String>,
    /// Where the first header or statement stands.
    first: Option<Span>,
    version_seen: bool,
    statements: usize,
    indented_reported: bool,
}

impl<'a> Builder<'a> {
    fn new(file: &'a SourceFile) -> Self {
        Self {
            file,
            report: Report::default(),
            buildfile: Buildfile { version: None, base: Vec::new(), targets: Vec::new() },
            home: Home::Base,
            names: BTreeMap::new(),
            blocks: Vec::new(),
            comments: Vec::new(),
            first: None,
            version_seen: false,
            statements: 0,
            indented_reported: false,
        }
    }

    fn finish(self) -> Parse {
        Parse { buildfile: self.buildfile, diagnostics: self.report.finish() }
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Comment { text, indented: false } => self.comments.push(text),
            Entry::Empty | Entry::Comment { .. } => self.comments.clear(),
            // `key: value` further in is rather a stray line than a header.
            Entry::Header(Header { kind: HeaderKind::Loose { rest: Some(_) }, name, indented: true }) => {
                self.first.get_or_insert(name.span);
                self.unknown(&name, false);
                self.comments.clear();
            }
            Entry::Header(header) => {
                self.first.get_or_insert(header.name.span);
                self.header(header);
                self.comments.clear();
            }
            Entry::Statement(statement) => {
                self.comments.clear();
                self.first.get_or_insert(statement.span);
                self.statement(statement);
            }
        }
    }

    // ---- Headers

    fn header(&mut self, header: Header) {
        self.close_blocks();
        self.indented_reported = false;
        self.statements = 0;
        let Header { kind, name, indented } = header;
        if let HeaderKind::Loose { rest } = kind {
            self.loose_header(&name, indented, rest);
        }
        if matches!(kind, HeaderKind::Function) {
            let message =
                format!("functions such as `{}` are not part of this version of rb", shown(&name.value));
            let diagnostic = Diagnostic::error(codes::UNSUPPORTED_COMMAND, message).with_label(name.span, "");
            let command = commands::names().find(|command| *command == name.value);
            let help = command.map_or_else(
                || "the name of a target starts with a small letter".to_owned(),
                |command| format!("the command `{command}` has no colon"),
            );
            self.report.push(diagnostic.with_help(help));
            self.home = Home::Nowhere { function: true };
            return;
        }
        self.home = Home::Nowhere { function: false };
        if name.value == "base" {
            let diagnostic = Diagnostic::error(codes::RESERVED_TARGET_NAME, "no target can be called `base`");
            let help = "`+base` is what stands above the first target; choose another name";
            self.report.push(diagnostic.with_label(name.span, "").with_help(help));
            return;
        }
        if let Some(first) = self.names.get(&name.value) {
            let message = format!("there are two targets `{}`", shown(&name.value));
            let diagnostic = Diagnostic::error(codes::DUPLICATE_TARGET, message)
                .with_label(name.span, "the second one")
                .with_label(*first, "the first one");
            self.report.push(diagnostic.with_help("rename one of them"));
            return;
        }
        self.names.insert(name.value.clone(), name.span);
        self.home = Home::Target;
        let doc = doc(&self.comments, &name.value);
        self.buildfile.targets.push(Recipe { name, doc, body: Vec::new() });
    }

    /// Says what is wrong with a header that is not quite one.
    fn loose_header(&mut self, name: &Spanned<String>, indented: bool, rest: Option<Span>) {
        let valid = is_target_name(&name.value);
        let shown_name = shown(&name.value);
        if indented {
            let diagnostic = Diagnostic::error(
                codes::INDENTED,
                format!("the header of target `{shown_name}` is indented"),
            );
            self.report.push(diagnostic.with_label(name.span, "").with_help("start it in the first column"));
        } else if let Some(command) = commands::names().find(|command| *command == name.value) {
            let diagnostic =
                Diagnostic::error(codes::BAD_TARGET_NAME, format!("`{command}` is a command, not a target"));
            self.report.push(
                diagnostic.with_label(name.span, "").with_help(format!("write `{command}` without a colon")),
            );
        } else if !valid {
            let message = format!("`{shown_name}` cannot be the name of a target");
            let diagnostic = Diagnostic::error(codes::BAD_TARGET_NAME, message).with_label(name.span, "");
            let mended = name.value.to_lowercase().replace('_', "-");
            let help = if is_target_name(&mended) {
                format!("did you mean `{}`?", shown(&mended))
            } else {
                "names start with a small letter and hold letters, digits, `.` and `-`".to_owned()
            };
            self.report.push(diagnostic.with_help(help));
        } else if let Some(rest) = rest {
            let message = format!("the header of target `{shown_name}` is not alone on its line");
            let diagnostic = Diagnostic::error(codes::HEADER_NOT_ALONE, message).with_label(rest, "");
            let help = if self.file.slice(rest).starts_with('+') {
                "what a target needs is named below it: `BUILD +other`"
            } else {
                "start what follows on the next line, indented"
            };
            self.report.push(diagnostic.with_help(help));
        } else {
            let message = format!("between `{shown_name}` and the colon there is a blank");
            let diagnostic = Diagnostic::error(codes::BAD_TARGET_NAME, message).with_label(name.span, "");
            self.report.push(diagnostic.with_help(format!("write `{shown_name}:`")));
        }
    }

    // ---- Statements

    fn statement(&mut self, statement: Statement) {
        self.check_indentation(&statement);
        let first_in_recipe = self.statements == 0;
        self.statements += 1;
        let Statement { what, span, indented, broken, strings } = statement;
        if !broken {
            for string in strings {
                self.check_swallowed(span, string);
            }
        }
        match what {
            What::Command { command: Command::Version, keyword, parts } => {
                self.version(parts, span, keyword, broken);
            }
            What::Command { command, keyword, parts } => {
                if broken {
                    return;
                }
                let kind = Reader { command, keyword, report: &mut self.report }.read(parts);
                if let Some(kind) = kind {
                    self.push(Stmt { kind, span });
                }
            }
            What::Later { name, keyword } => {
                // The header of the function has said it already.
                let of_function = matches!(self.home, Home::Nowhere { function: true })
                    && first_in_recipe
                    && matches!(name.as_str(), "FUNCTION" | "COMMAND");
                if !of_function {
                    self.later(name, keyword);
                }
            }
            What::Junk { word, alone } => {
                if !broken {
                    self.unknown(&word, alone && !indented);
                }
            }
        }
    }

    fn push(&mut self, statement: Stmt<crate::Parsed>) {
        match self.home {
            Home::Base => self.buildfile.base.push(statement),
            Home::Target => {
                if let Some(target) = self.buildfile.targets.last_mut() {
                    target.body.push(statement);
                }
            }
            Home::Nowhere { .. } => {}
        }
    }

    /// Below a header statements are indented, above the first one they are not; within blocks anything goes.
    fn check_indentation(&mut self, statement: &Statement) {
        if !self.blocks.is_empty() || matches!(statement.what, What::Junk { .. }) {
            return;
        }
        match (&self.home, statement.indented) {
            (Home::Base, true) if !self.indented_reported => {
                let diagnostic =
                    Diagnostic::error(codes::INDENTED, "the line is indented, but there is no target above");
                let label = Span {
                    end: statement.span.start,
                    start: self.line_start(statement.span.start),
                    ..statement.span
                };
                let help = "start the line in the first column, or write a header `name:` above it";
                self.report.push(diagnostic.with_label(label, "").with_help(help));
                self.indented_reported = true;
            }
            (Home::Target | Home::Nowhere { .. }, false) => {
                let keyword = match &statement.what {
                    What::Command { keyword, .. } | What::Later { keyword, .. } => *keyword,
                    What::Junk { word, .. } => word.span,
                };
                let diagnostic = Diagnostic::error(
                    codes::NOT_INDENTED,
                    "a statement below a target's header is not indented",
                );
                let help = "indent it; what all targets share stands above the first one";
                self.report.push(diagnostic.with_label(keyword, "").with_help(help));
            }
            (Home::Base | Home::Target | Home::Nowhere { .. }, _) => {}
        }
    }

    fn line_start(&self, offset: u32) -> u32 {
        let before = self.file.text.get(..offset as usize).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline as u32 + 1)
    }

    /// Warns where a string of several lines rather seems to have lost its end: where it holds the header of a target
    /// with a statement below, or where its last line starts as a statement next to this one would.
    fn check_swallowed(&mut self, statement: Span, string: Span) {
        let indentation = self.file.slice(Span {
            start: self.line_start(statement.start),
            end: statement.start,
            ..statement
        });
        let mut start = string.start;
        let mut header = None;
        for line in self.file.slice(string).split_inclusive('\n') {
            let content = line.trim();
            let at = start + (line.len() - line.trim_start().len()) as u32;
            let span = Span { start: at, end: at + content.len() as u32, ..string };
            let keyword = content.split_ascii_whitespace().next().unwrap_or_default();
            let is_statement = start > string.start && commands::names().any(|name| name == keyword);
            let beside =
                is_statement && span.end == string.end && line.strip_prefix(indentation) == Some(content);
            let swallowed =
                if beside { Some(span) } else { header.take().filter(|_| is_statement && at > start) };
            if let Some(span) = swallowed {
                let message = format!("a string runs over `{}`", shown(self.file.slice(span)));
                let opened = Span { end: string.start + 1, ..string };
                let diagnostic = Diagnostic::warning(codes::SWALLOWED_LINE, message)
                    .with_label(span, "this is inside a string")
                    .with_label(opened, "which opens here");
                self.report
                    .push(diagnostic.with_help("is a quote missing on the line where the string opens?"));
                return;
            }
            let is_header =
                start > string.start && at == start && content.strip_suffix(':').is_some_and(is_target_name);
            header = is_header.then_some(span);
            start += line.len() as u32;
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

    // ---- What this version does not read

    fn later(&mut self, name: String, keyword: Span) {
        match commands::block(&name) {
            Block::Closes => {
                if self.blocks.pop().is_none() {
                    let diagnostic = Diagnostic::error(codes::STRAY_BLOCK_WORD, "`END` closes nothing");
                    self.report.push(diagnostic.with_label(keyword, "").with_help("take it away"));
                }
                return;
            }
            Block::Divides(openers) => {
                if !self.blocks.last().is_some_and(|block| openers.contains(&block.value.as_str())) {
                    let message = format!("`{name}` stands outside a block of `{}`", openers.join("` or `"));
                    let diagnostic =
                        Diagnostic::error(codes::STRAY_BLOCK_WORD, message).with_label(keyword, "");
                    self.report.push(diagnostic);
                }
                return;
            }
            Block::Opens => self.blocks.push(Spanned::new(name.clone(), keyword)),
            Block::No => {}
        }
        let message = format!("`{name}` is not part of this version of rb");
        self.report.push(Diagnostic::error(codes::UNSUPPORTED_COMMAND, message).with_label(keyword, ""));
    }

    fn close_blocks(&mut self) {
        for block in std::mem::take(&mut self.blocks) {
            let message = format!("`{}` has no `END`", block.value);
            let diagnostic =
                Diagnostic::error(codes::UNCLOSED_BLOCK, message).with_label(block.span, "opened here");
            self.report.push(diagnostic.with_help("write `END` behind the last statement of the block"));
        }
    }

    /// Reports a line that starts with no command. `lone`: the word stands alone, in the first column.
    fn unknown(&mut self, word: &Spanned<String>, lone: bool) {
        let text = word.value.as_str();
        let capitals = text.to_ascii_uppercase();
        // The line below need not say again that there is no version.
        self.version_seen |= self.first == Some(word.span) && capitals == "VERSION";
        let begins = |part: &str| commands::names().find(|name| name.split(' ').next() == Some(part));
        let mut message = format!("`{}` is no command", shown(text));
        let help = if let Some(character) = text.chars().find(|character| character.is_whitespace()) {
            let code = u32::from(character);
            Some(format!("there is a blank of another kind in it, U+{code:04X}; write a plain one"))
        } else if text == "SAVE" {
            message = "behind `SAVE` follows `ARTIFACT` or `IMAGE`".to_owned();
            Some("write `SAVE ARTIFACT path` or `SAVE IMAGE name`".to_owned())
        } else if let Some(name) = begins(text) {
            message = format!("`{text}` alone is no command");
            Some(format!("did you mean `{name}`?"))
        } else if lone && is_target_name(text) {
            let command =
                begins(&capitals).map_or(String::new(), |_| format!(", for the command `{capitals}`"));
            self.lost_colon(word);
            Some(format!("for the header of a target write `{}:`{command}", shown(text)))
        } else if begins(&capitals).is_some() {
            Some(format!("commands are written in capitals: `{capitals}`"))
        } else if !text.starts_with(char::is_alphanumeric) {
            message = format!("the line starts with `{}`, which is no command", shown(text));
            Some("if it belongs to the line above, end that one with `\\`".to_owned())
        } else if let Some(name) = commands::names().find(|name| glued(text, name)) {
            Some(format!("behind `{name}` a blank is missing"))
        } else if let Some(name) = nearest(text, commands::names()) {
            Some(format!("did you mean `{name}`?"))
        } else {
            let program = text.starts_with(|first: char| first.is_ascii_lowercase());
            program.then(|| format!("to run a program write `RUN {} …`", shown(text)))
        };
        let mut diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message).with_label(word.span, "");
        diagnostic.help = help;
        self.report.push(diagnostic);
    }

    /// Goes on as if a word that stands alone in the first column were a header.
    fn lost_colon(&mut self, name: &Spanned<String>) {
        if name.value != "base" && !self.names.contains_key(&name.value) {
            self.close_blocks();
            self.home = Home::Target;
            self.names.insert(name.value.clone(), name.span);
            self.buildfile.targets.push(Recipe { name: name.clone(), doc: None, body: Vec::new() });
        }
    }
}

/// Returns whether `text` is the command `name` and something that is no letter right behind it.
fn glued(text: &str, name: &str) -> bool {
    text.strip_prefix(name).is_some_and(|rest| rest.starts_with(|first: char| !first.is_alphanumeric()))
}

/// Returns the comments above a header as its documentation, if they start with its name.
fn doc(comments: &[String], name: &str) -> Option<String> {
    let first = comments.first()?;
    if first.split_whitespace().next() != Some(name) {
        return None;
    }
    let lines = comments.iter().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    Some(lines.collect::<Vec<_>>().join("\n"))
}

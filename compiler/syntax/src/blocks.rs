//! Lines → blocks: IF, FOR, WAIT, TRY and WITH DOCKER with the statements between them and their END.
//!
//! In: the lines of a recipe in order. Out: statements that are whole. What is open stands on a stack, so a hostile
//! file costs no recursion; blocks nested deeper than the limit are counted, checked and left out.
//! **Invariant:** every block that was opened is given back once, by its END or where its recipe ends; one with a
//! line that could not be read is left out, as such a line itself is.

use rb_diag::{Diagnostic, Span};

use crate::commands::Command;
use crate::report::Report;
use crate::statements::{ForHead, Line};
use crate::{Branch, Condition, For, If, Later, Parsed, Stmt, StmtKind, Try, Word, codes};

/// Blocks may be nested this deep.
const MAX_DEPTH: usize = 64;

/// One line of a recipe.
pub(crate) struct RecipeLine {
    pub(crate) command: Command,
    pub(crate) keyword: Span,
    pub(crate) span: Span,
    /// The comment above.
    pub(crate) doc: Option<String>,
    /// What it says; `None` where that could not be read.
    pub(crate) line: Option<Line>,
}

/// The blocks that are open, outermost first.
#[derive(Default)]
pub(crate) struct Blocks {
    open: Vec<Open>,
    /// How many more are open inside the innermost one that counts.
    excess: usize,
}

/// A block without its END.
struct Open {
    /// The command that opened it.
    command: Command,
    keyword: Span,
    span: Span,
    kind: Kind,
    /// Statements of the part that is being read.
    body: Vec<Stmt<Parsed>>,
    /// A line of it could not be read, or stands where it cannot.
    spoilt: bool,
}

enum Kind {
    If {
        branches: Vec<Branch<Parsed>>,
        /// Of the part that is being read; `None` below ELSE.
        condition: Option<Condition>,
        otherwise: Option<Span>,
    },
    For(Option<ForHead>),
    Wait,
    Try {
        /// The parts before the one that is being read: its body, perhaps what CATCH says.
        parts: Vec<Vec<Stmt<Parsed>>>,
        catch: Option<Span>,
        finally: Option<Span>,
    },
    Docker {
        text: Option<Word>,
    },
}

impl Open {
    /// Makes the statement.
    fn close(self) -> Option<Stmt<Parsed>> {
        let Self { command, keyword, span, kind, body, spoilt } = self;
        if spoilt {
            return None;
        }
        let kind = match kind {
            Kind::If { mut branches, condition, otherwise } => {
                if let Some(condition) = condition {
                    branches.push(Branch { condition, body });
                    StmtKind::If(If { branches, otherwise: None })
                } else {
                    StmtKind::If(If { branches, otherwise: otherwise.map(|_| body) })
                }
            }
            Kind::For(head) => {
                let ForHead { variable, separators, flags, items } = head?;
                StmtKind::For(For { variable, separators, flags, items, body })
            }
            Kind::Wait => StmtKind::Wait(body),
            Kind::Try { mut parts, catch, finally } => {
                parts.push(body);
                let mut parts = parts.into_iter();
                let body = parts.next().unwrap_or_default();
                let catch = catch.and_then(|_| parts.next());
                StmtKind::Try(Try { body, catch, finally: finally.and_then(|_| parts.next()) })
            }
            Kind::Docker { text } => {
                StmtKind::Later(Later { name: command.name().to_owned(), keyword, text, blocks: vec![body] })
            }
        };
        Some(Stmt { kind, span, doc: None })
    }
}

impl Blocks {
    /// Returns whether no block is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds a line; returns the statement that is thereby whole and belongs to the recipe itself.
    pub(crate) fn add(&mut self, line: RecipeLine, report: &mut Report) -> Option<Stmt<Parsed>> {
        match line.command {
            Command::If | Command::For | Command::Wait | Command::Try | Command::Later("WITH DOCKER") => {
                self.begin(line, report);
                None
            }
            Command::ElseIf | Command::Else | Command::Catch | Command::Finally => {
                self.divide(line, report);
                None
            }
            Command::End => self.end(line.keyword, report),
            _ => {
                let kind = match line.line? {
                    Line::Statement(kind) => kind,
                    Line::Later { name, text } => {
                        let (name, keyword) = (name.to_owned(), line.keyword);
                        StmtKind::Later(Later { name, keyword, text, blocks: Vec::new() })
                    }
                    // These belong to the commands above; FUNCTION is no statement.
                    Line::If(_)
                    | Line::ElseIf(_)
                    | Line::Else
                    | Line::For(_)
                    | Line::Wait
                    | Line::Try
                    | Line::Catch
                    | Line::Finally
                    | Line::End
                    | Line::Function => return None,
                };
                self.put(Stmt { kind, span: line.span, doc: line.doc })
            }
        }
    }

    /// Closes what is still open, as if its END stood there; `next` is the header that follows.
    pub(crate) fn finish(&mut self, next: Option<Span>, report: &mut Report) -> Option<Stmt<Parsed>> {
        self.excess = 0;
        let mut whole = None;
        for block in &self.open {
            let name = block.command.name();
            let mut diagnostic = Diagnostic::error(codes::UNCLOSED_BLOCK, format!("`{name}` has no `END`"))
                .with_label(block.keyword, "opened here");
            if let Some(next) = next {
                diagnostic = diagnostic.with_label(next, "above this header");
            }
            report.push(diagnostic.with_help("write `END` behind the last statement of the block"));
        }
        while let Some(block) = self.open.pop() {
            whole = block.close().and_then(|statement| self.put(statement));
        }
        whole
    }

    /// Puts a statement into the innermost block, or gives it back where none is open.
    fn put(&mut self, statement: Stmt<Parsed>) -> Option<Stmt<Parsed>> {
        match self.open.last_mut() {
            None => Some(statement),
            Some(block) => {
                if self.excess == 0 {
                    block.body.push(statement);
                }
                None
            }
        }
    }

    fn begin(&mut self, line: RecipeLine, report: &mut Report) {
        if self.open.len() >= MAX_DEPTH {
            self.excess += 1;
            if self.excess == 1 {
                let message = format!("blocks are nested more than {MAX_DEPTH} deep");
                let diagnostic =
                    Diagnostic::error(codes::NESTED_TOO_DEEPLY, message).with_label(line.keyword, "");
                report.push(diagnostic.with_help("move what is inside into a target or a function"));
            }
            return;
        }
        let RecipeLine { command, keyword, span, doc: _, line } = line;
        let spoilt = line.is_none();
        let kind = match (command, line) {
            (Command::If, line) => {
                let condition = if let Some(Line::If(condition)) = line { Some(condition) } else { None };
                Kind::If { branches: Vec::new(), condition, otherwise: None }
            }
            (Command::For, line) => {
                Kind::For(if let Some(Line::For(head)) = line { Some(head) } else { None })
            }
            (Command::Try, _) => Kind::Try { parts: Vec::new(), catch: None, finally: None },
            (Command::Later(_), line) => {
                Kind::Docker { text: if let Some(Line::Later { text, .. }) = line { text } else { None } }
            }
            _ => Kind::Wait,
        };
        self.open.push(Open { command, keyword, span, kind, body: Vec::new(), spoilt });
    }

    fn end(&mut self, keyword: Span, report: &mut Report) -> Option<Stmt<Parsed>> {
        if self.excess > 0 {
            self.excess -= 1;
            return None;
        }
        let Some(block) = self.open.pop() else {
            let diagnostic = Diagnostic::error(codes::STRAY_BLOCK_WORD, "`END` closes nothing");
            report.push(diagnostic.with_label(keyword, "").with_help("take it away"));
            return None;
        };
        block.close().and_then(|statement| self.put(statement))
    }

    /// Starts the next part of a block: ELSE IF, ELSE, CATCH, FINALLY.
    fn divide(&mut self, line: RecipeLine, report: &mut Report) {
        if self.excess > 0 {
            return;
        }
        self.close_forgotten(&line, report);
        let name = line.command.name();
        let Some(block) = self.open.last_mut().filter(|block| block.is_divided_by(line.command)) else {
            let is_of_try = matches!(line.command, Command::Catch | Command::Finally);
            let opener = if is_of_try { "TRY" } else { "IF" };
            let message = format!("`{name}` stands outside a block of `{opener}`");
            let help = format!("it belongs between `{opener}` and its `END`");
            let diagnostic = Diagnostic::error(codes::STRAY_BLOCK_WORD, message).with_label(line.keyword, "");
            report.push(diagnostic.with_help(help));
            return;
        };
        if let Some((first, message, help)) = block.too_late(line.command) {
            block.spoilt = true;
            report.push(
                Diagnostic::error(codes::STRAY_BLOCK_WORD, message)
                    .with_label(line.keyword, "")
                    .with_label(first, "it follows this one")
                    .with_help(help),
            );
            return;
        }
        block.spoilt |= line.line.is_none();
        let body = std::mem::take(&mut block.body);
        match &mut block.kind {
            Kind::If { branches, condition, otherwise } => {
                branches.extend(condition.take().map(|condition| Branch { condition, body }));
                if let Some(Line::ElseIf(next)) = line.line {
                    *condition = Some(next);
                } else if line.command == Command::Else {
                    *otherwise = Some(line.keyword);
                }
            }
            Kind::Try { parts, catch, finally } => {
                parts.push(body);
                let mark = if line.command == Command::Catch { catch } else { finally };
                *mark = Some(line.keyword);
            }
            Kind::For(_) | Kind::Wait | Kind::Docker { .. } => {}
        }
    }

    /// Where a part's word stands in a block that has none, but one around it has: the inner ones lack their END.
    fn close_forgotten(&mut self, line: &RecipeLine, report: &mut Report) {
        let divides =
            |block: &Open| block.is_divided_by(line.command) && block.too_late(line.command).is_none();
        let Some(at) = self.open.iter().rposition(divides) else { return };
        if self.open.last().is_some_and(|block| block.is_divided_by(line.command)) {
            return;
        }
        while self.open.len() > at + 1 {
            let Some(block) = self.open.pop() else { return };
            let name = block.command.name();
            let diagnostic = Diagnostic::error(codes::UNCLOSED_BLOCK, format!("`{name}` has no `END`"))
                .with_label(block.keyword, "opened here")
                .with_label(line.keyword, "this belongs to a block around it");
            report.push(diagnostic.with_help("write `END` behind the last statement of the block"));
            if let Some(statement) = block.close() {
                self.put(statement);
            }
        }
    }
}

impl Open {
    fn is_divided_by(&self, command: Command) -> bool {
        match self.kind {
            Kind::If { .. } => matches!(command, Command::Else | Command::ElseIf),
            Kind::Try { .. } => matches!(command, Command::Catch | Command::Finally),
            Kind::For(_) | Kind::Wait | Kind::Docker { .. } => false,
        }
    }

    /// Returns what keeps `command` from starting a part here, and how to say that.
    fn too_late(&self, command: Command) -> Option<(Span, &'static str, &'static str)> {
        match (&self.kind, command) {
            (Kind::If { otherwise: Some(first), .. }, Command::Else) => {
                Some((*first, "there is a second `ELSE`", "an `IF` has one; is an `END` missing?"))
            }
            (Kind::If { otherwise: Some(first), .. }, _) => {
                Some((*first, "`ELSE IF` stands behind `ELSE`", "`ELSE` is the last part of an `IF`"))
            }
            (Kind::Try { finally: Some(first), .. }, Command::Catch) => {
                Some((*first, "`CATCH` stands behind `FINALLY`", "`FINALLY` is the last part of a `TRY`"))
            }
            (Kind::Try { finally: Some(first), .. }, _) => {
                Some((*first, "there is a second `FINALLY`", "a `TRY` has one; is an `END` missing?"))
            }
            (Kind::Try { catch: Some(first), .. }, Command::Catch) => {
                Some((*first, "there is a second `CATCH`", "a `TRY` has one; is an `END` missing?"))
            }
            _ => None,
        }
    }
}

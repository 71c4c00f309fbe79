//! Reading shell text: lists of commands, words, parameters.
//!
//! In: a text. Out: a [`List`], or `None` where the text has anything a decision is not made on: redirections,
//! pipes, `$(…)`, arithmetic, comments, keywords, and whatever is not well formed.
//! **Invariant:** what is read is read the same way by every shell, so that a part which is never reached may be
//! left out of a decision. Words keep which of their parts were quoted.
//! Source: POSIX.1-2024, Shell Command Language, "Shell Grammar".

/// How deep groups and parameters may nest; deeper text is left to a real shell.
const DEEPEST: usize = 16;

/// Commands one after another; the last one's status is the list's.
#[derive(Debug)]
pub(super) struct List(pub(super) Vec<AndOr>);

/// Pipelines joined by `&&` and `||`, from left to right.
#[derive(Debug)]
pub(super) struct AndOr {
    pub(super) first: Pipeline,
    pub(super) rest: Vec<(Connector, Pipeline)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    And,
    Or,
}

/// One command, perhaps behind a `!`. There are no pipes here.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) negated: bool,
    pub(super) command: Command,
}

#[derive(Debug)]
pub(super) enum Command {
    Simple(Vec<Word>),
    /// `( … )` or `{ …; }`: the same here, where no command changes anything.
    Group(List),
}

#[derive(Debug)]
pub(super) struct Word(pub(super) Vec<Piece>);

#[derive(Debug)]
pub(super) enum Piece {
    /// As written.
    Bare(String),
    /// Escaped or in quotes, perhaps empty.
    Quoted(String),
    Parameter {
        name: String,
        modifier: Option<Modifier>,
        quoted: bool,
    },
}

/// What stands behind the name in `${name…}`.
#[derive(Debug)]
pub(super) enum Modifier {
    /// `${#x}`
    Length,
    /// `:-` and `-`
    Default { or_empty: bool, word: Word },
    /// `:+` and `+`
    Alternative { or_empty: bool, word: Word },
    /// `#` and `##`
    CutStart { longest: bool, pattern: Word },
    /// `%` and `%%`
    CutEnd { longest: bool, pattern: Word },
}

impl List {
    /// Returns the one command of a list that has nothing else, not even a `!`.
    pub(super) fn single(&self) -> Option<&Command> {
        match self.0.as_slice() {
            [AndOr { first: Pipeline { negated: false, command }, rest }] if rest.is_empty() => Some(command),
            _ => None,
        }
    }
}

impl Word {
    /// Returns the text of a word without quotes and parameters.
    pub(super) fn bare(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Bare(text)] => Some(text),
            _ => None,
        }
    }
}

/// Reads a whole script.
pub(super) fn script(text: &str) -> Option<List> {
    let text = joined(text)?;
    let mut reader = Reader::new(&text);
    let list = reader.list()?;
    reader.rest.is_empty().then_some(list)
}

/// Reads the words behind a command's name, up to the end of the text.
pub(super) fn words(text: &str) -> Option<Vec<Word>> {
    let text = joined(text)?;
    let mut reader = Reader::new(&text);
    let words = reader.simple()?;
    reader.rest.is_empty().then_some(words)
}

/// Returns whether `character` is text to every shell: some use control characters as marks of their own.
pub(super) fn is_text(character: char) -> bool {
    !character.is_control() || matches!(character, '\n' | '\t')
}

/// Takes out the lines' joins, a backslash before a newline outside of single quotes.
fn joined(text: &str) -> Option<String> {
    if !text.chars().all(is_text) {
        return None;
    }
    let mut joined = String::with_capacity(text.len());
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (quote, next) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(next),
            (None | Some('"'), '\\') => {
                let escaped = rest.next()?;
                if escaped != '\n' {
                    joined.extend([next, escaped]);
                    continue;
                }
                // A join within a word or an operator: shells have had their bugs there.
                let blank = |next: Option<char>| next.is_none_or(|next| matches!(next, ' ' | '\t' | '\n'));
                if !blank(joined.chars().next_back()) && !blank(rest.clone().next()) {
                    return None;
                }
                continue;
            }
            _ => {}
        }
        joined.push(next);
    }
    Some(joined)
}

/// Where a word is read: what ends it and what its characters mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between blanks.
    Command,
    /// Behind the operator of an unquoted `${…}`.
    Braces,
    /// Behind the operator of a `"${…}"`.
    QuotedBraces,
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text, depth: 0 }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn lines(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n']);
    }

    /// Reads `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let read = if self.depth > DEEPEST { None } else { inner(self) };
        self.depth -= 1;
        read
    }

    /// Returns whether a list ends here: at the text's end or at what closes a group.
    fn at_end(&self) -> bool {
        match self.peek() {
            None | Some(')') => true,
            Some('}') => self.rest[1..].chars().next().is_none_or(|next| " \t\n;&|)".contains(next)),
            Some(_) => false,
        }
    }

    fn list(&mut self) -> Option<List> {
        let mut commands = Vec::new();
        self.lines();
        loop {
            commands.push(self.and_or()?);
            let separated = (!self.rest.starts_with(";;") && self.eat(";")) || self.eat("\n");
            self.lines();
            if !separated || self.at_end() {
                return Some(List(commands));
            }
        }
    }

    fn and_or(&mut self) -> Option<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            let connector = if self.eat("&&") {
                Connector::And
            } else if self.eat("||") {
                Connector::Or
            } else {
                return Some(AndOr { first, rest });
            };
            self.lines();
            rest.push((connector, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Option<Pipeline> {
        let negated = self.rest.starts_with(['!']) && self.rest[1..].starts_with([' ', '\t']);
        if negated {
            self.next();
            self.blanks();
        }
        let command = self.command()?;
        self.blanks();
        Some(Pipeline { negated, command })
    }

    fn command(&mut self) -> Option<Command> {
        let close = match self.peek()? {
            // Arithmetic to some.
            '(' if self.rest.starts_with("((") => return None,
            '(' => ")",
            '{' if self.rest[1..].starts_with([' ', '\t', '\n']) => "}",
            _ => {
                let words = self.simple()?;
                let keyword = words.first()?.bare().is_some_and(is_keyword);
                return (!keyword).then_some(Command::Simple(words));
            }
        };
        self.next();
        let list = self.deeper(Self::list)?;
        if !self.eat(close) {
            return None;
        }
        // Only an operator may follow.
        self.blanks();
        let over = self.peek().is_none_or(|next| "\n;&|)}".contains(next));
        over.then_some(Command::Group(list))
    }

    /// Reads words up to an operator, a newline or the end.
    fn simple(&mut self) -> Option<Vec<Word>> {
        let mut words = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                None | Some('\n' | ';' | '&' | '|' | ')') => return Some(words),
                Some('#') => return None,
                Some(_) => words.push(self.word(Place::Command)?),
            }
        }
    }

    fn word(&mut self, place: Place) -> Option<Word> {
        let mut pieces = Vec::new();
        loop {
            match (self.peek(), place) {
                (None | Some(' ' | '\t' | '\n' | ';' | '&' | '|' | ')'), Place::Command) => {
                    return Some(Word(pieces));
                }
                (Some('}'), Place::Braces | Place::QuotedBraces) => return Some(Word(pieces)),
                (None | Some('\n' | '(' | ')' | '{' | '`' | '<' | '>'), _) => return None,
                // Quotes in quoted braces: no two shells agree.
                (Some('\'' | '"' | '\\'), Place::QuotedBraces) => return None,
                (Some('\''), _) => {
                    let (quoted, rest) = self.rest[1..].split_once('\'')?;
                    pieces.push(Piece::Quoted(quoted.to_owned()));
                    self.rest = rest;
                }
                (Some('"'), _) => self.double_quoted(&mut pieces)?,
                (Some('\\'), _) => {
                    self.next();
                    pieces.push(Piece::Quoted(self.next()?.to_string()));
                }
                (Some('$'), _) => pieces.push(self.parameter(place == Place::QuotedBraces)?),
                (Some(next), _) => {
                    self.next();
                    match pieces.last_mut() {
                        Some(Piece::Bare(text)) => text.push(next),
                        _ => pieces.push(Piece::Bare(next.to_string())),
                    }
                }
            }
        }
    }

    fn double_quoted(&mut self, pieces: &mut Vec<Piece>) -> Option<()> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek()? {
                '"' => {
                    self.next();
                    pieces.push(Piece::Quoted(text));
                    return Some(());
                }
                '`' => return None,
                '$' => {
                    pieces.push(Piece::Quoted(std::mem::take(&mut text)));
                    pieces.push(self.parameter(true)?);
                }
                '\\' => {
                    self.next();
                    let next = self.next()?;
                    if !"$`\"\\".contains(next) {
                        text.push('\\');
                    }
                    text.push(next);
                }
                next => {
                    self.next();
                    text.push(next);
                }
            }
        }
    }

    /// Reads `$x` or `${…}`; a `$` before anything else is a case for a real shell.
    fn parameter(&mut self, quoted: bool) -> Option<Piece> {
        self.next();
        if !self.eat("{") {
            return Some(Piece::Parameter { name: self.name()?, modifier: None, quoted });
        }
        let modifier = if self.eat("#") { Some(Modifier::Length) } else { None };
        let name = self.name()?;
        let modifier = match modifier {
            None if self.peek() != Some('}') => Some(self.deeper(|this| this.modifier(quoted))?),
            modifier => modifier,
        };
        self.eat("}").then_some(Piece::Parameter { name, modifier, quoted })
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|next: char| !(next.is_ascii_alphanumeric() || next == '_'));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        name.starts_with(|first: char| !first.is_ascii_digit()).then(|| name.to_owned())
    }

    fn modifier(&mut self, quoted: bool) -> Option<Modifier> {
        let place = if quoted { Place::QuotedBraces } else { Place::Braces };
        let or_empty = self.eat(":");
        let operator = self.next()?;
        let longest = matches!(operator, '#' | '%') && self.eat(&operator.to_string());
        let word = self.word(place)?;
        match operator {
            '-' => Some(Modifier::Default { or_empty, word }),
            '+' => Some(Modifier::Alternative { or_empty, word }),
            '#' if !or_empty => Some(Modifier::CutStart { longest, pattern: word }),
            '%' if !or_empty => Some(Modifier::CutEnd { longest, pattern: word }),
            _ => None,
        }
    }
}

/// Returns whether a shell reads more than a command into this word.
fn is_keyword(word: &str) -> bool {
    [
        "!",
        "{",
        "}",
        "[[",
        "]]",
        "case",
        "coproc",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "fi",
        "for",
        "function",
        "if",
        "in",
        "namespace",
        "select",
        "then",
        "time",
        "until",
        "while",
    ]
    .contains(&word)
}

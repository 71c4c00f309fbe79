//! From words to fields: parameters, field splitting, removal of quotes.
//!
//! In: words and the variables a step would export. Out: the arguments a command would get, or `None`.
//! **Invariant:** no field depends on files: whatever could be a pattern of names, a `~` or a brace expansion is
//! `None`. No field depends on the shell: what a shell sets or changes itself is `None`.
//! Source: POSIX.1-2024, Shell Command Language, "Word Expansions".

use rb_expression::glob;

use super::parse::{Modifier, Piece, Word, is_text};

/// Variables that some shell sets at its start, computes when asked, or does not take from its environment.
const SHELLS_OWN: &[&str] = &[
    "_",
    "ATTY",
    "CDPATH",
    "COLUMNS",
    "COPROC",
    "DIRSTACK",
    "ENV",
    "EUID",
    "FCEDIT",
    "FIGNORE",
    "FUNCNAME",
    "FUNCNEST",
    "GLOBIGNORE",
    "GROUPS",
    "HOSTNAME",
    "HOSTTYPE",
    "IFS",
    "IGNOREEOF",
    "INPUTRC",
    "INSIDE_EMACS",
    "LINENO",
    "LINES",
    "MACHTYPE",
    "MAIL",
    "MAILCHECK",
    "MAILPATH",
    "MAPFILE",
    "OLDPWD",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "OSTYPE",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PS0",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PWD",
    "RANDOM",
    "REPLY",
    "SECONDS",
    "SHELL",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "TERM",
    "TIMEFORMAT",
    "TMOUT",
    "UID",
    "auto_resume",
    "histchars",
];

/// Families of such variables.
const SHELLS_OWN_PREFIXES: &[&str] = &["BASH", "COMP_", "COMPREPLY", "EPOCH", "HIST", "PROMPT_", "READLINE_"];

/// Variables a shell leaves alone where they are given, and may invent where they are not.
const KEPT_WHEN_GIVEN: &[&str] = &["HOME", "PATH"];

/// Variables that change how bash reads everything else.
const CHANGE_THE_SHELL: &[&str] = &["SHELLOPTS", "BASHOPTS", "BASH_COMPAT"];

/// The variables a step would export.
pub(super) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Variables<'a> {
    /// Returns `None` where an exported variable changes the shell itself.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Option<Self> {
        CHANGE_THE_SHELL.iter().all(|name| lookup(name).is_none()).then_some(Self { lookup })
    }

    /// Returns the fields that `words` become.
    pub(super) fn fields(&self, words: &[Word]) -> Option<Vec<String>> {
        let mut fields = Fields::default();
        for word in words {
            self.word(word, Split::Never, &mut fields)?;
            fields.end();
        }
        Some(fields.done)
    }

    /// Returns the value of a variable: `None` if it is not certain, `Some(None)` if it is not set.
    fn value(&self, name: &str) -> Option<Option<String>> {
        let family = |prefix: &&str| name.starts_with(prefix);
        if SHELLS_OWN.contains(&name) || SHELLS_OWN_PREFIXES.iter().any(family) {
            return None;
        }
        let value = (self.lookup)(name);
        let certain = match &value {
            Some(value) => value.chars().all(is_text),
            None => !KEPT_WHEN_GIVEN.contains(&name),
        };
        certain.then_some(value)
    }

    fn word(&self, word: &Word, split: Split, fields: &mut Fields) -> Option<()> {
        let mut before = None;
        for piece in &word.0 {
            match piece {
                Piece::Bare(text) => {
                    if text.contains(['*', '?', '[', '{', '}']) || !tildes_are_text(text, before, split) {
                        return None;
                    }
                    match split {
                        Split::Never => fields.push(text),
                        Split::Blanks => fields.split(text),
                    }
                    before = text.chars().next_back();
                }
                Piece::Quoted(text) => {
                    fields.push(text);
                    before = Some('"');
                }
                Piece::Parameter { name, modifier, quoted } => {
                    self.parameter(name, modifier.as_ref(), *quoted, fields)?;
                    before = Some('"');
                }
            }
        }
        Some(())
    }

    fn parameter(
        &self,
        name: &str,
        modifier: Option<&Modifier>,
        quoted: bool,
        fields: &mut Fields,
    ) -> Option<()> {
        let value = self.value(name)?;
        let counts = |or_empty: bool| value.as_ref().is_some_and(|value| !(or_empty && value.is_empty()));
        let text = match modifier {
            Some(Modifier::Default { or_empty, word }) if !counts(*or_empty) => {
                return self.inner(word, quoted, fields);
            }
            Some(Modifier::Alternative { or_empty, word }) if counts(*or_empty) => {
                return self.inner(word, quoted, fields);
            }
            Some(Modifier::Alternative { .. }) => String::new(),
            Some(Modifier::Length) => {
                let value = value.unwrap_or_default();
                value.is_ascii().then(|| value.len().to_string())?
            }
            Some(Modifier::CutStart { longest, pattern }) => {
                let (value, pattern) = self.cut(value, pattern)?;
                let mut ends = 0..=value.len();
                let fits = glob::matcher(&pattern);
                let matches = |end: &usize| fits(&value[..*end]);
                let end = if *longest { ends.rfind(matches) } else { ends.find(matches) };
                value[end.unwrap_or(0)..].to_owned()
            }
            Some(Modifier::CutEnd { longest, pattern }) => {
                let (value, pattern) = self.cut(value, pattern)?;
                let mut starts = 0..=value.len();
                let fits = glob::matcher(&pattern);
                let matches = |start: &usize| fits(&value[*start..]);
                let start = if *longest { starts.find(matches) } else { starts.rfind(matches) };
                value[..start.unwrap_or(value.len())].to_owned()
            }
            None | Some(Modifier::Default { .. }) => value.unwrap_or_default(),
        };
        match quoted {
            true => fields.push(&text),
            // Could be a pattern, and some shells escape in the results of expansions.
            false if text.contains(['*', '?', '[', '\\']) => return None,
            false => fields.split(&text),
        }
        Some(())
    }

    /// Expands the word of `${x:-word}`.
    fn inner(&self, word: &Word, quoted: bool, fields: &mut Fields) -> Option<()> {
        if !quoted {
            return self.word(word, Split::Blanks, fields);
        }
        for piece in &word.0 {
            match piece {
                Piece::Bare(text) | Piece::Quoted(text) => fields.push(text),
                Piece::Parameter { name, modifier, .. } => {
                    self.parameter(name, modifier.as_ref(), true, fields)?;
                }
            }
        }
        Some(())
    }

    /// Returns what to cut from, and the pattern in the form [`glob`] takes. Both are ASCII: elsewhere the locale
    /// says what a character is.
    fn cut(&self, value: Option<String>, pattern: &Word) -> Option<(String, String)> {
        let mut text = String::new();
        for piece in &pattern.0 {
            match piece {
                Piece::Bare(part) if part.contains(['[', '~', '{', '}']) => return None,
                Piece::Bare(part) => {
                    for next in part.chars() {
                        match next {
                            '*' | '?' => text.push(next),
                            _ => text.extend(['\\', next]),
                        }
                    }
                }
                Piece::Quoted(part) => text.push_str(&literal(part)),
                Piece::Parameter { name, modifier, quoted } => {
                    let mut fields = Fields::default();
                    self.parameter(name, modifier.as_ref(), true, &mut fields)?;
                    fields.end();
                    let part = fields.done.concat();
                    if !quoted && part.contains(['*', '?', '[', '\\']) {
                        return None;
                    }
                    text.push_str(&literal(&part));
                }
            }
        }
        let value = value.unwrap_or_default();
        (value.is_ascii() && text.is_ascii()).then_some((value, text))
    }
}

/// Escapes a text for [`glob`].
fn literal(text: &str) -> String {
    text.chars().flat_map(|next| ['\\', next]).collect()
}

/// Returns whether no `~` in an unquoted text stands for somebody's home. `before` is what the text follows.
fn tildes_are_text(text: &str, before: Option<char>, split: Split) -> bool {
    text.match_indices('~').all(|(at, _)| {
        let before = text[..at].chars().next_back().or(before);
        split == Split::Never && before.is_some_and(|before| before.is_ascii_alphanumeric())
    })
}

/// Whether blanks in an unquoted text end a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    Never,
    Blanks,
}

/// Fields, and the one being made.
#[derive(Debug, Default)]
struct Fields {
    done: Vec<String>,
    open: Option<String>,
}

impl Fields {
    fn push(&mut self, text: &str) {
        self.open.get_or_insert_default().push_str(text);
    }

    fn split(&mut self, text: &str) {
        for next in text.chars() {
            match next {
                ' ' | '\t' | '\n' => self.end(),
                _ => self.open.get_or_insert_default().push(next),
            }
        }
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }
}

//! How each shell asks and hears.
//!
//! Scripts call `rb __complete SHELL …`: zsh and fish with the words up to the cursor, bash with the line up to the cursor
//! and the word as bash sees it, since bash takes words apart at each of `COMP_WORDBREAKS` (`=` and `:` among them) and
//! replaces the last piece alone. The first line of the answer is `words`, `files` or `folders`, the latter two with what
//! stands before the path behind a tab; the others are a word each, for zsh and fish with its description behind a tab.

use clap::ValueEnum;

use super::{Answer, Candidate};

/// Shells that a script is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash, 4.4 or newer
    Bash,
    /// The Z shell
    Zsh,
    /// The friendly interactive shell
    Fish,
}

/// What a shell asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The words behind the program's name; the last one is being typed.
    pub(super) words: Vec<String>,
    /// So much of the last word stays as it is.
    kept: String,
    /// The quote that the last word stands in.
    quote: Option<char>,
}

impl Shell {
    /// Returns the shell of this name, if we serve it.
    pub(crate) fn of(shell: clap_complete::Shell) -> Option<Self> {
        match shell {
            clap_complete::Shell::Bash => Some(Self::Bash),
            clap_complete::Shell::Zsh => Some(Self::Zsh),
            clap_complete::Shell::Fish => Some(Self::Fish),
            _ => None,
        }
    }

    /// Returns the script that a user's shell reads.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("scripts/rb.bash"),
            Self::Zsh => include_str!("scripts/rb.zsh"),
            Self::Fish => include_str!("scripts/rb.fish"),
        }
    }

    /// Tells whether no space follows a word that ends in `+`. Of the others fish knows it by itself.
    pub(super) fn goes_on_behind_plus(self) -> bool {
        self != Self::Fish
    }

    /// Reads what stands behind `rb __complete SHELL`.
    pub(super) fn asked(self, rest: &[String]) -> Option<Asked> {
        match self {
            Self::Zsh | Self::Fish => {
                let words = rest.get(1..).filter(|words| !words.is_empty())?.to_vec();
                Some(Asked { words, ..Asked::default() })
            }
            Self::Bash => {
                let [line, piece] = rest else { return None };
                let Line { mut words, quote } = split(line);
                let last = words.last()?;
                // In quotes bash says the piece as it is.
                let piece = if quote.is_some() {
                    piece.clone()
                } else {
                    split(piece).words.pop().unwrap_or_default()
                };
                let kept = last.strip_suffix(piece.as_str()).unwrap_or_default().to_owned();
                words.remove(0);
                (!words.is_empty()).then_some(Asked { words, kept, quote })
            }
        }
    }

    /// Writes the answer.
    pub(super) fn told(self, answer: Answer, asked: &Asked) -> String {
        let rest =
            |before: String| before.strip_prefix(&asked.kept).map(ToOwned::to_owned).unwrap_or_default();
        match answer {
            Answer::Files(before) => format!("files\t{}\n", rest(before)),
            Answer::Folders(before) => format!("folders\t{}\n", rest(before)),
            Answer::Words(found) => {
                let lines = found.into_iter().filter_map(|found| self.line(found, asked));
                std::iter::once("words\n".to_owned()).chain(lines).collect()
            }
        }
    }

    fn line(self, Candidate { word, help }: Candidate, asked: &Asked) -> Option<String> {
        // Names of files and images may hold anything; a line is a line.
        if word.contains(char::is_control) {
            return None;
        }
        let help: String = help.chars().filter(|letter| !letter.is_control()).collect();
        match self {
            Self::Zsh | Self::Fish => Some(format!("{word}\t{help}\n")),
            Self::Bash => {
                let rest = word.strip_prefix(&asked.kept)?;
                Some(format!("{}\n", escaped(rest, asked.quote)?))
            }
        }
    }
}

/// Writes a word as bash reads it, in the quote that is open; `None` where that cannot be.
fn escaped(word: &str, quote: Option<char>) -> Option<String> {
    let special = |letter: char| match quote {
        None => !(letter.is_alphanumeric() || "+-_./=:,@%~^#".contains(letter)),
        Some('"') => "$`\\\"".contains(letter),
        Some(_) => false,
    };
    // Nothing keeps a `!` in double quotes from meaning an earlier command, and nothing a `'` from ending single ones.
    let impossible = quote.is_some_and(|quote| word.contains(if quote == '"' { '!' } else { quote }));
    let letters = word.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter]));
    (!impossible).then(|| letters.collect())
}

/// A line up to the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    /// Words of its last command, quotes taken off; the last one may be empty.
    words: Vec<String>,
    /// The quote that the last word stands in.
    quote: Option<char>,
}

/// Takes a line of bash apart. Nothing is expanded.
fn split(line: &str) -> Line {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (None | Some('"'), '\\') => {
                begun = true;
                word.extend(letters.next());
            }
            (None, ' ' | '\t' | '\n') => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, ';' | '|' | '&') => {
                words.clear();
                word.clear();
                begun = false;
            }
            (_, letter) => {
                begun = true;
                word.push(letter);
            }
        }
    }
    words.push(word);
    // Variables that are set for the command alone.
    let is_set = |word: &String| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| {
            !name.is_empty() && name.chars().all(|letter| letter == '_' || letter.is_alphanumeric())
        })
    };
    let first = words.iter().take_while(|word| is_set(word)).count();
    Line { words: words.split_off(first.min(words.len() - 1)), quote }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str, piece: &str) -> Option<(Vec<String>, String)> {
        let asked = Shell::Bash.asked(&[line.to_owned(), piece.to_owned()])?;
        Some((asked.words, asked.kept))
    }

    #[test]
    fn bash_replaces_the_piece_behind_the_last_break() {
        let case = |line: &str, piece: &str| asked(line, piece).map(|(words, kept)| (words.join("|"), kept));
        let some = |words: &str, kept: &str| Some((words.to_owned(), kept.to_owned()));
        assert_eq!(case("rb +im", "+im"), some("+im", ""));
        assert_eq!(case("rb ", ""), some("", ""));
        assert_eq!(case("rb +t --MODE=", ""), some("+t|--MODE=", "--MODE="));
        assert_eq!(case("rb +t --MODE=de", "de"), some("+t|--MODE=de", "--MODE="));
        // Without `=` among the breaks the whole word is replaced.
        assert_eq!(case("rb +t --MODE=de", "--MODE=de"), some("+t|--MODE=de", ""));
        assert_eq!(case("rb image tag app:1.", "1."), some("image|tag|app:1.", "app:"));
        assert_eq!(case("X=1 rb ./a\\ b+t", "./a\\ b+t"), some("./a b+t", ""));
        assert_eq!(case("cd x && rb \"./a b", "./a b"), some("./a b", ""));
        assert_eq!(case("rb", "rb"), None);
        assert_eq!(case("", ""), None);
    }

    #[test]
    fn words_are_told_as_the_shell_takes_them() {
        let words = || Answer::Words(vec![Candidate::new("--M=a b", "is\tthis"), Candidate::new("x\ny", "")]);
        let bash = Asked { kept: "--M=".to_owned(), ..Asked::default() };
        assert_eq!(Shell::Bash.told(words(), &bash), "words\na\\ b\n");
        let quoted = Asked { quote: Some('"'), ..bash };
        assert_eq!(Shell::Bash.told(words(), &quoted), "words\na b\n");
        // What bash would run or replace is no more than a name.
        let name = "$(a) {b,c} `d` !'";
        assert_eq!(escaped(name, None).as_deref(), Some("\\$\\(a\\)\\ \\{b,c\\}\\ \\`d\\`\\ \\!\\'"));
        assert_eq!(escaped("$(a) \\\"", Some('"')).as_deref(), Some("\\$(a) \\\\\\\""));
        assert_eq!(
            (escaped("$(a)", Some('\'')).as_deref(), escaped("a'b", Some('\''))),
            (Some("$(a)"), None)
        );
        assert_eq!(escaped("a!b", Some('"')), None);
        assert_eq!(Shell::Fish.told(words(), &Asked::default()), "words\n--M=a b\tisthis\n");
        let files = |kept: &str| {
            let asked = Asked { kept: kept.to_owned(), ..Asked::default() };
            Shell::Bash.told(Answer::Files("--ca=".to_owned()), &asked)
        };
        assert_eq!((files("--ca=").as_str(), files("").as_str()), ("files\t\n", "files\t--ca=\n"));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_taken_apart(line in ".{0,40}|[ a'\"\\\\;&|=]{0,20}", piece in ".{0,8}") {
            for shell in Shell::value_variants() {
                shell.asked(&[line.clone(), piece.clone()]);
            }
            proptest::prop_assert!(!split(&line).words.is_empty());
        }
    }
}

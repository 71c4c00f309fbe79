//! Words that name a target, with what stands behind them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::is_option;
use crate::habits;

/// A target with its arguments, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetCall {
    /// `[DIR]+target`
    pub(crate) word: String,
    /// `--NAME=value`; of two the later counts.
    pub(crate) args: BTreeMap<String, String>,
}

/// What cannot be read as a target with arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error("`{word}` is not valid UTF-8")]
    NotUtf8 { word: String },
    #[error("build argument `--{name}` has no value")]
    NoValue { name: String },
    #[error("`--{name}` is no name of a build argument")]
    BadName { name: String },
    #[error("option `{word}` stands behind the target")]
    OptionBehind { word: String },
    #[error("unknown option `{option}` of `rb {command}`")]
    UnknownOption { option: String, command: &'static str, help: Option<String> },
    #[error("`{word}` stands behind the target `{target}`")]
    StrayWord { word: String, target: String },
    #[error("`{word}` names no artifact")]
    NoArtifact { word: String },
    #[error("rb {command}: {message}")]
    OfBuild { command: &'static str, message: String },
    #[error("`{target}{path}` is a pattern, and --artifact takes names")]
    ArtifactPattern { target: String, path: String },
}

impl ArgsError {
    /// Returns what to type instead.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NotUtf8 { .. } => None,
            Self::NoValue { name } if is_option(name) => {
                Some(format!("options of rb stand before the target: `rb --{name} …`"))
            }
            Self::NoValue { name } => Some(match habits::of_builders(&format!("--{name}")) {
                Some(habit) => format!("write `--{name}=value`; as an option, {}", habit.message),
                None => format!("write `--{name}=value`"),
            }),
            Self::BadName { .. } => {
                Some("names are letters, digits and `_`, and start with no digit".to_owned())
            }
            Self::UnknownOption { help, .. } => help.clone(),
            Self::OptionBehind { word } if word == "--" => Some(
                "leave it out: all that stands behind a target is its arguments, `--NAME=value`".to_owned(),
            ),
            Self::OptionBehind { word } if word == "-" => Some(
                "standard output takes archives: `rb -o - [DIR]+TARGET` writes the target's files there, as a tar file"
                    .to_owned(),
            ),
            Self::OptionBehind { word } => Some(match habits::of_builders(word) {
                Some(habit) => habit.help.unwrap_or(habit.message),
                None => format!(
                    "options of rb stand before the target: `rb {word} …`; build arguments are written `--NAME=value`"
                ),
            }),
            Self::StrayWord { word, .. } if word.contains('+') => {
                Some(format!("one target at a time here: let a target `BUILD` both, or name `{word}` alone"))
            }
            Self::NoArtifact { .. } => Some(
                "write `rb --artifact [DIR]+TARGET/PATH… [DEST]`, with a path as SAVE ARTIFACT gives it"
                    .to_owned(),
            ),
            Self::OfBuild { command, .. } => Some(format!("`rb {command} --help` lists its options")),
            Self::ArtifactPattern { target, .. } => Some(format!("name each, or all of them: `{target}/*`")),
            Self::StrayWord { .. } => {
                Some("build arguments are written `--NAME=value`, targets `[DIR]+NAME`".to_owned())
            }
        }
    }
}

impl TargetCall {
    /// Tells whether a word names a target.
    pub(crate) fn is_target(word: &OsStr) -> bool {
        word.as_encoded_bytes().contains(&b'+')
    }

    /// Reads `[DIR]+target` and the arguments behind it: `--NAME=value` or `--NAME value`, and nothing else.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, ArgsError> {
        Self::read(texts(words)?, None)
    }

    /// Reads any number of targets; arguments belong to the target before them.
    pub(crate) fn parse_all(words: &[OsString]) -> Result<Vec<Self>, ArgsError> {
        let texts = texts(words)?;
        let mut calls = Vec::new();
        let mut rest = texts.as_slice();
        while let Some((first, behind)) = rest.split_first() {
            // A word behind a bare `--NAME` is its value, whatever it looks like.
            let mut end = 0;
            while let Some(word) = behind.get(end).filter(|word| !Self::begins(word)) {
                end += if is_option_name(word) { 2 } else { 1 };
            }
            let end = end.min(behind.len());
            let own = std::iter::once(first).chain(behind.iter().take(end)).cloned().collect();
            calls.push(Self::read(own, None)?);
            rest = behind.get(end..).unwrap_or_default();
        }
        Ok(calls)
    }

    fn begins(word: &str) -> bool {
        !word.starts_with('-') && Self::is_target(OsStr::new(word))
    }

    /// Returns a title for targets that are built together.
    pub(crate) fn title(calls: &[Self]) -> String {
        const SHOWN: usize = 3;
        let words: Vec<&str> = calls.iter().take(SHOWN).map(|call| call.word.as_str()).collect();
        match calls.len().saturating_sub(SHOWN) {
            0 => words.join(" "),
            more => format!("{} and {more} more", words.join(" ")),
        }
    }

    /// Tells whether the target's help is asked for: `rb +target --help`.
    pub(crate) fn asks_for_help(words: &[OsString]) -> bool {
        let value_of = |before: &OsString| {
            let before = before.as_encoded_bytes();
            before.starts_with(b"--") && !before.contains(&b'=')
        };
        let pairs = words.iter().zip(words.iter().skip(1));
        pairs.filter(|(before, _)| !value_of(before)).any(|(_, word)| word == "--help" || word == "-h")
    }

    /// Reads the words; one that is no argument goes to `place`, if it is free.
    pub(super) fn read(
        words: Vec<String>,
        mut place: Option<&mut Option<String>>,
    ) -> Result<Self, ArgsError> {
        let mut rest = words.into_iter();
        let word = rest.next().unwrap_or_default();
        let mut args = BTreeMap::new();
        while let Some(next) = rest.next() {
            let Some(body) = next.strip_prefix("--").filter(|body| !body.is_empty()) else {
                if !next.starts_with('-')
                    && let Some(place) = place.take()
                {
                    *place = Some(next);
                    continue;
                }
                return Err(if next.starts_with('-') {
                    ArgsError::OptionBehind { word: next }
                } else {
                    ArgsError::StrayWord { word: next, target: word }
                });
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => match rest.next().filter(|value| !value.starts_with("--")) {
                    Some(value) if is_name(body) => (body.to_owned(), value),
                    _ => return Err(ArgsError::NoValue { name: body.to_owned() }),
                },
            };
            if !is_name(&name) {
                return Err(ArgsError::BadName { name });
            }
            args.insert(name, value);
        }
        Ok(Self { word, args })
    }

    /// Reads what stands behind `rb run` where it is a target: `--NAME=value`… right behind the target are its
    /// arguments, `--` or the first other word begins the command.
    pub(crate) fn parse_run(words: &[OsString]) -> Result<(Self, Vec<String>), ArgsError> {
        let texts = texts(words)?;
        let mine = texts.iter().skip(1).take_while(|word| word.starts_with("--") && *word != "--").count();
        let command = texts.get(1 + mine..).unwrap_or_default();
        let command = command.strip_prefix(&["--".to_owned()]).unwrap_or(command).to_vec();
        let own = texts.get(..=mine).unwrap_or_default();
        if let Some(word) = own.iter().skip(1).find(|word| !word.contains('=')) {
            return Err(ArgsError::NoValue { name: word.trim_start_matches('-').to_owned() });
        }
        let own: Vec<OsString> = own.iter().map(OsString::from).collect();
        Ok((Self::parse(&own)?, command))
    }
}

/// Checks that words are UTF-8.
pub(crate) fn texts(words: &[OsString]) -> Result<Vec<String>, ArgsError> {
    let text = |word: &OsString| {
        word.to_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| ArgsError::NotUtf8 { word: word.to_string_lossy().into_owned() })
    };
    words.iter().map(text).collect()
}

/// Tells whether a word is `--NAME` alone, so that the next one is its value.
pub(super) fn is_option_name(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|body| !body.contains('=') && is_name(body))
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(words: &[&str]) -> Result<Vec<String>, ArgsError> {
        let calls = TargetCall::parse_all(&words.iter().map(OsString::from).collect::<Vec<_>>())?;
        let shown = |TargetCall { word, args }: TargetCall| {
            args.iter().fold(word, |shown, (name, value)| format!("{shown} {name}={value}"))
        };
        Ok(calls.into_iter().map(shown).collect())
    }

    #[test]
    fn arguments_belong_to_the_target_before_them() {
        let found = all(&["+a", "--X=1", "./b+c", "+a", "--X", "+1", "--Y=2", "./*+d"]);
        assert_eq!(found.expect("parses"), ["+a X=1", "./b+c", "+a X=+1 Y=2", "./*+d"]);
        let stray = |word: &str, target: &str| {
            Err(ArgsError::StrayWord { word: word.to_owned(), target: target.to_owned() })
        };
        assert_eq!(all(&["+a", "b", "+c"]), stray("b", "+a"));
        assert_eq!(all(&["+a", "+b", "-k"]), Err(ArgsError::OptionBehind { word: "-k".to_owned() }));
        assert_eq!(all(&["+a", "--X", "--Y=1"]), Err(ArgsError::NoValue { name: "X".to_owned() }));
        let calls =
            TargetCall::parse_all(&["+a", "+b", "+c", "+d", "+e"].map(OsString::from)).expect("parses");
        assert_eq!(TargetCall::title(&calls), "+a +b +c and 2 more");
        assert_eq!(TargetCall::title(&calls[..1]), "+a");
    }

    proptest! {
        #[test]
        fn what_was_put_together_is_taken_apart(
            targets in prop::collection::vec(
                ("[a-z./*]{0,5}\\+[a-z]{1,4}", prop::collection::btree_map("[A-Z]{1,3}", "[a-z+=.]{0,4}", 0..3)),
                1..5,
            ),
        ) {
            let words = targets.iter().flat_map(|(word, args)| {
                let args = args.iter().map(|(name, value)| format!("--{name}={value}"));
                std::iter::once(word.clone()).chain(args)
            });
            let words: Vec<OsString> = words.map(OsString::from).collect();
            let calls = TargetCall::parse_all(&words).expect("parses");
            let found: Vec<_> = calls.into_iter().map(|TargetCall { word, args }| (word, args)).collect();
            prop_assert_eq!(found, targets);
        }

        #[test]
        fn no_words_make_it_panic(words in prop::collection::vec("[-+=a-zA-Z. ]{0,6}", 0..8)) {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            drop(TargetCall::parse_all(&words));
        }
    }
}

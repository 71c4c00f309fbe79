//! `rb help`: texts of topics, and the list of them.
//!
//! A topic's text stands in `topics/` in the words and at the width that it is shown in, or is made of the table that it is
//! about. Man pages ([`man`]) and the reference are made of the same. Statements are looked up in the description of the
//! language ([`language`]), codes of errors in the tables of those who find them ([`mod@codes`]).

mod codes;
mod language;
mod man;
mod tables;

use crate::args::kaniko;
use crate::environment::VARIABLES;
use crate::settings::keys;

pub(crate) use codes::{code, near_code};
pub(crate) use language::{first_words, near as near_statement, statement};
pub(crate) use man::pages;
pub(crate) use tables::{codes, is_option, wrapped};

/// Something that concerns more than one command.
pub(crate) struct Topic {
    /// Its name, in small letters.
    pub(crate) name: &'static str,
    /// What it is about, in a line.
    pub(crate) about: &'static str,
    text: Text,
}

enum Text {
    /// As it is shown.
    Written(&'static str),
    /// Made of a table.
    Made(fn() -> String),
}

impl Topic {
    /// Returns its text, of at most 80 columns.
    pub(crate) fn text(&self) -> String {
        match self.text {
            Text::Written(text) => text.to_owned(),
            Text::Made(make) => make(),
        }
    }
}

/// Every topic, in the order shown.
pub(crate) const TOPICS: &[Topic] = &[
    Topic {
        name: "targets",
        about: "How targets are named and found",
        text: Text::Written(include_str!("topics/targets.txt")),
    },
    Topic { name: "language", about: "The statements of a Buildfile", text: Text::Made(language::overview) },
    Topic {
        name: "arguments",
        about: "Values for the ARGs of a target, and who says them",
        text: Text::Written(include_str!("topics/arguments.txt")),
    },
    Topic {
        name: "outputs",
        about: "What a build leaves behind, and where",
        text: Text::Written(include_str!("topics/outputs.txt")),
    },
    Topic {
        name: "caching",
        about: "When a step runs again, and where results are kept",
        text: Text::Written(include_str!("topics/caching.txt")),
    },
    Topic {
        name: "limits",
        about: "How many steps run at once, and what they may use",
        text: Text::Written(include_str!("topics/limits.txt")),
    },
    Topic {
        name: "secrets",
        about: "Passwords and tokens for steps",
        text: Text::Written(include_str!("topics/secrets.txt")),
    },
    Topic {
        name: "registries",
        about: "Names of images, logins, mirrors, proxies",
        text: Text::Written(include_str!("topics/registries.txt")),
    },
    Topic {
        name: "engines",
        about: "Builds on BuildKit daemons: names, addresses, certificates",
        text: Text::Written(include_str!("topics/engines.txt")),
    },
    Topic {
        name: "frontend",
        about: "Buildfiles for anybody's Docker, and other languages here",
        text: Text::Written(include_str!("topics/frontend.txt")),
    },
    Topic { name: "kaniko", about: "What becomes of kaniko's flags", text: Text::Made(kaniko::help) },
    Topic {
        name: "config",
        about: "config.toml: where it lies, and its keys",
        text: Text::Made(tables::config),
    },
    Topic { name: "environment", about: "Variables that rb reads", text: Text::Made(tables::environment) },
    Topic {
        name: "exit-codes",
        about: "What the exit code of rb says",
        text: Text::Made(tables::exit_codes),
    },
];

/// Returns the topic of a name.
pub(crate) fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// Returns what a variable of the environment or a key of `config.toml` means.
pub(crate) fn entry(word: &str) -> Option<String> {
    let variable = VARIABLES.iter().find(|variable| variable.name == word || variable.twin == Some(word));
    let key = || keys::KEYS.iter().find(|key| key.path() == word);
    match variable {
        Some(variable) => {
            let names =
                variable.twin.map_or(variable.name.to_owned(), |twin| format!("{}, {twin}", variable.name));
            Some(format!("{names}: {}\n", variable.meaning))
        }
        None => key().map(|key| format!("{word}: {}\n", tables::meaning(key))),
    }
}

/// Returns a line for each topic.
pub(crate) fn list() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let lines = TOPICS.iter().map(|topic| format!("  {:width$}  {}", topic.name, topic.about));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command_names;

    #[test]
    fn topics_are_short_and_fit_a_terminal() {
        for topic in TOPICS {
            let text = topic.text();
            let wide = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{}", topic.name);
            assert!(text.ends_with('\n') && !text.contains('\t'), "{}", topic.name);
            let made = matches!(topic.text, Text::Made(_));
            assert!(made || text.lines().count() <= 40, "{} is long", topic.name);
            assert!(!topic.about.ends_with('.') && topic.about.len() <= 60, "{}", topic.name);
        }
    }

    #[test]
    fn what_texts_refer_to_is_there() {
        let commands = command_names();
        for topic in TOPICS {
            let text = topic.text();
            for (_, rest) in text.match_indices("`rb ").map(|(at, _)| text[at..].split_at(4)) {
                let words: Vec<&str> =
                    rest.split('`').next().unwrap_or_default().split_whitespace().collect();
                match words.as_slice() {
                    ["help", word, ..] => {
                        let known = super::topic(word).is_some()
                            || commands.iter().any(|name| name == word)
                            || ["NAME", "RUN"].contains(word);
                        assert!(known, "{}: {word}", topic.name);
                    }
                    [word, ..] if word.starts_with(['+', '-', '.']) => {}
                    [word, ..] => assert!(commands.iter().any(|name| name == word), "{}: {word}", topic.name),
                    [] => {}
                }
            }
        }
    }
}

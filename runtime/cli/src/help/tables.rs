//! Topics that are made of the tables they are about.

use rb_diag::ErrorKind;

use crate::environment::{VARIABLES, Variable};
use crate::settings::keys::{self, Key};
use crate::signals::Interrupt;

/// Columns of a topic.
const WIDTH: usize = 80;

/// Returns a term and what it means in a column of its own, wrapped.
pub(crate) fn wrapped(term: &str, column: usize, meaning: &str) -> String {
    let mut out = String::new();
    let mut line = format!("  {term:column$}");
    for word in meaning.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && !line.trim().is_empty() {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(column + 2);
        }
        line.push(' ');
        line.push_str(word);
    }
    out + line.trim_end() + "\n"
}

/// Tells whether a variable stands for an option.
pub(crate) fn is_option(variable: &Variable) -> bool {
    variable.meaning.starts_with("as --") || variable.twin.is_some_and(|twin| twin.starts_with("EARTHLY_"))
}

/// Text of `rb help environment`.
pub(super) fn environment() -> String {
    let (options, others): (Vec<&Variable>, Vec<&Variable>) =
        VARIABLES.iter().partition(|variable| is_option(variable));
    let lines = |variables: &[&Variable]| {
        let term = |variable: &Variable| {
            let earthly = variable.twin.is_some_and(|twin| twin.starts_with("EARTHLY_"));
            let mark = |holds: bool, mark| if holds { mark } else { ' ' };
            format!("{}{} {}", mark(earthly, 'e'), mark(variable.in_file, 'f'), variable.name)
        };
        let width = variables.iter().map(|variable| term(variable).len()).max().unwrap_or_default();
        variables
            .iter()
            .map(|variable| wrapped(&term(variable), width + 1, variable.meaning))
            .collect::<String>()
    };
    format!(
        "What is typed counts before a variable, and a variable before config.toml,\n\
         except for proxies. An empty variable is as none.\n\n\
         Options. `e`: also by Earthly's name, EARTHLY_… for RB_…; `f`: may also stand in\n\
         .env, a file beside you with a NAME=value per line.\n\n{}\n\
         Others. Names of proxies are read in small letters too.\n\n{}",
        lines(&options),
        lines(&others)
    )
}

/// Text of `rb help config`.
pub(super) fn config() -> String {
    let mut keys = String::new();
    let mut table = "";
    let width = keys::KEYS.iter().map(|key| key.name.len()).max().unwrap_or_default();
    for key in keys::KEYS {
        if key.table != table {
            table = key.table;
            keys.push_str(&format!("\n[{table}]\n"));
        }
        keys.push_str(&wrapped(key.name, width + 1, &meaning(key)));
    }
    format!(
        "Settings for every rb lie in $RB_CONFIG, else in rb/config.toml in\n\
         $XDG_CONFIG_HOME or ~/.config. What it does not say, /etc/rb/config.toml may,\n\
         key by key. Paths are relative to the file, `~` is your home. Nothing in a\n\
         project changes them. `rb config` shows what is in force, and who says so.\n\n\
         {keys}\n\
         A file that sets every key:\n\n{}",
        keys::example()
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") })
            .collect::<String>()
    )
}

/// Says what a key means, takes and defaults to, and what else says it.
pub(crate) fn meaning(key: &Key) -> String {
    let also: Vec<&str> = key.option.into_iter().chain(key.variable).collect();
    let also = if also.is_empty() { String::new() } else { format!("; also {}", also.join(", ")) };
    format!("{} ({}; default: {}{also})", key.meaning, key.kind, key.default)
}

/// Exit codes with what they say.
pub(crate) fn codes() -> Vec<(u8, &'static str)> {
    let of = |kind: ErrorKind| kind.exit_code();
    vec![
        (0, "done"),
        (of(ErrorKind::Build), "a command of the build failed"),
        (of(ErrorKind::Input), "what was typed or written is wrong"),
        (of(ErrorKind::Environment), "network, disk, memory or kernel"),
        (of(ErrorKind::Internal), "a bug of rb"),
        (Interrupt::Int.exit_code(), "interrupted by Ctrl-C; other signals give 128 and their number"),
    ]
}

/// Text of `rb help exit-codes`.
pub(super) fn exit_codes() -> String {
    let lines: String =
        codes().iter().map(|(code, meaning)| wrapped(&format!("{code:>3}"), 4, meaning)).collect();
    format!(
        "{lines}\n\
         `rb run` ends with the exit code of the program it runs, or 128 and the number\n\
         of the signal that ended it. `rb cache verify` ends with 1 if something was\n\
         damaged. Of several findings the gravest decides.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings_stand_in_a_column() {
        let text = wrapped("name", 6, &"word ".repeat(20));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert!(lines[0].starts_with("  name   word") && lines[1].starts_with("         word"), "{text}");
    }

    #[test]
    fn every_variable_and_key_is_told() {
        let text = environment();
        assert!(VARIABLES.iter().all(|variable| text.contains(variable.name)));
        let text = config();
        assert!(
            keys::KEYS.iter().all(|key| text.contains(key.meaning.split(';').next().unwrap_or_default())
                || text.contains(key.name))
        );
    }
}
